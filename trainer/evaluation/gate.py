"""The gate: compares a candidate with the model that it may replace, on the same held-out samples.

``gate_checks`` decides by the comparison.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from batch.errors import InputError, ModelError, UsageError
from batch.models.contract import load_model
from batch.models.ensemble import assign_roles
from batch.models.model import Model, ModelSpec
from batch.models.shipped import SUFFIX, find_model, find_models_folder
from batch.records import Abstain
from trainer.datasets.dataset import Split, select_samples
from trainer.datasets.review import Review
from trainer.datasets.reviewed_samples import HELD_OUT_REMEDY, ReviewedData, read_reviewed
from trainer.evaluation.calibration_error import estimate_calibration_growth
from trainer.evaluation.evaluate import find_columns, get_thresholds, match_to_model
from trainer.evaluation.exported_models import derive_framing, predict_model
from trainer.evaluation.gate_checks import CandidateRejected, Comparison, PairedCounts
from trainer.evaluation.metrics import (
    Counts,
    Estimate,
    Figures,
    Probabilities,
    Targets,
    estimate_from_counts,
    estimate_mean,
    estimate_paired_gain,
    safe_divide,
)
from trainer.evaluation.selective import Decisions, decide_all


def check_compatible(candidate: Model, current: Model) -> None:
    """Require that a candidate can replace the current model with the same reports and options.

    Raises:
        CandidateRejected: they differ in name, labels, region, margin, input or face model of the
            fusion: the default pair needs it.
    """
    differences = [
        f"{what} {new} instead of {old}"
        for what, new, old in _list_properties(candidate, current)
        if new != old
    ]
    if differences:
        raise CandidateRejected(
            f"{candidate.path} can't replace {current.path}, which reports and jobs rely on: it "
            f"has {'; '.join(differences)}",
            "the current model stays; give the new one another name (with make, `make train export "
            f"NAME=...`){_describe_removal(candidate, current)}",
        )


def _describe_removal(candidate: Model, current: Model) -> str:
    """Say how the current model is removed; empty for a shipped one, which stays."""
    folder = current.path.parent
    if folder == find_models_folder():
        return ""
    # A candidate beside it goes too: it would be compared with the model of the next export.
    models = [current.path, *([candidate.path] if candidate.path.parent == folder else [])]
    files = [path.with_suffix(suffix).name for path in models for suffix in (SUFFIX, ".md")]
    command = f"(cd {shlex.quote(str(folder))} && rm -f {shlex.join(files)})"
    return f", or remove the current one with `{command}` and export again"


def compare_models(
    candidate: Model, current: Model, part: Split, labels: tuple[str, ...]
) -> Comparison:
    """Compare two models on the same samples; ``labels`` are the classes of ``part``.

    Raises:
        ModelError: the models' input has another shape, or the data lack one of their labels.
    """
    part = match_to_model(part, labels, current)
    new, old = predict_model(candidate, part), predict_model(current, part)
    comparison = compare_predictions(new, old, part.targets, current.spec.labels)
    if not current.spec.abstain:
        return comparison
    first, second = (
        decide_all(probabilities, model.spec.labels, get_thresholds(model.spec))
        for probabilities, model in ((new, candidate), (old, current))
    )
    risk, coverage = _compare_decisions(first, second, part.targets, len(current.spec.labels))
    return replace(comparison, risk=risk, coverage=coverage)


def compare_predictions(
    candidate: Probabilities, current: Probabilities, targets: Targets, labels: Sequence[str]
) -> Comparison:
    """Compare probabilities, float32 [n, K + A], for the same samples.

    ``labels`` are the names of the first K outputs.
    """
    count = len(labels)
    new, old = (p.argmax(axis=1) == targets for p in (candidate, current))
    shown = targets < count
    first, second = (p[shown, :count].argmax(axis=1) for p in (candidate, current))
    counts = np.zeros((count, 2, 2), dtype=np.int64)
    truth = targets[shown]
    np.add.at(counts, (truth, (first == truth).astype(int), (second == truth).astype(int)), 1)
    return Comparison(
        samples=len(targets),
        won=int((new & ~old).sum()),
        lost=int((old & ~new).sum()),
        classes=tuple(
            PairedCounts(label, int(of.sum()), int(of[1, 0]), int(of[0, 1]))
            for label, of in zip(labels, counts, strict=True)
        ),
        accuracy=_estimate_mean_gain(counts),
        calibration=estimate_calibration_growth(candidate, current, targets),
    )


def _compare_decisions(
    new: Decisions, old: Decisions, targets: Targets, labels: int
) -> tuple[Estimate, Estimate]:
    """Growth of the risk, by a paired bootstrap, and gain in coverage."""
    # Per model: 0 no label that counts, 1 a wrong one, 2 a right one.
    made = [
        np.where(d.outcome >= labels, 0, np.where(d.outcome == targets, 2, 1)) for d in (new, old)
    ]
    counts = np.zeros((labels + 1, 3, 3), dtype=np.int64)
    np.add.at(counts, (np.minimum(targets, labels), *made), 1)
    covered = np.zeros((labels, 2, 2), dtype=np.int64)
    shown = targets < labels
    np.add.at(covered, (targets[shown], *((m[shown] == 2).astype(int) for m in made)), 1)
    (risk,) = estimate_from_counts(_risk_growth, counts, _make_doubtful(counts))
    return risk, _estimate_mean_gain(covered)


def _make_doubtful(counts: Counts) -> Figures:
    """Make one sample of the counts, any label of which is right or wrong with the same chance.

    It is spread over all cells that it may be in. Without it, labels of which none is wrong would
    prove that none can be.
    """
    sample: Figures = counts / counts.sum()
    for axis in (1, 2):
        no_label, *labels = np.split(sample, 3, axis)
        doubtful = (labels[0] + labels[1]) / 2
        sample = np.concatenate([no_label, doubtful, doubtful], axis)
    return sample


def _risk_growth(counts: Counts) -> Figures:
    """Growth of the risk from counts [..., class, candidate's answer, current model's answer]."""
    new, old = (
        # Without answers, none is wrong: the risk is 0.
        np.nan_to_num(safe_divide(of_model[..., 1].sum(-1), of_model[..., 1:].sum((-2, -1))))
        for of_model in (counts.sum(-1), counts.sum(-2))
    )
    growth: Figures = new - old
    return growth


def _estimate_mean_gain(counts: Counts) -> Estimate:
    """Estimate the mean gain of the labels from counts [label, candidate right, current right].

    Each label has the score interval of paired answers: from answers of which none differs, a
    bootstrap would conclude that none can.
    """
    return estimate_mean(
        estimate_paired_gain(int(of[1, 0]), int(of[0, 1]), int(of.sum())) for of in counts
    )


def _list_properties(candidate: Model, current: Model) -> Iterator[tuple[str, object, object]]:
    new, old = candidate.spec, current.spec
    yield "the name", new.name, old.name
    yield "the labels", _list_names(new.labels), _list_names(old.labels)
    yield "as answers without a label", _list_names(new.abstain), _list_names(old.abstain)
    yield "the region", new.region.value, old.region.value
    yield "the margin", new.margin, old.margin
    if old.fusion:
        yield "a fusion", _describe_fusion(new), _describe_fusion(old)
    for side in ("height", "width", "channels"):
        yield f"the input's {side}", getattr(candidate, side), getattr(current, side)


def _list_names(outputs: Sequence[str]) -> str:
    return ", ".join(outputs) or "none"


def _describe_fusion(spec: ModelSpec) -> str:
    """Describe what a pair needs of a whole-photo model: the face model that it is fitted to."""
    fusion = spec.fusion
    return f"with the face model {fusion.face_model}" if fusion else "with no face model"


def check_pair(candidate: Model, face: str) -> None:
    """Require that a whole-photo model can be paired with the face model of its fusion.

    Args:
        candidate: the whole-photo model, with a fusion.
        face: name or path of the face model; one that does not exist is not checked.

    Raises:
        CandidateRejected: the runner would refuse the pair.
    """
    try:
        path = find_model(face)
    except UsageError:
        return
    try:
        assign_roles((load_model(path), candidate))
    except ModelError as error:
        raise CandidateRejected(error.problem, error.remedy) from error


def read_held_out(review: Review, candidate: Model, current: Model) -> ReviewedData:
    """Read a review for two models of the same labels; its classes are the outputs of both.

    Raises:
        ReviewError, InputError: as ``read_reviewed`` does.
    """
    classes = (*current.spec.labels, *_list_abstain_outputs(candidate, current))
    return read_reviewed(review, classes, derive_framing(current))


def compare_reviewed(
    candidate: Model, current: Model, held: Split | None, labels: tuple[str, ...]
) -> Comparison:
    """Compare two models on held-out reviewed samples.

    A model without an output for a class, such as ``neither``, is wrong on all samples of it.

    Args:
        candidate: the new model.
        current: the model to be replaced, with the same labels.
        held: the samples, cropped for both models.
        labels: the classes of ``held``; samples of classes that neither model has are ignored.

    Raises:
        InputError: there are no such samples.
        ModelError: ``labels`` lack a label of the models.
    """
    classes = (*current.spec.labels, *_list_abstain_outputs(candidate, current))
    held = None if held is None else _select_classes(held, classes, labels, current)
    if held is None or not len(held):
        raise InputError("no reviewed sample is held out", HELD_OUT_REMEDY)
    new, old = (
        _spread_columns(predict_model(m, held), m.spec.outputs, classes)
        for m in (candidate, current)
    )
    return compare_predictions(new, old, held.targets, classes)


def _list_abstain_outputs(*models: Model) -> tuple[str, ...]:
    """List the abstain outputs of all models."""
    return tuple(
        name.value for name in Abstain if any(name in model.spec.abstain for model in models)
    )


def _select_classes(
    held: Split, classes: tuple[str, ...], labels: tuple[str, ...], model: Model
) -> Split:
    """Keep the samples of ``classes``, with votes for them; the data may lack abstain classes."""
    shared = tuple(name for name in classes if name not in set(Abstain) or name in labels)
    columns = find_columns(shared, labels, model.path)
    keep = np.isin(held.targets, columns)
    votes = _spread_columns(held.votes[keep][:, list(columns)], shared, classes)
    return replace(select_samples(held, keep), votes=votes)


def _spread_columns(
    values: Probabilities, outputs: tuple[str, ...], classes: tuple[str, ...]
) -> Probabilities:
    """Reorder float32 [n, outputs] to the columns ``classes``, with 0 for absent outputs."""
    spread = np.zeros((len(values), len(classes)), dtype=np.float32)
    spread[:, [classes.index(output) for output in outputs]] = values
    return spread
