"""Exports a trained network: calibration, thresholds, weight format, golden samples, metadata.

All choices are made on the validation split; the test split is used once, for the metrics. After
a cross-validation the out-of-fold predictions serve for both: each fold is evaluated with the
choices made on the other folds.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.errors import InputError, UsageError
from batch.models.contract import to_metadata
from batch.models.fusion import Fusion
from batch.models.model import GoldenSamples, ModelSpec
from batch.records import Abstain
from trainer.datasets.dataset import (
    Dataset,
    Split,
    Texts,
    compute_class_shares,
    compute_label_shares,
)
from trainer.evaluation.calibration import Calibration, Logits, OutputLayout
from trainer.evaluation.calibration_error import estimate_calibration_error
from trainer.evaluation.corruptions import CorruptionMetrics, measure_corruptions
from trainer.evaluation.evaluate import Evaluation, evaluate, evaluation_to_json
from trainer.evaluation.exported_models import InferenceTime, measure_inference, predict_onnx
from trainer.evaluation.metrics import Estimate, Probabilities, Targets
from trainer.evaluation.out_of_fold import OutOfFold, cross_calibrate, name_sample
from trainer.evaluation.selective import Decisions, decide_all, measure_selective, merge_decisions
from trainer.evaluation.thresholds import ChosenThresholds, choose_thresholds
from trainer.exporting.answer_changes import AnswerChanges, answer_changes_to_json
from trainer.exporting.golden_samples import choose_golden_samples
from trainer.exporting.label_selection import LabelSelection, select_labels
from trainer.exporting.onnx_graph import DeployedNetwork, serialise_with_metadata
from trainer.exporting.weight_formats import BuiltGraph, WeightFormat, build_graph
from trainer.training.checkpoint import TrainedNetwork
from trainer.training.loop import predict_logits

# Default of the largest share of wrong labels among those that count.
DEFAULT_RISK = 0.05
# Lower limit of a class's share, which keeps its logarithm finite.
MIN_SHARE = 1e-6

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        name: the model's name.
        created: date, YYYY-MM-DD.
        version: any text.
        labels: maps each label of the model to a label of the training; None for all, unchanged.
        rest: the abstain output of the other labels; None to drop them.
        risk: 0 to 1, the largest share of wrong labels among those that count.
        prior_correction: 0 to 1, see ``Calibration``; None to choose it on held-out samples.
        weights: how weights are stored.
        mirrored: run every picture also mirrored, see ``DeployedNetwork``.
        fusion: joins a whole-photo model to a face model.
    """

    name: str
    created: str
    version: str = "1"
    labels: Mapping[str, str] | None = None
    rest: Abstain | None = None
    risk: float = DEFAULT_RISK
    prior_correction: float | None = 0.0
    weights: WeightFormat = WeightFormat.AUTO
    mirrored: bool = False
    fusion: Fusion | None = None


@dataclass(frozen=True)
class ExportedModel:
    """An exported model and its evaluation.

    Attributes:
        graph: the model file's bytes.
        spec: its metadata.
        test: metrics on the test split or, after a cross-validation, on all samples.
        validation: number of samples used to choose calibration and thresholds.
        calibration: the temperature and the correction for class shares.
        chosen: the thresholds and their results on those samples.
        uncalibrated: calibration error of ``test`` without the temperature; NaN for too few
            samples.
        weights: how weights are stored.
        mirrored: whether every picture is also run mirrored.
        difference: largest difference between PyTorch and ONNX Runtime, with float weights.
        answer_changes: its answers compared with those of the network before its weights were
            stored.
        speed: inference time per picture.
        corrupted: metrics on corrupted test samples; None after a cross-validation, because the
            exported network was trained on all samples.
    """

    graph: bytes
    spec: ModelSpec
    test: Evaluation
    validation: int
    calibration: Calibration
    chosen: ChosenThresholds
    uncalibrated: Estimate
    weights: WeightFormat
    mirrored: bool
    difference: float
    answer_changes: AnswerChanges
    speed: InferenceTime
    corrupted: CorruptionMetrics | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.graph).hexdigest()


@dataclass(frozen=True)
class HeldOutAnswers:
    """Answers to held-out samples.

    Attributes:
        answers: float32 [n, K + A].
        targets: int64 [n], the true outputs.
        kinds: text [n], see ``Split``.
        groups: text [n], see ``Split``.
        trusted: bool [n], False for uncertain labels: samples with a weight other than 1.
    """

    answers: Probabilities
    targets: Targets
    kinds: Texts
    groups: Texts
    trusted: npt.NDArray[np.bool_]


def export_model(trained: TrainedNetwork, data: Dataset, options: ExportOptions) -> ExportedModel:
    """Export a trained network as a model file; the same arguments give the same bytes.

    Args:
        trained: the trained network.
        data: the data that it was trained on.
        options: the options.

    Raises:
        InputError: ``data`` is not the data of the training, or a split is empty.
        UsageError: the training has no such label.
        ParityError: the exported file's answers differ from the network's.
    """
    if not data.matches_fingerprint(trained.fingerprint):
        raise InputError(
            f"{data.name} is not the data of this training",
            "give the same --data, --abstain, --beside and --review; if photos were added, changed "
            "or deleted since, train again",
        )
    selection = select_labels(options.labels, options.rest, trained.labels)
    held = _select_out_of_fold(trained, selection, options)
    outputs = OutputLayout(
        _compute_log_shares(trained, data)[list(selection.columns)], selection.joined
    )
    validation, test = (selection.select_agreed(data.get_split(p)) for p in ("validation", "test"))
    if held is None:
        logits = _compute_logits(trained, validation, selection, options.mirrored)
        calibration = outputs.calibrate(logits, validation.targets, options.prior_correction)
    else:
        calibration = outputs.calibrate(held.logits, held.targets, options.prior_correction)
    deployed = DeployedNetwork(
        trained.network,
        selection.columns,
        calibration.temperature,
        options.mirrored,
        selection.joined,
        outputs.offsets(calibration) if calibration.prior_correction else None,
    )
    built = build_graph(deployed, options.weights, data, validation)
    bare = serialise_with_metadata(built.graph, {})
    untempered = replace(calibration, temperature=1.0)
    if held is None:
        chosen_on = _collect_answers(validation, predict_onnx(bare, validation.pixels))
        judged = _collect_answers(test, predict_onnx(bare, test.pixels))
        unscaled = outputs.probabilities(
            _compute_logits(trained, test, selection, options.mirrored), untempered
        )
    else:
        chosen_on = judged = _collect_out_of_fold(held, outputs, data, options)
        unscaled = outputs.probabilities(held.logits, untempered)
    chosen = _choose_thresholds(chosen_on, selection, options.risk)
    evaluation = evaluate(judged.answers, judged.targets, selection.outputs, judged.groups)
    if selection.abstain:
        made = _decide(judged, chosen, selection, held)
        found = measure_selective(
            made, judged.targets, selection.labels, selection.abstain, judged.kinds
        )
        evaluation = replace(evaluation, selective=found)
    corrupted = None
    if held is None:
        corrupted = measure_corruptions(
            partial(predict_onnx, bare), test, selection.labels, chosen.thresholds
        )
    golden = choose_golden_samples(deployed, bare, data.framing)
    spec = _build_spec(trained, data, options, selection, chosen, evaluation, built, golden)
    return ExportedModel(
        graph=serialise_with_metadata(built.graph, to_metadata(spec)),
        spec=spec,
        test=evaluation,
        validation=len(chosen_on.targets),
        calibration=calibration,
        chosen=chosen,
        uncalibrated=estimate_calibration_error(unscaled, judged.targets),
        weights=built.weights,
        mirrored=options.mirrored,
        difference=built.difference,
        answer_changes=built.answer_changes,
        speed=measure_inference(bare, test.pixels),
        corrupted=corrupted,
    )


def name_metrics_source(trained: TrainedNetwork) -> str:
    """Name the samples that the metrics of a trained network come from."""
    return "test" if trained.held_out is None else "cross-validation"


def _select_out_of_fold(
    trained: TrainedNetwork, selection: LabelSelection, options: ExportOptions
) -> OutOfFold | None:
    """Select classes of the out-of-fold predictions; None without a cross-validation."""
    held = trained.held_out
    if held is None:
        return None
    if len(selection.columns) < len(trained.labels):
        raise UsageError(
            "a cross-validated training can't be exported without some of its labels",
            "drop --labels, or add --rest neither",
        )
    if options.mirrored:
        raise UsageError("the cross-validation did not use mirrored pictures", "drop --mirrored")
    return replace(
        held,
        logits=held.logits[:, list(selection.columns)],
        targets=selection.groups[held.targets],
    )


def _compute_logits(
    trained: TrainedNetwork, part: Split, selection: LabelSelection, mirrored: bool
) -> Logits:
    """Run the network in PyTorch: float32 [n, columns]."""
    logits = predict_logits(trained.network, part.pixels)
    if mirrored:
        logits = (logits + predict_logits(trained.network, part.pixels[:, :, ::-1])) / 2
    chosen: Logits = logits[:, list(selection.columns)].numpy()
    return chosen


def _compute_log_shares(trained: TrainedNetwork, data: Dataset) -> npt.NDArray[np.float64]:
    """Compute the logarithm of each class's share in training: float64 [classes]."""
    logs: npt.NDArray[np.float64] = np.log(
        np.maximum(compute_class_shares(data.get_split(trained.config.learn_from)), MIN_SHARE)
    )
    return logs


def _collect_answers(part: Split, answers: Probabilities) -> HeldOutAnswers:
    return HeldOutAnswers(answers, part.targets, part.kinds, part.groups, part.weights == 1)


def _collect_out_of_fold(
    held: OutOfFold, outputs: OutputLayout, data: Dataset, options: ExportOptions
) -> HeldOutAnswers:
    """Collect the out-of-fold predictions, each fold calibrated on the other folds."""
    pool = data.get_split("all")
    places = {name_sample(pixels): n for n, pixels in enumerate(pool.pixels)}
    at = np.asarray([places.get(name, -1) for name in held.names])
    return HeldOutAnswers(
        answers=cross_calibrate(held, outputs, options.prior_correction),
        targets=held.targets,
        kinds=np.where(at >= 0, pool.kinds[at], ""),
        groups=np.where(at >= 0, pool.groups[at], ""),
        trusted=np.where(at >= 0, pool.weights[at], 1) == 1,
    )


def _choose_thresholds(
    judged: HeldOutAnswers, selection: LabelSelection, risk: float
) -> ChosenThresholds:
    trusted = judged.trusted if judged.trusted.any() else np.ones_like(judged.trusted)
    return choose_thresholds(
        judged.answers[trusted],
        judged.targets[trusted],
        selection.labels,
        selection.abstain,
        risk,
    )


def _decide(
    judged: HeldOutAnswers,
    chosen: ChosenThresholds,
    selection: LabelSelection,
    held: OutOfFold | None,
) -> Decisions:
    """Decide with thresholds that were not chosen on the same samples."""
    if held is None:
        return decide_all(judged.answers, selection.labels, chosen.thresholds)
    parts = []
    for fold in np.unique(held.folds):
        here = held.folds == fold
        others = _choose_thresholds(_select_answers(judged, ~here), selection, chosen.risk)
        parts.append((here, decide_all(judged.answers[here], selection.labels, others.thresholds)))
    return merge_decisions(parts)


def _select_answers(judged: HeldOutAnswers, chosen: npt.NDArray[np.bool_]) -> HeldOutAnswers:
    return HeldOutAnswers(
        judged.answers[chosen],
        judged.targets[chosen],
        judged.kinds[chosen],
        judged.groups[chosen],
        judged.trusted[chosen],
    )


def _build_spec(
    trained: TrainedNetwork,
    data: Dataset,
    options: ExportOptions,
    selection: LabelSelection,
    chosen: ChosenThresholds,
    test: Evaluation,
    built: BuiltGraph,
    golden: GoldenSamples,
) -> ModelSpec:
    if chosen.bound > chosen.risk:
        logger.warning("WARNING: %s", describe_unkept_risk(chosen))
    return ModelSpec(
        name=options.name,
        version=options.version,
        labels=selection.labels,
        region=data.framing.region,
        margin=data.framing.margin,
        resize=data.framing.resize,
        unsure_below=chosen.unsure_below,
        abstain_from=dict(chosen.abstain_from),
        data_fingerprint=trained.fingerprint,
        label_shares=compute_label_shares(selection.samples(data.train), selection.labels),
        metrics={
            "data": data.name,
            "split": name_metrics_source(trained),
            **evaluation_to_json(test),
            "thresholds": thresholds_to_json(chosen),
            "weights": {
                "format": str(built.weights),
                **answer_changes_to_json(built.answer_changes),
            },
        },
        created=options.created,
        golden=golden,
        fusion=options.fusion,
        trained_on=trained.trained_on,
    )


def describe_unkept_risk(chosen: ChosenThresholds) -> str:
    """Say that no thresholds keep the risk, what the held-out samples show, and what to do."""
    bound = f"{100 * chosen.bound:.3g} %"
    if not chosen.answered:
        shown = "get no label that counts"
    elif bound == "100 %":
        shown = "do not exclude that all labels that count are wrong"
    else:
        shown = f"only show that at most {bound} of the labels that count are wrong"
    return (
        f"no thresholds keep the risk of {100 * chosen.risk:.3g} %: the held-out samples {shown}. "
        f"A label counts from {chosen.unsure_below:.2g} on. Add photos, or allow more with --risk "
        "(with make, EXPORT='--risk 0.1' allows 10 %)"
    )


def thresholds_to_json(chosen: ChosenThresholds) -> dict[str, Any]:
    """Convert the choice of thresholds to plain values for JSON."""
    return {
        "risk": chosen.risk,
        "bound": round(chosen.bound, 4),
        "answered": chosen.answered,
        "wrong": chosen.wrong,
        "coverage": {label: round(share, 4) for label, share in chosen.coverage.items()},
    }
