"""Evaluations as text for people."""

from __future__ import annotations

import math

from trainer.evaluate import Evaluation
from trainer.evaluation.bootstrap import Estimate
from trainer.evaluation.end_to_end import EndToEnd
from trainer.gate import Comparison
from trainer.reviewing.retrial import Retrial

CORNER = "true / answer"
NO_SAMPLE = "People review the least certain answers first: these are no sample of all photos."


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
    return f"{columns(rows)}\n\n{_confusion(evaluation)}"


def end_to_end_table(found: EndToEnd) -> str:
    """Lay an evaluation of whole photos out as text of several lines."""
    rows = [
        ("photos", str(found.photos)),
        *((f"  {status}", str(n)) for status, n in found.statuses.items()),
        ("answered", interval(found.coverage)),
        ("right, of all photos", interval(found.accuracy)),
        ("sure, of all photos", interval(found.sure)),
        ("right, of the sure", interval(found.sure_accuracy)),
    ]
    return f"{columns(rows)}\n\nOf the answered photos:\n\n{table(found.answered)}"


def comparison_table(comparison: Comparison) -> str:
    """Lay a candidate's differences from the shipped model out as text."""
    growth = ("growth of calibration error", difference(comparison.calibration))
    return f"{reviewed_table(comparison)}\n{columns([growth])}"


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
