"""Evaluations as text for people."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batch.path_text import printable_text
from trainer.evaluate import Evaluation
from trainer.evaluation.bootstrap import Estimate
from trainer.evaluation.end_to_end import EndToEnd
from trainer.evaluation.selective import Selective
from trainer.gate import Comparison
from trainer.reviewing.retrial import Retrial

CORNER = "true / answer"
OUTCOME_CORNER = "true / outcome"
NO_SAMPLE = "People review the least certain answers first: these are no sample of all photos."

# Characters of a kind that are shown.
MAX_KIND = 60


def table(evaluation: Evaluation) -> str:
    """Lay an evaluation out as text; a label without samples has no line of its own."""
    rows = [
        ("samples", str(evaluation.samples)),
        ("accuracy", interval(evaluation.accuracy)),
        ("balanced accuracy", interval(evaluation.balanced_accuracy)),
        ("macro F1", interval(evaluation.macro_f1)),
        *(
            (f"recall of {label}", interval(share))
            for label, share in zip(evaluation.labels, evaluation.recall, strict=True)
            if not math.isnan(share.value)
        ),
        ("calibration error", interval(evaluation.calibration_error)),
        ("log loss", f"{evaluation.log_loss:.4f}"),
    ]
    text = f"{columns(rows)}\n\n{_confusion(evaluation)}"
    if evaluation.selective is None:
        return text
    return f"{text}\n\nBy the model's own thresholds:\n\n{selective_table(evaluation.selective)}"


def selective_table(found: Selective) -> str:
    """Lay out what a model's decisions come to, with a line per class and per kind."""
    rows = [
        (f"right, if all {found.labelled} with a label get one", interval(found.always)),
        ("right, of the labels that count", interval(found.accuracy)),
        *(
            (f"{label}: gets its label, and it counts", interval(estimate))
            for label, estimate in zip(found.labels, found.coverage, strict=True)
            if not math.isnan(estimate.value)
        ),
        *(
            (f"{name}: gets a label that counts", interval(estimate))
            for name, estimate in zip(found.abstain, found.answered, strict=True)
            if not math.isnan(estimate.value)
        ),
        ("AUGRC", interval(found.augrc)),
    ]
    classes = (*found.labels, *found.abstain)
    counts = [
        (name, *map(str, row))
        for name, row in zip(classes, found.confusion, strict=True)
        if sum(row)
    ]
    text = f"{columns(rows)}\n\n{grid((OUTCOME_CORNER, *found.outcomes), counts)}"
    if not found.kinds:
        return text
    head, kinds = kind_rows(found)
    return f"{text}\n\n{grid(head, kinds)}"


def kind_rows(found: Selective) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table by kind; ``always`` is empty for a kind without labels."""
    others = tuple(found.kinds[0].outcomes) if found.kinds else ()
    rows = [
        (
            printable_text(row.kind)[:MAX_KIND],
            str(row.samples),
            str(row.ok),
            str(row.right),
            *(str(row.outcomes[name]) for name in others),
            "" if row.always is None else f"{row.always:.3f}",
        )
        for row in found.kinds
    ]
    return ("kind", "samples", "ok", "right", *others, "always"), rows


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table whose first column is text and whose others are numbers."""
    lines = [head, *rows]
    widths = [max(len(line[n]) for line in lines) + 2 for n in range(len(head))]
    return "\n".join(
        f"{first:<{widths[0]}}"
        + "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True))
        for first, *cells in lines
    )


def end_to_end_table(found: EndToEnd) -> str:
    """Lay an evaluation of whole photos out as text of several lines."""
    rows = [
        ("photos", str(sum(found.statuses.values()))),
        *((f"  {status}", str(n)) for status, n in found.statuses.items()),
        ("photos with a label", str(found.photos)),
        ("answered", interval(found.coverage)),
        ("right, of all photos", interval(found.accuracy)),
        ("sure, of all photos", interval(found.sure)),
        ("right, of the sure", interval(found.sure_accuracy)),
    ]
    return (
        f"{columns(rows)}\n\n{selective_table(found.selective)}\n\n"
        f"Of the answered photos, by the likeliest output:\n\n{table(found.answered)}"
    )


def comparison_table(comparison: Comparison) -> str:
    """Lay a candidate's differences from the shipped model out as text."""
    rows = [("growth of calibration error", difference(comparison.calibration))]
    if comparison.risk and comparison.coverage:
        rows.append(("growth of the risk of labels that count", difference(comparison.risk)))
        rows.append(("gain in samples that get their label", difference(comparison.coverage)))
    return f"{reviewed_table(comparison)}\n{columns(rows)}"


def reviewed_table(comparison: Comparison) -> str:
    """Lay the same out for reviewed samples, on which confidences can't be judged."""
    rows = [
        ("samples", str(comparison.samples)),
        ("right by the candidate alone", str(comparison.won)),
        ("right by the shipped alone", str(comparison.lost)),
        ("gain in balanced accuracy", difference(comparison.accuracy)),
    ]
    return columns(rows)


def retrial_table(retrial: Retrial) -> str:
    """Lay out what was right of reviewed answers then and now."""
    rows = [
        ("reviewed", str(retrial.corrections + retrial.confirmations)),
        ("right in the report", interval(retrial.before)),
        ("right now", interval(retrial.now)),
    ]
    if retrial.corrections:
        rows.append((f"  of {retrial.corrections} corrected", interval(retrial.corrected)))
    if retrial.confirmations:
        rows.append((f"  of {retrial.confirmations} confirmed", interval(retrial.confirmed)))
    return f"{columns(rows)}\n\n{NO_SAMPLE}"


def columns(rows: list[tuple[str, str]]) -> str:
    """Lay names and values out in two columns."""
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in rows)


def interval(estimate: Estimate) -> str:
    """Write a figure with its 95 % interval in 4 decimals."""
    return f"{estimate.value:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def difference(estimate: Estimate) -> str:
    """Write a difference with its sign and 95 % interval in 4 decimals."""
    return f"{estimate.value:+.4f} ({estimate.low:+.4f} to {estimate.high:+.4f})"


def _confusion(evaluation: Evaluation) -> str:
    first = max(len(CORNER), *map(len, evaluation.labels)) + 2
    width = max(7, *(len(label) + 2 for label in evaluation.labels))
    lines = [f"{CORNER:<{first}}" + "".join(f"{label:>{width}}" for label in evaluation.labels)]
    for label, row in zip(evaluation.labels, evaluation.confusion, strict=True):
        if sum(row):
            lines.append(f"{label:<{first}}" + "".join(f"{n:>{width}}" for n in row))
    return "\n".join(lines)
