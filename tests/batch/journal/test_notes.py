"""Notes of a journal: what later runs read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batch.journal.journal import Journal
from batch.journal.notes import REPORT_NOTE, JournalNotes, ReportNote

REPORT = ReportNote("0" * 64, {"report": "r.csv", "version": None}, {"by_status": {"ok": 2}})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal", b"basis") as journal:
        yield journal


def test_a_new_journal_has_no_notes(journal: Journal) -> None:
    notes = JournalNotes(journal)
    assert (notes.reference, notes.inputs, notes.report) == (None, None, None)
    assert notes.basis == {}
    assert not notes.starts_over


def test_notes_are_read_as_they_were_saved(journal: Journal) -> None:
    journal.plan_run([], fresh=True, verify=False)
    notes = JournalNotes(journal)
    assert notes.starts_over
    notes.save(reference={"runs": 1}, basis={"models": "a"}, inputs="[]", reviews=2, report=REPORT)
    assert (notes.reference, notes.inputs, notes.report) == ('{"runs": 1}', "[]", REPORT)
    assert notes.basis == {"models": "a"}
    assert notes.reviews == 2
    assert not notes.starts_over


def test_a_report_stays_noted_until_it_is_cleared(journal: Journal) -> None:
    notes = JournalNotes(journal)
    for report in (REPORT, None):
        notes.save(reference={}, basis={}, inputs="", reviews=0, report=report)
        assert notes.report == REPORT
    notes.clear_report()
    assert notes.report is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"sha256": ""}'])
def test_an_invalid_report_note_is_ignored(journal: Journal, text: str) -> None:
    journal.write_note(REPORT_NOTE, text)
    assert JournalNotes(journal).report is None
