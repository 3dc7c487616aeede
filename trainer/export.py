"""Turns a trained network into a model file's bytes, and proves that they answer alike."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import torch

from batch.contract import Golden, ModelSpec, metadata
from batch.errors import BatchLabelError, InputError, UsageError
from batch.options import Provider
from batch.session import open_session
from trainer.calibrate import fit_temperature, unsure_below
from trainer.checkpoint import Trained
from trainer.data import Dataset, Framing, Part, Pixels, label_shares, narrow
from trainer.deploy import Deployed, halved
from trainer.drawn import golden_faces
from trainer.evaluate import Evaluation, certain, evaluate, figures
from trainer.graph import to_graph, with_metadata
from trainer.metrics import Probabilities
from trainer.train import predict_logits

# What PyTorch and ONNX Runtime may differ by in a probability.
MAX_DIFFERENCE = 1e-4
PARITY_BATCHES = (1, 2, 33)
PARITY_SAMPLES = 66
BATCH = 64


class Weights(StrEnum):
    """How weights are stored; ``auto`` is float16 where validation shows no loss."""

    AUTO = "auto"
    FLOAT16 = "float16"
    FLOAT32 = "float32"


class NotAlike(BatchLabelError):
    """PyTorch and ONNX Runtime give different answers for the same pictures."""


@dataclass(frozen=True)
class ExportOptions:
    """What an exported model is called and how it answers.

    ``labels`` maps each label of the model to the training label it stands for (empty:
    all, as they are); ``sure_accuracy`` is the share of sure answers that shall be right;
    ``created`` is a date, YYYY-MM-DD.
    """

    name: str
    created: str
    version: str = "1"
    labels: Mapping[str, str] | None = None
    sure_accuracy: float = 0.95
    weights: Weights = Weights.AUTO


@dataclass(frozen=True)
class Exported:
    """A model file's bytes and what was found out on the way.

    ``validation`` is the number of samples that temperature and threshold were chosen
    on; ``difference`` is the largest between PyTorch and ONNX Runtime.
    """

    graph: bytes
    spec: ModelSpec
    test: Evaluation
    validation: int
    temperature: float
    weights: Weights
    difference: float

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.graph).hexdigest()


def export(trained: Trained, data: Dataset, options: ExportOptions) -> Exported:
    """Build a model file from a training and the data it was trained on.

    The temperature, the threshold of being unsure and the storage of weights are chosen
    on the validation part; the test part is used once, for the figures in the metadata.
    The same arguments give the same bytes.

    Raises:
        InputError: ``data`` are not the ones of the training, or a part is empty.
        UsageError: the training has no such label.
        NotAlike: the exported file answers differently from the network.
    """
    if data.fingerprint != trained.fingerprint:
        raise InputError(f"{data.name} is not the data of this training", "give the same --data")
    labels, columns = _choose(options.labels, trained.labels)
    validation = certain(narrow(data.part("validation"), columns))
    logits = predict_logits(trained.network, validation.pixels)[:, list(columns)].numpy()
    temperature = fit_temperature(logits, validation.targets)
    deployed, weights = _store(
        Deployed(trained.network, columns, temperature), options.weights, validation
    )
    graph = to_graph(deployed, data.framing)
    bare = with_metadata(graph, {})
    difference = check_parity(deployed, bare, validation.pixels)
    threshold = unsure_below(
        _run(bare, validation.pixels), validation.targets, options.sure_accuracy
    )
    test = certain(narrow(data.part("test"), columns))
    evaluation = evaluate(_run(bare, test.pixels), test.targets, labels)
    spec = _spec(data, options, columns, threshold, evaluation, _golden(deployed, data.framing))
    return Exported(
        graph=with_metadata(graph, metadata(spec)),
        spec=spec,
        test=evaluation,
        validation=len(validation),
        temperature=temperature,
        weights=weights,
        difference=difference,
    )


def check_parity(deployed: Deployed, graph: bytes, pixels: Pixels) -> float:
    """Compare PyTorch with ONNX Runtime on pictures in batches of several sizes.

    Returns the largest difference of a probability.

    Raises:
        NotAlike: it is more than ``MAX_DIFFERENCE``.
    """
    pixels = pixels[:PARITY_SAMPLES]
    wanted = _answers(deployed, pixels)
    worst = max(
        float(np.abs(_run(graph, pixels, batch) - wanted).max()) for batch in PARITY_BATCHES
    )
    if not worst <= MAX_DIFFERENCE:
        raise NotAlike(
            f"the exported model's answers differ by {worst:.2g} from the network's",
            f"try --weights {Weights.FLOAT32}, or other versions of torch and onnxruntime",
        )
    return worst


def _spec(
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
        data_fingerprint=data.fingerprint,
        label_shares=label_shares(train, test.labels),
        metrics={"data": data.name, "split": "test", **figures(test)},
        created=options.created,
        golden=golden,
    )


def _golden(deployed: Deployed, framing: Framing) -> Golden:
    """Faces that the project drew itself: no one's photo travels inside a model."""
    inputs = golden_faces(framing.side, framing.channels)
    return Golden(inputs=inputs, outputs=_answers(deployed, inputs))


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


def _store(deployed: Deployed, how: Weights, validation: Part) -> tuple[Deployed, Weights]:
    """Round the weights to float16 where that is asked for, or costs no right answer."""
    if how is Weights.FLOAT32:
        return deployed, Weights.FLOAT32
    rounded = halved(deployed)
    if how is Weights.FLOAT16 or _right(rounded, validation) >= _right(deployed, validation):
        return rounded, Weights.FLOAT16
    return deployed, Weights.FLOAT32


def _right(deployed: Deployed, part: Part) -> int:
    return int((_answers(deployed, part.pixels).argmax(axis=1) == part.targets).sum())


def _answers(deployed: Deployed, pixels: Pixels) -> Probabilities:
    with torch.inference_mode():
        batches = [
            deployed(torch.tensor(pixels[at : at + BATCH])) for at in range(0, len(pixels), BATCH)
        ]
    answers: Probabilities = torch.cat(batches).numpy()
    return answers


def _run(graph: bytes, pixels: Pixels, batch: int = BATCH) -> Probabilities:
    session = open_session(graph, Provider.CPU, pixels[:1])
    outputs = [session.run(pixels[at : at + batch])[0] for at in range(0, len(pixels), batch)]
    return np.concatenate(outputs)
