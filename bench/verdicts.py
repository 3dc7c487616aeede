"""What the command and the reference say of the same photos, and how often they agree."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.path_text import path_text
from bench.command import CommandError, label_photos
from bench.labelled import find_truth
from bench.reference import PhotoVerdict, ReferenceLabeller

# Of outcomes, where nothing tells which of two is right, and where labels do.
MIN_SAME = 0.985
MIN_SAME_NAMED = 0.97
MAX_LOST = 0.005


@dataclass(frozen=True)
class VerdictPair:
    """Both verdicts on a photo; ``truth`` is the label that its folder is named after."""

    path: str
    truth: str | None
    command: PhotoVerdict
    reference: PhotoVerdict


@dataclass(frozen=True)
class Agreement:
    """Shares (0 to 1) of photos, and counts.

    Attributes:
        same_outcome: photos of the same label or, without one, of the same status.
        sure: photos that are ``ok`` either way.
        same_outcome_of_sure: share of those; None without such photos.
        named: photos in folders named like labels; the last four are shares of these.
        accuracy: share of those that are ``ok`` which have the right label; None without such
            photos.
        coverage: share that is ``ok``; None if no photo is named.
    """

    photos: int
    same_outcome: float
    same_status: float
    sure: int
    same_outcome_of_sure: float | None
    faces: int
    reference_faces: int
    photos_with_more_faces: int
    photos_with_fewer_faces: int
    named: int
    accuracy: float | None
    coverage: float | None
    reference_accuracy: float | None
    reference_coverage: float | None

    @property
    def holds(self) -> bool:
        """Whether the command may be called as good as the reference."""
        lost = max(
            (self.reference_accuracy or 0) - (self.accuracy or 0),
            (self.reference_coverage or 0) - (self.coverage or 0),
        )
        least = MIN_SAME_NAMED if self.named else MIN_SAME
        return self.same_outcome >= least and lost <= MAX_LOST


def compare_folder(folder: Path, reference: ReferenceLabeller, model: str) -> list[VerdictPair]:
    """Label a folder both ways.

    Raises:
        CommandError: the command failed, or found no photo.
    """
    folder = folder.resolve()
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "r.csv"
        label_photos([folder], "--provider", "cpu", "-m", model, report=report, incomplete=True)
        with report.open(encoding="utf-8", newline="") as file:
            found = {row["path"]: row for row in csv.DictReader(file)}
    if not found:
        raise CommandError(f"there is no photo in {folder}")
    labels = reference.labels
    return [
        VerdictPair(
            path=path_text(path.relative_to(folder)),
            truth=find_truth(path.relative_to(folder), labels),
            command=_parse_verdict(found[path_text(path)]),
            reference=reference.judge(path),
        )
        for path in sorted(folder.rglob("*"))
        if path_text(path) in found
    ]


def measure_agreement(pairs: Sequence[VerdictPair]) -> Agreement:
    """Sum up verdicts."""
    more = [pair.command.faces - pair.reference.faces for pair in pairs]
    sure = [pair for pair in pairs if pair.command.is_ok or pair.reference.is_ok]
    named = [pair for pair in pairs if pair.truth is not None]
    command = [(pair.command, pair.truth) for pair in named]
    expected = [(pair.reference, pair.truth) for pair in named]
    return Agreement(
        photos=len(pairs),
        same_outcome=_share(p.command.outcome == p.reference.outcome for p in pairs) or 0.0,
        same_status=_share(p.command.status == p.reference.status for p in pairs) or 0.0,
        sure=len(sure),
        same_outcome_of_sure=_share(p.command.outcome == p.reference.outcome for p in sure),
        faces=sum(pair.command.faces for pair in pairs),
        reference_faces=sum(pair.reference.faces for pair in pairs),
        photos_with_more_faces=sum(n > 0 for n in more),
        photos_with_fewer_faces=sum(n < 0 for n in more),
        named=len(named),
        accuracy=_accuracy(command),
        coverage=_share(verdict.is_ok for verdict, _ in command),
        reference_accuracy=_accuracy(expected),
        reference_coverage=_share(verdict.is_ok for verdict, _ in expected),
    )


def _parse_verdict(row: dict[str, str]) -> PhotoVerdict:
    confidence = float(row["confidence"] or 0)
    return PhotoVerdict(row["status"], row["label"], confidence, int(row["faces"] or 0))


def _accuracy(verdicts: Sequence[tuple[PhotoVerdict, str | None]]) -> float | None:
    return _share(verdict.label == truth for verdict, truth in verdicts if verdict.is_ok)


def _share(equal: Iterable[bool]) -> float | None:
    found = list(equal)
    return sum(found) / len(found) if found else None
