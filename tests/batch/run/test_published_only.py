"""An error after the report is published has an exit code of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.support.runs import BASE_ARGUMENTS, JOURNAL, REPORT, RunFolder, make_photos, wait_for_end

NUMBER = 6
# The command line, with a journal that SQLite can't write to any more from some call on.
REFUSING = """
import sys
import batch.cli.main
from batch.journal.journal import Journal

method = sys.argv.pop(1)
usual = getattr(Journal, method)

def refused(self, *args, **named):
    self._database.execute("PRAGMA query_only = ON")
    return usual(self, *args, **named)

setattr(Journal, method, refused)
batch.cli.main.main()
"""


def _run(place: RunFolder, method: str) -> subprocess.CompletedProcess[str]:
    return wait_for_end(
        place.start_script(REFUSING, method, *BASE_ARGUMENTS, "photos", "-o", REPORT)
    )


def test_a_journal_that_can_t_be_updated_is_an_error(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", NUMBER)
    place.label()
    report = place.report.read_bytes()
    (tmp_path / "photos" / "00000.jpg").unlink()
    ran = _run(place, "forget_missing")
    assert ran.returncode == ExitCode.PUBLISHED_ONLY, ran.stderr
    last = ran.stderr.splitlines()[-1]
    assert f"the report {REPORT} is published, but its journal" in last
    assert "readonly" in last
    assert "run the same command again" in last
    assert place.report.read_bytes() != report
    record = place.record()
    assert (record["outcome"], record["exit_code"]) == ("published_only", 5)
    assert record["published"] is True
    assert not (tmp_path / f"{JOURNAL}.broken").exists()
    counts = place.label()
    assert (counts["found"], counts["labelled_now"]) == (NUMBER - 1, 0)


# By a note the journal says that it knows of no report that is up to date any more.
@pytest.mark.parametrize("method", ["write_note", "add"])
def test_nothing_is_published_if_rows_can_t_be_written(tmp_path: Path, method: str) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", NUMBER)
    place.label()
    report = place.report.read_bytes()
    make_photos(tmp_path / "photos", NUMBER, first=NUMBER)
    ran = _run(place, method)
    assert ran.returncode == ExitCode.FAILED, ran.stderr
    assert f"{JOURNAL} can't be written" in ran.stderr.splitlines()[-1]
    assert place.report.read_bytes() == report
    assert place.record()["published"] is False
    assert place.label()["labelled_now"] == NUMBER
