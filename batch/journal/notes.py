"""Notes of a journal: what later runs need to know about the last published report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from batch.journal.journal import FRESH_NOTE, Journal

REFERENCE_NOTE = "reference"
BASIS_NOTE = "basis"
INPUTS_NOTE = "inputs"
REPORT_NOTE = "report"
REVIEWS_NOTE = "reviews"


@dataclass(frozen=True)
class ReportNote:
    """The last report, if it is one file: tells a run whether it would write the same bytes.

    Attributes:
        sha256: SHA-256 of the file, in hexadecimal.
        made_of: what its bytes depend on besides the rows in the journal.
        outcomes: the counts of its rows, see ``Tally.outcomes``.
    """

    sha256: str
    made_of: Mapping[str, str | None]
    outcomes: Mapping[str, Any]


class JournalNotes:
    """The notes of a journal, by name. All methods raise what ``Journal`` raises."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def reference(self) -> str | None:
        """The ``Baseline`` of drift detection as JSON, see ``recording.drift``."""
        return self._journal.read_note(REFERENCE_NOTE)

    @property
    def basis(self) -> dict[str, str]:
        """The models and settings of the rows, in words; empty before the first report."""
        return self._read_object(BASIS_NOTE)

    @property
    def inputs(self) -> str | None:
        """The inputs and search options of the last report, as text."""
        return self._journal.read_note(INPUTS_NOTE)

    @property
    def reviews(self) -> int:
        """The number of people's answers that the last report was made with."""
        text = self._journal.read_note(REVIEWS_NOTE) or ""
        return int(text) if text.isdecimal() else 0

    @property
    def starts_over(self) -> bool:
        """Whether a run with ``--fresh`` has begun and no report was published since."""
        return bool(self._journal.read_note(FRESH_NOTE))

    @property
    def report(self) -> ReportNote | None:
        """The last report; None if rows have changed since or it is not one file."""
        try:
            return ReportNote(**self._read_object(REPORT_NOTE))
        except TypeError:
            return None

    def clear_report(self) -> None:
        """Forget the last report: call it before the first row changes."""
        self._journal.write_note(REPORT_NOTE, "")

    def save(
        self,
        *,
        reference: Mapping[str, Any],
        basis: Mapping[str, str],
        inputs: str,
        reviews: int,
        report: ReportNote | None,
    ) -> None:
        """Store the notes of a published report; without ``report`` the earlier one stays."""
        write = self._journal.write_note
        write(REFERENCE_NOTE, json.dumps(reference))
        if report:
            write(REPORT_NOTE, json.dumps(asdict(report)))
        write(BASIS_NOTE, json.dumps(basis))
        write(INPUTS_NOTE, inputs)
        write(REVIEWS_NOTE, str(reviews))
        write(FRESH_NOTE, "")

    def _read_object(self, name: str) -> dict[str, Any]:
        try:
            values = json.loads(self._journal.read_note(name) or "{}")
        except ValueError:
            return {}
        return values if isinstance(values, dict) else {}
