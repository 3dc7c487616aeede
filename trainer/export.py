"""Turns a trained network into a model file's bytes, and proves that they answer alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from batch.contract.contract import metadata
from batch.contract.golden import Golden
from batch.contract.model import ModelSpec
from batch.errors import InputError, UsageError
from batch.fusion import Fusion
from trainer.data import Dataset, Part, label_shares, narrow
from trainer.datasets.drawn import golden_faces
from trainer.evaluate import Evaluation, certain, evaluate, figures
from trainer.evaluation.calibrate import error_before, fit_temperature, halved_error, unsure_below
from trainer.evaluation.folds import calibrated
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.evaluation.speed import Speed, measure
from trainer.exporting.deploy import Deployed
from trainer.exporting.graph import with_metadata
from trainer.exporting.parity import onnx_answers
from trainer.exporting.storage import Weights, build
from trainer.train import predict_logits
from trainer.training.checkpoint import Trained


@dataclass(frozen=True)
class ExportOptions:
    """What an exported model is called and how it answers.

    ``labels`` maps each label of the model to the training label it stands for (empty:
    all, as they are); ``sure_accuracy`` is the share of sure answers that shall be right,
    None for half as many wrong ones as there are among all answers; ``created`` is a date,
    YYYY-MM-DD; ``mirrored`` is explained in ``deploy``; ``fusion`` joins a whole-photo model
    to a face model.
    """

    name: str
    created: str
    version: str = "1"
    labels: Mapping[str, str] | None = None
    sure_accuracy: float | None = None
    weights: Weights = Weights.AUTO
    mirrored: bool = False
    fusion: Fusion | None = None


@dataclass(frozen=True)
class Exported:
    """A model file's bytes and what was found out on the way.

    ``validation`` is the number of samples that temperature and threshold were chosen on,
    ``sure_accuracy`` the share of right answers that the threshold was chosen for;
    ``uncalibrated`` is the test part's calibration error without the temperature;
    ``difference`` is the largest between PyTorch and ONNX Runtime with float weights.
    """

    graph: bytes
    spec: ModelSpec
    test: Evaluation
    validation: int
    temperature: float
    sure_accuracy: float
    uncalibrated: float
    weights: Weights
    mirrored: bool
    difference: float
    speed: Speed

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.graph).hexdigest()


@dataclass(frozen=True)
class Judged:
    """Answers, float32 [n, K], and the true labels' indices, int64 [n]."""

    answers: Probabilities
    targets: Targets


def export(trained: Trained, data: Dataset, options: ExportOptions) -> Exported:
    """Build a model file from a training and the data it was trained on.

    The temperature, the threshold of being unsure and the storage of weights are chosen
    on the validation part; the test part is used once, for the figures in the metadata. A
    training that learnt from all samples is judged by its cross-validation in both places.
    The same arguments give the same bytes.

    Raises:
        InputError: ``data`` are not the ones of the training, or a part is empty.
        UsageError: the training has no such label.
        NotAlike: the exported file answers differently from the network.
    """
    if not data.is_of(trained.fingerprint):
        raise InputError(
            f"{data.name} is not the data of this training",
            "give the same --data, --beside and --review",
        )
    labels, columns = _choose(options.labels, trained.labels)
    if trained.held_out is not None and len(columns) < len(trained.labels):
        raise UsageError(
            "a cross-validated training can't be exported with some labels only", "drop --labels"
        )
    if trained.held_out is not None and options.mirrored:
        raise UsageError(
            "a cross-validated training was not judged with mirrored pictures", "drop --mirrored"
        )
    validation, test = (certain(narrow(data.part(p), columns)) for p in ("validation", "test"))
    temperature = _temperature(trained, validation, columns, options.mirrored)
    deployed = Deployed(trained.network, columns, temperature, options.mirrored)
    built = build(deployed, options.weights, data, validation)
    bare = with_metadata(built.graph, {})
    if trained.held_out is None:
        chosen_on = Judged(onnx_answers(bare, validation.pixels), validation.targets)
        judged = Judged(onnx_answers(bare, test.pixels), test.targets)
    else:
        held = trained.held_out
        chosen_on = judged = Judged(calibrated(held), held.targets)
    wanted = options.sure_accuracy or halved_error(chosen_on.answers, chosen_on.targets)
    threshold = unsure_below(chosen_on.answers, chosen_on.targets, wanted)
    evaluation = evaluate(judged.answers, judged.targets, labels)
    spec = _spec(trained, data, options, columns, threshold, evaluation, _golden(bare, data))
    return Exported(
        graph=with_metadata(built.graph, metadata(spec)),
        spec=spec,
        test=evaluation,
        validation=len(chosen_on.targets),
        temperature=temperature,
        sure_accuracy=wanted,
        uncalibrated=error_before(judged.answers, judged.targets, temperature),
        weights=built.weights,
        mirrored=options.mirrored,
        difference=built.difference,
        speed=measure(bare, test.pixels),
    )


def _temperature(
    trained: Trained, validation: Part, columns: tuple[int, ...], mirrored: bool
) -> float:
    if trained.held_out is not None:
        return fit_temperature(trained.held_out.logits, trained.held_out.targets)
    logits = predict_logits(trained.network, validation.pixels)
    if mirrored:
        logits = (logits + predict_logits(trained.network, validation.pixels[:, :, ::-1])) / 2
    return fit_temperature(logits[:, list(columns)].numpy(), validation.targets)


def _spec(
    trained: Trained,
    data: Dataset,
    options: ExportOptions,
    columns: tuple[int, ...],
    threshold: float,
    test: Evaluation,
    golden: Golden,
) -> ModelSpec:
    train = narrow(data.train, columns)
    return ModelSpec(
        name=options.name,
        version=options.version,
        labels=test.labels,
        region=data.framing.region,
        margin=data.framing.margin,
        resize="stretch",
        unsure_below=round(threshold, 4),
        data_fingerprint=trained.fingerprint,
        label_shares=label_shares(train, test.labels),
        metrics={"data": data.name, "split": judged_on(trained), **figures(test)},
        created=options.created,
        golden=golden,
        fusion=options.fusion,
    )


def judged_on(trained: Trained) -> str:
    """Name what a training's figures come from."""
    return "test" if trained.held_out is None else "cross-validation"


def _golden(graph: bytes, data: Dataset) -> Golden:
    """Faces that the project drew itself: no one's photo travels inside a model."""
    inputs = golden_faces(data.framing.side, data.framing.channels)
    return Golden(inputs=inputs, outputs=onnx_answers(graph, inputs))


def _choose(
    wanted: Mapping[str, str] | None, labels: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the model's labels, and their columns among the training's."""
    if not wanted:
        return labels, tuple(range(len(labels)))
    unknown = [source for source in wanted.values() if source not in labels]
    if unknown:
        raise UsageError(
            f"the training has no label {', '.join(unknown)}", f"there are: {', '.join(labels)}"
        )
    if len(wanted) < 2 or len(set(wanted.values())) < len(wanted):
        raise UsageError("a model needs two or more labels of their own", "name others in --labels")
    return tuple(wanted), tuple(labels.index(source) for source in wanted.values())
