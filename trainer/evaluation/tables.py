"""Evaluations as text tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from batch.path_text import printable_text
from trainer.evaluation.calibration_error import MIN_CALIBRATION_SAMPLES
from trainer.evaluation.corruptions import CorruptionMetrics
from trainer.evaluation.end_to_end import EndToEndEvaluation
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.gate_checks import Check, Comparison
from trainer.evaluation.metrics import Estimate
from trainer.evaluation.review_evaluation import ReviewEvaluation
from trainer.evaluation.selective import SelectiveMetrics

CORNER = "true / answer"
OUTCOME_CORNER = "true / outcome"
BIASED_SAMPLE_NOTE = (
    "People review the least certain answers first: this is not a random sample of the photos."
)
RANDOM_SAMPLE_NOTE = (
    "The reviewed photos are a random sample of the report: these shares are those of all its "
    "photos, within their 95 % intervals."
)
MAX_KIND_CHARACTERS = 60  # of a kind's name
# Reasons for missing answers that a note lists; the others are summed.
MAX_REASONS = 5
# Metrics on fewer samples of a class get a note. Of 30 right answers in 30, the share of wrong ones
# may still be a tenth (Clopper and Pearson, one-sided 95 %).
MIN_SAMPLES = 30
# Instead of a metric of no samples.
NO_SAMPLES = "not measured: no samples"
# Instead of a calibration error.
NOT_MEASURED = f"not measured: fewer than {MIN_CALIBRATION_SAMPLES} samples"


def format_evaluation(evaluation: Evaluation) -> str:
    """Format an evaluation; labels without samples have no line.

    A note says which classes have too few samples for their metrics to mean much.
    """
    counts = [sum(row) for row in evaluation.confusion]
    rows = [
        ("samples", str(evaluation.samples)),
        ("accuracy", format_interval(evaluation.accuracy)),
        ("balanced accuracy", format_interval(evaluation.balanced_accuracy)),
        ("macro F1", format_interval(evaluation.macro_f1)),
        *(
            (f"recall of {label}, {count} samples", format_interval(share))
            for label, count, share in zip(
                evaluation.labels, counts, evaluation.recall, strict=True
            )
            if count
        ),
        ("calibration error", _calibration_text(evaluation.calibration_error, format_interval)),
        ("log loss", f"{evaluation.log_loss:.4f}"),
    ]
    text = f"{format_columns(rows)}\n\n{_format_confusion(evaluation)}"
    if evaluation.independent < evaluation.samples:
        text += f"\n\nNOTE: {describe_groups(evaluation.samples, evaluation.independent)}"
    if evaluation.selective is None:
        note = note_few_samples(dict(zip(evaluation.labels, counts, strict=True)))
        return f"{text}\n\n{note}" if note else text
    return f"{text}\n\nBy the model's own thresholds:\n\n{format_selective(evaluation.selective)}"


def format_selective(found: SelectiveMetrics) -> str:
    """Format the metrics of a model's decisions, with tables by class and by kind."""
    samples = [sum(row) for row in found.confusion]
    counted = sum(sum(row[: len(found.labels)]) for row in found.confusion)
    labelled, others = samples[: len(found.labels)], samples[len(found.labels) :]
    rows = [
        (f"accuracy, if all {found.labelled} with a label get one", format_interval(found.always)),
        (f"accuracy of the {counted} labels that count", format_interval(found.accuracy)),
        *(
            (f"coverage of {label}, {count} samples", format_interval(estimate))
            for label, count, estimate in zip(found.labels, labelled, found.coverage, strict=True)
            if not math.isnan(estimate.value)
        ),
        *(
            (f"{name} with a label that counts, {count} samples", format_interval(estimate))
            for name, count, estimate in zip(found.abstain, others, found.answered, strict=True)
            if not math.isnan(estimate.value)
        ),
        (f"AUGRC, {found.samples} samples", format_interval(found.augrc)),
    ]
    classes = (*found.labels, *found.abstain)
    counts = [
        (name, *map(str, row))
        for name, row in zip(classes, found.confusion, strict=True)
        if sum(row)
    ]
    parts = [format_columns(rows), format_grid((OUTCOME_CORNER, *found.outcomes), counts)]
    if found.kinds:
        parts.append(format_grid(*build_kind_rows(found)))
    note = note_few_samples(dict(zip(classes, samples, strict=True)))
    return "\n\n".join([*parts, note] if note else parts)


def build_kind_rows(found: SelectiveMetrics) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Build header and rows of the table by kind; ``always`` is empty for a kind without labels."""
    others = tuple(found.kinds[0].outcomes) if found.kinds else ()
    rows = [
        (
            printable_text(row.kind)[:MAX_KIND_CHARACTERS],
            str(row.samples),
            str(row.ok),
            str(row.right),
            *(str(row.outcomes[name]) for name in others),
            "" if row.always is None else f"{row.always:.3f}",
        )
        for row in found.kinds
    ]
    return ("kind", "samples", "ok", "right", *others, "always"), rows


def format_corruptions(found: CorruptionMetrics) -> str:
    """Format the metrics on corrupted samples."""
    return f"{describe_corrupted(found)}\n\n{format_grid(*build_corruption_rows(found))}"


def describe_corrupted(found: CorruptionMetrics) -> str:
    """Describe in a sentence which samples were corrupted, and how."""
    drawn = "" if found.samples == found.of else f", drawn from {found.of:,}"
    return (
        f"{found.samples:,} samples{drawn}, corrupted at the size of the model's input; 95 % "
        "intervals, those of the change by a score test of paired answers."
    )


def build_corruption_rows(
    found: CorruptionMetrics,
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Build header and rows of the table of corruptions, in percent and points."""
    rows: list[tuple[str, ...]] = [
        (
            row.name,
            format_percent(row.accuracy),
            "" if row is found.rows[0] else _points_text(row.change),
            f"{row.ok.value:.1%}",
            "" if math.isnan(row.right.value) else format_percent(row.right),
        )
        for row in found.rows
    ]
    return ("corruption", "accuracy", "change in points", "ok", "right of ok"), rows


def format_grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a table: the first column is text, the others are numbers."""
    lines = [head, *rows]
    widths = [max(len(line[n]) for line in lines) + 2 for n in range(len(head))]
    return "\n".join(
        f"{first:<{widths[0]}}"
        + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for first, *cells in lines
    )


def note_few_samples(counts: Mapping[str, int]) -> str:
    """Note which classes have fewer than ``MIN_SAMPLES`` or none, by their counts."""
    missing = [name for name, count in counts.items() if not count]
    notes = [f"NOTE: {describe_missing(missing)}"] if missing else []
    few = [f"{name} ({count})" for name, count in counts.items() if 0 < count < MIN_SAMPLES]
    if few:
        notes.append(
            f"NOTE: fewer than {MIN_SAMPLES} samples of {', '.join(few)}: metrics on so few say "
            "little about other photos."
        )
    return "\n".join(notes)


def describe_groups(samples: int, independent: int) -> str:
    """Say in sentences which intervals count groups instead of samples."""
    return (
        f"The {samples:,} samples are of {independent:,} group{'s' if independent > 1 else ''}, "
        "whose samples depend on each other. The intervals of accuracy, balanced accuracy and "
        "recall count groups; other intervals count samples and may be too narrow."
    )


def describe_missing(classes: Sequence[str]) -> str:
    """Say in a sentence which classes have no sample."""
    return f"no sample of {', '.join(classes)}: no metric says how well the model answers those."


def format_end_to_end(found: EndToEndEvaluation) -> str:
    """Format an end-to-end evaluation."""
    rows = [
        ("photos", str(sum(found.statuses.values()))),
        *((f"  {status}", str(n)) for status, n in found.statuses.items()),
        ("photos with a label", str(found.photos)),
        ("answered", format_interval(found.coverage)),
        ("right, of all photos", format_interval(found.accuracy)),
        ("sure, of all photos", format_interval(found.sure)),
        ("right, of the sure", format_interval(found.sure_accuracy)),
    ]
    return (
        f"{format_columns(rows)}\n\n{format_selective(found.selective)}\n\n"
        f"Of the answered photos, by the likeliest output:\n\n{format_evaluation(found.answered)}"
    )


def format_comparison(comparison: Comparison) -> str:
    """Format a candidate's differences from the current model."""
    growth = _calibration_text(comparison.calibration, format_difference)
    rows = [("growth of calibration error", growth)]
    if comparison.risk and comparison.coverage:
        rows.append(("growth of the risk of labels that count", format_difference(comparison.risk)))
        rows.append(
            ("gain in samples that get their label", format_difference(comparison.coverage))
        )
    return f"{format_reviewed(comparison)}\n{format_columns(rows)}"


def format_reviewed(comparison: Comparison) -> str:
    """Format the differences on reviewed samples, without calibration."""
    rows = [
        ("samples", str(comparison.samples)),
        ("right by the candidate alone", str(comparison.won)),
        ("right by the current model alone", str(comparison.lost)),
        ("gain in balanced accuracy", format_difference(comparison.accuracy)),
    ]
    return format_columns(rows)


def format_checks(checks: Sequence[Check]) -> str:
    """Format the checks of the gate, one per line, with counts, differences and limits."""
    head = ("check", "samples", "won", "lost", "change", "required", "p or interval", "result")
    rows = [head]
    for check in checks:
        counts = check.counts
        paired = (counts.samples, counts.won, counts.lost) if counts else None
        rows.append(
            (
                check.name,
                *(f"{n:,}" for n in paired or ()),
                *(() if paired else ("", "", "")),
                "" if math.isnan(check.difference) else f"{check.difference:+.4f}",
                check.limit,
                check.p,
                check.result,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = range(1, 5)  # aligned to the right
    return "\n".join(
        "  ".join(
            f"{cell:>{width}}" if at in numbers else f"{cell:<{width}}"
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def format_review_evaluation(found: ReviewEvaluation) -> str:
    """Format the accuracies of a report and a model on reviewed answers."""
    rows = [
        ("reviewed", str(found.corrections + found.confirmations)),
        ("right in the report", format_interval(found.before)),
        ("right now", format_interval(found.now)),
    ]
    if found.corrections:
        rows.append((f"  of {found.corrections} corrected", format_interval(found.corrected)))
    if found.confirmations:
        rows.append((f"  of {found.confirmations} confirmed", format_interval(found.confirmed)))
    few = note_few_samples({"reviewed answers": found.corrections + found.confirmations})
    note = note_sample(found.is_random, found.corrections + found.confirmations, found.missing)
    return "\n\n".join(filter(None, (format_columns(rows), few, note)))


def note_sample(is_random: bool, measured: int, missing: Mapping[str, int]) -> str:
    """Say whether reviewed photos represent those of the report.

    Args:
        is_random: whether they are of the random sample of the report.
        measured: number of answers that are measured.
        missing: number of other answers of the random sample, by reason.
    """
    if not is_random:
        return BIASED_SAMPLE_NOTE
    if not missing:
        return RANDOM_SAMPLE_NOTE
    ranked = sorted(missing.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"- {count:,}: {reason}" for reason, count in ranked[:MAX_REASONS]]
    rest = sum(count for _, count in ranked[MAX_REASONS:])
    if rest:
        lines.append(f"- {rest:,}: other reasons")
    total = sum(missing.values())
    are = "is" if total == 1 else "are"
    return "\n".join(
        [
            f"NOTE: {measured:,} of {measured + total:,} answers of the random sample are "
            f"measured. {total:,} {are} missing, not at random, so these shares are not those of "
            "all photos of the report:",
            *lines,
        ]
    )


def format_columns(rows: list[tuple[str, str]]) -> str:
    """Format names and values in two columns."""
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows)


def format_interval(estimate: Estimate) -> str:
    """Format a metric with its 95 % interval."""
    if math.isnan(estimate.value):
        return NO_SAMPLES
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def format_percent(estimate: Estimate) -> str:
    """Format a metric with its 95 % interval, in per cent."""
    if math.isnan(estimate.value):
        return NO_SAMPLES
    return f"{estimate.value:.1%} ({estimate.low:.1%} to {estimate.high:.1%})"


def format_difference(estimate: Estimate) -> str:
    """Format a difference with its sign and 95 % interval."""
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"


def _calibration_text(estimate: Estimate, write: Callable[[Estimate], str]) -> str:
    return NOT_MEASURED if math.isnan(estimate.value) else write(estimate)


def _points_text(estimate: Estimate) -> str:
    value, low, high = (100 * share for share in (estimate.value, estimate.low, estimate.high))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def _format_confusion(evaluation: Evaluation) -> str:
    first = max(len(CORNER), *map(len, evaluation.labels)) + 2
    width = max(7, *(len(label) + 2 for label in evaluation.labels))
    lines = [f"{CORNER:<{first}}" + "".join(f"{label:>{width}}" for label in evaluation.labels)]
    for label, row in zip(evaluation.labels, evaluation.confusion, strict=True):
        if sum(row):
            lines.append(f"{label:<{first}}" + "".join(f"{n:>{width}}" for n in row))
    return "\n".join(lines)
