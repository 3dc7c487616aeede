"""The checks of the gate: which differences between two models decide, and by how much.

Accuracy is decided by exact or score tests of paired answers: only the samples count on which the
two models differ, and each sample counts the same. A test per class guards the rare ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from batch.errors import BatchLabelError, UsageError
from batch.log import count_text
from trainer.evaluation.calibration_error import MIN_CALIBRATION_SAMPLES
from trainer.evaluation.metrics import Estimate, non_inferiority_test, sign_test

# Significance level of the one-sided sign test; 5 % for both sides together.
SIGNIFICANCE_LEVEL = 0.025
# Largest loss of accuracy of a candidate that must be as good, and the level of its test.
ACCURACY_MARGIN = 0.02
NON_INFERIORITY_LEVEL = 0.05
# Classes with fewer held-out samples are not judged: nothing about them can be proved.
MIN_CLASS_SAMPLES = 50
# Largest loss in a class is 1 / sqrt(samples), but at least this; and the level of its test. Few
# samples can't prove a small loss, so with a fixed margin most equal models would fail.
CLASS_MARGIN = 0.05
CLASS_LEVEL = 0.1
# Growth of the calibration error that does not count, even if it is beyond sampling error.
CALIBRATION_MARGIN = 0.02
REVIEW_REMEDY = "the current model stays; review more photos, or train on more data"
MORE_REMEDY = (
    "the current model stays; so few differing answers can't show a gain: review the random sample "
    "of more pages, or give more held-out photos"
)
TRAIN_REMEDY = "the current model stays; train longer or on more data"


class Requirement(StrEnum):
    """What a candidate must prove; ``as-good`` is for smaller or faster models."""

    BETTER = "better"
    AS_GOOD = "as-good"


class CandidateRejected(BatchLabelError):
    """The candidate failed a check, and the current model stays."""


@dataclass(frozen=True)
class PairedCounts:
    """Right answers of two models to the same samples.

    Attributes:
        name: what the samples are, such as a class.
        samples: number of samples.
        won: number of samples that only the candidate gets right.
        lost: number of samples that only the current model gets right.
    """

    name: str
    samples: int
    won: int
    lost: int

    @property
    def gain(self) -> float:
        """Gain in accuracy of the candidate, -1 to 1; NaN without samples."""
        return (self.won - self.lost) / self.samples if self.samples else math.nan


@dataclass(frozen=True)
class Comparison:
    """Metrics of a candidate minus those of the current model, on the same samples.

    Attributes:
        samples: number of samples.
        won: number of samples that only the candidate gets right.
        lost: number of samples that only the current model gets right.
        classes: the same for each label, if each sample of it gets its likeliest label.
        accuracy: gain in balanced accuracy, for information. For models with abstain outputs: over
            the samples with a label, if each gets its likeliest label.
        calibration: growth of the expected calibration error; NaN if the samples are too few to
            measure it.
        risk: growth of the share of wrong labels among those that count; None for models without
            abstain outputs.
        coverage: gain in coverage, as a mean over the labels; None for models without abstain
            outputs.
    """

    samples: int
    won: int
    lost: int
    classes: tuple[PairedCounts, ...]
    accuracy: Estimate
    calibration: Estimate
    risk: Estimate | None = None
    coverage: Estimate | None = None

    @property
    def labelled(self) -> PairedCounts:
        """The sum over all labels."""
        return PairedCounts(
            "accuracy",
            sum(of.samples for of in self.classes),
            sum(of.won for of in self.classes),
            sum(of.lost for of in self.classes),
        )


@dataclass(frozen=True)
class Check:
    """One line of the decision.

    Attributes:
        name: what is judged.
        counts: the paired answers, None for other metrics.
        difference: the candidate's metric minus the current model's.
        limit: what the candidate must prove, as text.
        p: p-value of the test, or the interval of the difference, as text; empty if not judged.
        problem: why the candidate fails; empty if it passes or is not judged.
        remedy: what to do then.
    """

    name: str
    counts: PairedCounts | None
    difference: float
    limit: str
    p: str = ""
    problem: str = ""
    remedy: str = TRAIN_REMEDY

    @property
    def result(self) -> str:
        """The verdict, as text."""
        if self.problem:
            return "failed"
        return "passed" if self.p else "not judged"


def class_margin(samples: int) -> float:
    """Return the largest loss of accuracy in a class that the gate allows, 0 to 1."""
    return max(CLASS_MARGIN, 1 / math.sqrt(samples))


def judge_comparison(comparison: Comparison, require: Requirement) -> list[Check]:
    """Judge a candidate on held-out samples of the data.

    Better means that a sign test shows a gain in accuracy. As good means that a test shows a loss
    of less than ``ACCURACY_MARGIN``. In both cases a test must show for each class of at least
    ``MIN_CLASS_SAMPLES`` samples that it loses less than ``class_margin``. From
    ``MIN_CALIBRATION_SAMPLES`` samples on, the calibration error must not grow by more than
    ``CALIBRATION_MARGIN`` beyond sampling error. The risk must not grow and the coverage must not
    fall beyond sampling error: a model that never answers has no risk.
    """
    checks = [_judge_accuracy(comparison.labelled, require)]
    checks += [_judge_class(counts) for counts in comparison.classes]
    checks.append(_judge_calibration(comparison.calibration))
    if comparison.risk:
        checks.append(
            _judge_interval(
                "risk of labels that count",
                comparison.risk,
                "interval not above 0",
                comparison.risk.low > 0,
                "is wrong more often: the share of wrong labels among those that count grew by",
                "the current model stays; export it with a smaller --risk",
            )
        )
    if comparison.coverage:
        checks.append(
            _judge_interval(
                "samples that get their label",
                comparison.coverage,
                "interval not below 0",
                comparison.coverage.high < 0,
                "answers less often: its coverage changed by",
                "the current model stays; export it with a larger --risk",
            )
        )
    return checks


def judge_reviewed(
    reviewed: Comparison, on_data: Comparison | None, require: Requirement
) -> list[Check]:
    """Judge a candidate on held-out reviewed samples and, if there are any, on those of the data.

    ``better`` means better on one of the two and not worse on the other, ``as-good`` not worse on
    either. If the data have too few samples to show that even an equal model is not worse, all
    held-out answers together must show the gain. Only the answers are judged on reviewed samples,
    not classes or calibration: people review the least certain answers.

    Args:
        reviewed: comparison on held-out reviewed samples.
        on_data: comparison on held-out samples of the data; None without data.
        require: what the candidate must prove.

    Raises:
        UsageError: ``as-good`` can't be proved without data.
    """
    if on_data is None and require is Requirement.AS_GOOD:
        raise UsageError("reviewed samples are too few to prove a model as good", "add --data")
    counts = PairedCounts("reviewed answers", reviewed.samples, reviewed.won, reviewed.lost)
    gain, loss = sign_test(counts.won, counts.lost), sign_test(counts.lost, counts.won)
    is_better = gain <= SIGNIFICANCE_LEVEL
    must_gain = on_data is None
    problem = ""
    if loss <= SIGNIFICANCE_LEVEL:
        problem = "is worse on the reviewed samples"
    elif must_gain and not is_better:
        problem = (
            f"is not better: {_describe_counts(counts, 'reviewed sample')}, a difference within "
            "sampling error"
        )
    check = Check(
        counts.name,
        counts,
        counts.gain,
        f"gain, p <= {SIGNIFICANCE_LEVEL:g}" if must_gain else "no loss beyond sampling error",
        f"{gain if must_gain or is_better else loss:.2g}",
        problem,
        REVIEW_REMEDY,
    )
    if on_data is None:
        return [check]
    usual = on_data.labelled
    is_provable = _test_loss(0, 0, usual.samples) <= NON_INFERIORITY_LEVEL
    if require is Requirement.BETTER and not is_provable:
        return [check, *_judge_together(counts, usual), *judge_comparison(on_data, require)[1:]]
    as_good = is_better or require is Requirement.AS_GOOD
    required = Requirement.AS_GOOD if as_good else Requirement.BETTER
    return [check, *judge_comparison(on_data, required)]


def _judge_together(reviewed: PairedCounts, usual: PairedCounts) -> list[Check]:
    """Judge accuracy on few samples of the data together with reviewed ones."""
    loss = sign_test(usual.lost, usual.won)
    worse = loss <= SIGNIFICANCE_LEVEL
    every = PairedCounts(
        "all held-out answers",
        reviewed.samples + usual.samples,
        reviewed.won + usual.won,
        reviewed.lost + usual.lost,
    )
    return [
        Check(
            usual.name,
            usual,
            usual.gain,
            "no loss beyond sampling error",
            f"{loss:.2g}",
            "is worse on the samples of the data" if worse else "",
        ),
        replace(_judge_accuracy(every, Requirement.BETTER), remedy=REVIEW_REMEDY),
    ]


def require_passed(checks: Sequence[Check], candidate: Path) -> None:
    """Require that no check failed.

    Raises:
        CandidateRejected: one failed; the message names the first.
    """
    for check in checks:
        if check.problem:
            raise CandidateRejected(f"{candidate} {check.problem}", check.remedy)


def _judge_accuracy(counts: PairedCounts, require: Requirement) -> Check:
    if require is Requirement.BETTER:
        p, level = sign_test(counts.won, counts.lost), SIGNIFICANCE_LEVEL
        limit, proof = f"gain, p <= {level:g}", "that is within sampling error"
    else:
        p = _test_loss(counts.won, counts.lost, counts.samples)
        level = NON_INFERIORITY_LEVEL
        limit = f"above -{ACCURACY_MARGIN:.1%}, p <= {level:g}"
        proof = f"that does not exclude a loss of {ACCURACY_MARGIN:.1%}"
    found = _describe_counts(counts)
    problem = (
        f"is not {require.value.replace('-', ' ')}: {found}, and {proof} (p = {p:.2g}, needed "
        f"{level:g})"
    )
    loss = sign_test(counts.lost, counts.won)
    if require is Requirement.BETTER and loss <= SIGNIFICANCE_LEVEL:
        problem = f"is worse: {found}, more than sampling error (p = {loss:.2g})"
    remedy = TRAIN_REMEDY
    needed = _count_needed_samples() if require is Requirement.AS_GOOD else 0
    if counts.samples < needed and loss > SIGNIFICANCE_LEVEL:
        problem = (
            f"can't be shown to be as good: {found}, and with fewer than {needed:,} samples a loss "
            f"of {ACCURACY_MARGIN:.1%} is never excluded, even if no answer differs"
        )
        remedy = (
            f"the current model stays; give {needed:,} or more held-out photos with a label, "
            "--split all if neither model was trained on any of them"
        )
    differing = counts.won + counts.lost
    is_hopeless = require is Requirement.BETTER and sign_test(differing, 0) > level
    return Check(
        counts.name,
        counts,
        counts.gain,
        limit,
        f"{p:.2g}",
        problem if p > level else "",
        MORE_REMEDY if is_hopeless else remedy,
    )


def _describe_counts(counts: PairedCounts, noun: str = "sample") -> str:
    """Say how many samples only one of the two models gets right."""
    verb = "is" if counts.won == 1 else "are"
    return (
        f"of {count_text(counts.samples, noun)}, {counts.won:,} {verb} right only with the "
        f"candidate and {counts.lost:,} only with the current model"
    )


def _count_needed_samples() -> int:
    """Count the samples that show two models with the same answers to be as good."""
    samples = 1
    while _test_loss(0, 0, samples) > NON_INFERIORITY_LEVEL:
        samples += 1
    return samples


def _test_loss(won: int, lost: int, samples: int) -> float:
    """Return the p-value of the test that the accuracy fell by ``ACCURACY_MARGIN`` or more."""
    return non_inferiority_test(won, lost, samples, ACCURACY_MARGIN)


def _judge_class(counts: PairedCounts) -> Check:
    name = f"  {counts.name}"
    if counts.samples < MIN_CLASS_SAMPLES:
        return Check(name, counts, counts.gain, f"fewer than {MIN_CLASS_SAMPLES} samples")
    margin = class_margin(counts.samples)
    p = non_inferiority_test(counts.won, counts.lost, counts.samples, margin)
    problem = (
        f"may be worse for {counts.name}: {_describe_counts(counts)}, and that does not exclude a "
        f"loss of {margin:.1%} (p = {p:.2g}, needed {CLASS_LEVEL:g})"
    )
    limit = f"above -{margin:.1%}, p <= {CLASS_LEVEL:g}"
    failed = p > CLASS_LEVEL
    return Check(name, counts, counts.gain, limit, f"{p:.2g}", problem if failed else "")


def _judge_calibration(growth: Estimate) -> Check:
    name = "calibration error"
    if math.isnan(growth.value):
        limit = f"fewer than {MIN_CALIBRATION_SAMPLES} samples"
        return Check(name, None, growth.value, limit)
    return _judge_interval(
        name,
        growth,
        f"interval not above {CALIBRATION_MARGIN:+g}",
        growth.low > CALIBRATION_MARGIN,
        "is worse calibrated: its calibration error grew by",
        "the current model stays; export it with more validation data",
    )


def _judge_interval(
    name: str, found: Estimate, limit: str, failed: bool, problem: str, remedy: str
) -> Check:
    interval = f"{found.low:+.4f} to {found.high:+.4f}"
    text = f"{problem} {found.value:+.4f} ({interval}), more than sampling error" if failed else ""
    return Check(name, None, found.value, limit, interval, text, remedy)
