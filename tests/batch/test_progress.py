from __future__ import annotations

import io
from pathlib import Path

from batch.log import TextLog
from batch.progress import ProgressLog, TerminalProgress
from batch.records import Row, Status

ROWS = [Row(Path(f"{n}.jpg"), Status.NO_FACE) for n in range(5)]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_logged_and_rows_pass_through() -> None:
    stream = io.StringIO()
    assert list(ProgressLog(TextLog(stream), interval=0.0)(ROWS, 7)) == ROWS
    lines = stream.getvalue().splitlines()
    assert lines[-1].startswith("5 of 7 photos, ")
    assert lines[-1].endswith(" photos/s")


def test_a_short_run_logs_no_progress() -> None:
    stream = io.StringIO()
    assert list(ProgressLog(TextLog(stream))(ROWS, None)) == ROWS
    assert stream.getvalue() == ""


def test_the_bar_shows_count_and_rate_on_a_terminal() -> None:
    stream = Terminal()
    assert list(TerminalProgress(stream)(ROWS, len(ROWS))) == ROWS
    assert "5/5" in stream.getvalue()
    assert "photos/s" in stream.getvalue()
