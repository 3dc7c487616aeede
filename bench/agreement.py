"""Agreement of the command's labels with those of the reference, which takes no shortcuts.

    python -m bench.agreement PHOTOS [--model MODEL] [--reference MODEL] [--markdown] [--json FILE]

PHOTOS is a folder or a zip file of photos, or the FER+ data set, of which the test part is used.
The outcome of a photo is its label or, without one, its status. The reference converts the
model's integer weights to floats, which keeps their rounding; to compare without that rounding,
name the same model with float weights (``trainer export --weights float32``) with --reference.

If photos are in folders named after labels, such as happy/ and sad/, two more shares are
reported: the photos that are ok, and the ok photos whose label is right. The exit code is 1 if
either share is more than half a point below the reference's, or if too few outcomes are the same:
fewer than 97 % of labelled photos, or than 98.5 % of photos without labels.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from batch.options import DEFAULT_MODEL
from batch.path_text import path_text
from bench.command import CommandError, label_photos
from bench.labelled import find_truth, unpack_photos
from bench.reference import SIDES, PhotoVerdict, ReferenceLabeller
from bench.tables import Table

# The least shares of equal outcomes, for photos without and with known labels.
MIN_SAME = 0.985
MIN_SAME_NAMED = 0.97
# The most that accuracy or coverage may be below the reference's.
MAX_LOST = 0.005


@dataclass(frozen=True)
class VerdictPair:
    """The verdicts of the command and of the reference on one photo.

    Attributes:
        path: the path, relative to the folder of photos.
        truth: the label that the photo's folder is named after; None if it has none.
        command: the verdict of the command.
        reference: the verdict of the reference.
    """

    path: str
    truth: str | None
    command: PhotoVerdict
    reference: PhotoVerdict


@dataclass(frozen=True)
class Agreement:
    """Counts of photos and shares (0 to 1) over a set of photos.

    Attributes:
        photos: the number of photos.
        same_outcome: share of photos with the same label or, without one, the same status.
        same_status: share of photos with the same status.
        sure: the number of photos that are ``ok`` for the command or the reference.
        same_outcome_of_sure: share of these with the same outcome; None if there are none.
        faces: the number of faces that the command found.
        reference_faces: the number of faces that the reference found.
        photos_with_more_faces: photos in which the command found more faces.
        photos_with_fewer_faces: photos in which the command found fewer faces.
        named: the number of photos in folders named after labels.
        accuracy: share of the named ``ok`` photos with the right label; None if there are none.
        coverage: share of the named photos that are ``ok``; None if there are none.
        reference_accuracy: ``accuracy`` of the reference.
        reference_coverage: ``coverage`` of the reference.
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
        """Whether the command is as good as the reference, within the limits above."""
        lost = max(
            (self.reference_accuracy or 0) - (self.accuracy or 0),
            (self.reference_coverage or 0) - (self.coverage or 0),
        )
        least = MIN_SAME_NAMED if self.named else MIN_SAME
        return self.same_outcome >= least and lost <= MAX_LOST


def compare_folder(folder: Path, reference: ReferenceLabeller, model: str) -> list[VerdictPair]:
    """Label a folder with the command and with the reference.

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
        raise CommandError(f"no photo in {folder}")
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
    """Count and average pairs of verdicts."""
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


def agreement_table(found: Agreement, photos: str, model: str, sides: Sequence[int]) -> Table:
    """Build a table of one row, so that the rows of several photo sets can be joined."""
    row = {
        "Photos": f"{found.photos:,} of {photos}",
        "Model": model,
        "Same outcome": f"{found.same_outcome:.2%}",
        "Same outcome where either is ok": _share_text(found.same_outcome_of_sure, found.sure),
        "Same status": f"{found.same_status:.2%}",
        "Faces, command": f"{found.faces:,}",
        "Faces, reference": f"{found.reference_faces:,}",
        "Photos with more faces": str(found.photos_with_more_faces),
        "With fewer": str(found.photos_with_fewer_faces),
        "Ok, command": _share_text(found.coverage, found.named),
        "Ok, reference": _share_text(found.reference_coverage, found.named),
        "Right of ok, command": _share_text(found.accuracy),
        "Right of ok, reference": _share_text(found.reference_accuracy),
    }
    searched = " and ".join(map(str, sides))
    title = f"Agreement with the reference at {searched} pixels"
    return Table(title, tuple(row), [tuple(row.values())])


def _share_text(share: float | None, photos: int | None = None) -> str:
    if share is None:
        return "-"
    return f"{share:.2%}" if photos is None else f"{share:.2%} of {photos:,}"


def _describe_verdict(verdict: PhotoVerdict) -> str:
    label = f", {verdict.label}" if verdict.label else ""
    return f"{verdict.status}{label} {verdict.confidence:.2f}, {verdict.faces} faces"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table and the photos whose outcomes differ, and return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        with unpack_photos(asked.photos) as folder:
            reference = ReferenceLabeller(asked.reference or asked.model, asked.sides)
            pairs = compare_folder(folder, reference, asked.model)
    except CommandError as error:
        print(f"agreement: {error}", file=sys.stderr)
        return 2
    found = measure_agreement(pairs)
    table = agreement_table(found, asked.photos.name, asked.model, asked.sides)
    print(table.markdown() if asked.markdown else table.aligned())
    for pair in pairs:
        if pair.command.outcome != pair.reference.outcome:
            command, expected = _describe_verdict(pair.command), _describe_verdict(pair.reference)
            print(f"{pair.path}: {command}; the reference: {expected}", file=sys.stderr)
    if asked.json:
        content = {"sums": asdict(found), "photos": [asdict(pair) for pair in pairs]}
        asked.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if found.holds else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.agreement", description=__doc__)
    add = parser.add_argument
    add("photos", type=Path, help="folder or zip file of photos")
    add(
        "--sides",
        type=int,
        nargs="+",
        default=list(SIDES),
        help="longer side of the photo for the reference's face detection, in pixels",
    )
    add("--model", default=DEFAULT_MODEL, help="model, as for the command")
    add("--reference", help="model of the reference, if it differs from --model")
    add("--markdown", action="store_true", help="print the table of docs/performance.md")
    add("--json", type=Path, help="also write the sums and the verdicts on each photo to this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
