"""Whether the command's outcomes are those of the reference, which takes no short cut.

    python -m bench.agreement PHOTOS [--model MODEL] [--reference MODEL] [--markdown] [--json FILE]

PHOTOS is a folder or a zip file, also that of FER+, of which the test part is taken. The reference
turns the model's integer weights into floats, which keeps their rounding; name the same model with
float weights (``trainer export --weights float32``) with --reference to compare without it. An
outcome is a photo's label or, without one, its status. If photos lie in folders that are named like
labels, such as happy/ and sad/, the share of them that is ok is reported too, and the share of
those that is right. The exit code is 1 if one of the two shares is more than half a point lower
than the reference's, or if fewer than 98.5 % of the outcomes are the same, 97 % if labels tell
which of two is right.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from batch.options import DEFAULT_MODEL
from bench.command import CommandError
from bench.labelled import unpack_photos
from bench.reference import SIDES, PhotoVerdict, ReferenceLabeller
from bench.tables import Table
from bench.verdicts import Agreement, compare_folder, measure_agreement


def agreement_table(found: Agreement, photos: str, model: str, sides: Sequence[int]) -> Table:
    """Lay the sums out in one row, so that those of several sets of photos fit together."""
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
        "Right of ok, command": _percent_text(found.accuracy),
        "Right of ok, reference": _percent_text(found.reference_accuracy),
    }
    searched = " and ".join(map(str, sides))
    title = f"Agreement with the reference at {searched} pixels"
    return Table(title, tuple(row), [tuple(row.values())])


def _describe_verdict(verdict: PhotoVerdict) -> str:
    label = f", {verdict.label}" if verdict.label else ""
    return f"{verdict.status}{label} {verdict.confidence:.2f}, {verdict.faces} faces"


def _share_text(share: float | None, photos: int) -> str:
    return "-" if share is None else f"{share:.2%} of {photos:,}"


def _percent_text(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the sums and the photos that differ, and return the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        with unpack_photos(asked.photos) as folder:
            reference = ReferenceLabeller(asked.reference or asked.model, asked.sides)
            pairs = compare_folder(folder, reference, asked.model)
    except CommandError as error:
        print(f"agreement: {error}", file=sys.stderr)
        return 2
    found = measure_agreement(pairs)
    shown = agreement_table(found, asked.photos.name, asked.model, asked.sides)
    print(shown.markdown() if asked.markdown else shown.aligned())
    for pair in pairs:
        if pair.command.outcome != pair.reference.outcome:
            said = f"{_describe_verdict(pair.command)}; the reference: {_describe_verdict(pair.reference)}"
            print(f"{pair.path}: {said}", file=sys.stderr)
    if asked.json:
        whole = {"sums": asdict(found), "photos": [asdict(pair) for pair in pairs]}
        asked.json.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    return 0 if found.holds else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.agreement", description=__doc__)
    add = parser.add_argument
    add("photos", type=Path, help="a folder or a zip file of photos")
    add("--sides", type=int, nargs="+", default=list(SIDES), help="pixels to find faces at")
    add("--model", default=DEFAULT_MODEL, help="as the command's")
    add("--reference", help="the reference's model, if it is another than the command's")
    add("--markdown", action="store_true", help="print the table of docs/performance.md")
    add("--json", type=Path, help="write the sums and both verdicts on each photo here")
    return parser


if __name__ == "__main__":
    sys.exit(main())
