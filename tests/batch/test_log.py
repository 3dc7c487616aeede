"""Every event is one line, and errors on standard error never end a run."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from batch.log import Event, JsonLog, Level, LogFormat, TextLog, count_text, escape_line, open_log
from batch.records import Reason

NOW = datetime(2024, 5, 1, 3, 30, 0, 7_000, tzinfo=UTC)
# What would begin a line, clear a screen, turn the writing round, or is no text at all.
NASTY = "a\nb\rc\x1b[2Jd\u202ee\u2028f\x7fg\x9bh\udcffi"

# A run of its own: its last exit code must be the one that it gives.
RUN = """
import sys
from batch.log import Event, Level, LogFormat, open_log
log = open_log(sys.stderr, LogFormat(sys.argv[1]))
sys.stdin.readline()
for number in range(3):
    log(Event.PROGRESS, f"photo {number}", done=number)
log(Event.ERROR, "the end", Level.ERROR)
print("got through")
sys.exit(3)
"""


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("level", "line"),
    [
        (Level.INFO, "all is well\n"),
        (Level.WARNING, "batch-label: warning: all is well\n"),
        (Level.ERROR, "batch-label: all is well\n"),
    ],
)
def test_text_is_the_message_alone(level: Level, line: str) -> None:
    stream = io.StringIO()
    TextLog(stream)(Event.SUMMARY, "all is well", level, found=3)
    assert stream.getvalue() == line


def test_an_event_in_json_has_everything() -> None:
    stream = io.StringIO()
    log = JsonLog(stream, now=lambda: NOW)
    log(Event.FOUND, "12 found", found=12, rate=1.5, path=Path("a\nb"), why=Reason.EMPTY)
    assert stream.getvalue() == (
        '{"time": "2024-05-01T03:30:00.007Z", "level": "info", "event": "found", '
        '"message": "12 found", "found": 12, "rate": 1.5, "path": "a\\\\nb", "why": "empty"}\n'
    )


def test_fields_are_converted_to_json_values() -> None:
    stream = io.StringIO()
    JsonLog(stream)(
        Event.SUMMARY,
        "done",
        rate=math.nan,
        counts={Reason.EMPTY: 2},
        labels=("happy", "sad"),
        ended=NOW,
        kind=dict,
    )
    (event,) = logged(stream)
    assert event["rate"] is None
    assert event["counts"] == {"empty": 2}
    assert event["labels"] == ["happy", "sad"]
    assert event["ended"] == "2024-05-01T03:30:00.007Z"
    assert event["kind"] == "<class 'dict'>"


def test_a_field_does_not_override_the_first_four() -> None:
    stream = io.StringIO()
    JsonLog(stream, now=lambda: NOW)(Event.FOUND, "found", time="never")
    assert logged(stream)[0]["time"] == "2024-05-01T03:30:00.007Z"


@pytest.mark.parametrize("form", list(LogFormat))
def test_an_event_is_one_printable_line(form: LogFormat) -> None:
    stream = io.StringIO()
    log = open_log(stream, form)
    log(Event.ERROR, NASTY, Level.ERROR, detail=NASTY, **{NASTY: 1})
    line = stream.getvalue()
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    line.encode()


def test_json_round_trips_any_text() -> None:
    stream = io.StringIO()
    JsonLog(stream)(Event.ERROR, NASTY, detail=NASTY)
    assert logged(stream)[0]["message"] == logged(stream)[0]["detail"] == NASTY


def test_text_keeps_the_escapes_of_names_that_are_escaped_already() -> None:
    assert escape_line("no photo a\\nb\n") == "no photo a\\nb\\n"
    assert escape_line("größer \\\\ 写真") == "größer \\\\ 写真"


def test_a_semicolon_before_an_option_stays() -> None:
    text = "r.csv is locked; --wait waits for it; =1"
    assert escape_line(text) == text


@pytest.mark.parametrize("form", list(LogFormat))
def test_a_quiet_log_has_only_warnings_and_errors(form: LogFormat) -> None:
    stream = io.StringIO()
    log = open_log(stream, form, quiet=True)
    log(Event.SUMMARY, "fine")
    assert stream.getvalue() == ""
    log(Event.DRIFT, "odd", Level.WARNING)
    log(Event.ERROR, "bad", Level.ERROR)
    assert len(stream.getvalue().splitlines()) == 2


@pytest.mark.parametrize("form", list(LogFormat))
def test_a_log_without_a_stream_drops_events(form: LogFormat) -> None:
    open_log(None, form)(Event.SUMMARY, "nobody listens")


@pytest.mark.parametrize("form", list(LogFormat))
def test_a_closed_stream_raises_nothing(form: LogFormat, tmp_path: Path) -> None:
    real, memory = (tmp_path / "log").open("w"), io.StringIO()
    for stream in (real, memory):
        log = open_log(stream, form)
        stream.close()
        log(Event.SUMMARY, "nobody listens")
    assert (tmp_path / "log").read_text() == ""


def test_lines_keep_their_order_among_other_output(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        stream.write("first\n")
        TextLog(stream)(Event.SUMMARY, "second")
        stream.write("third\n")
    assert (tmp_path / "log").read_text() == "first\nsecond\nthird\n"


def test_a_torn_line_is_ended_before_the_next(tmp_path: Path) -> None:
    """As on a full disk with room for part of a line."""
    path = tmp_path / "log"
    program = """
import resource, signal, sys
from batch.log import Event, TextLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open(sys.argv[1], "w") as stream:
    log = TextLog(stream)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, resource.RLIM_INFINITY))
    log(Event.SUMMARY, "a line of many letters")
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    log(Event.SUMMARY, "the next")
    log(Event.SUMMARY, "the last")
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=True)
    assert path.read_text() == "a line of \nthe next\nthe last\n"


@pytest.mark.parametrize("form", list(LogFormat))
def test_a_reader_that_goes_away_changes_nothing(form: LogFormat) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, form],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert run.stdin is not None
    assert run.stdout is not None
    assert run.stderr is not None
    run.stderr.close()
    run.stdin.write(b"\n")
    run.stdin.close()
    assert run.stdout.read() == b"got through\n"
    run.stdout.close()
    assert run.wait() == 3


@pytest.mark.parametrize("form", list(LogFormat))
def test_a_process_without_standard_error_logs_nowhere(form: LogFormat) -> None:
    shell = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", RUN, form]
    run = subprocess.run(shell, input=b"\n", stdout=subprocess.PIPE)
    assert (run.returncode, run.stdout) == (3, b"got through\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_changes_nothing() -> None:
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-c", RUN, "json"], input=b"\n", stdout=subprocess.PIPE, stderr=full
        )
    assert (run.returncode, run.stdout) == (3, b"got through\n")


def test_one_is_not_plural() -> None:
    assert [count_text(n, "photo") for n in (0, 1, 2, 1000)] == [
        "0 photos", "1 photo", "2 photos", "1,000 photos",
    ]  # fmt: skip
