"""Event log on standard error: text for people, or one JSON object per line for programs.

Not the standard ``logging`` module: an event has a name and typed fields, and a line must neither
stay in a buffer nor change the exit code when standard error is closed, full or missing.
"""

from __future__ import annotations

import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from enum import Enum, StrEnum
from pathlib import Path, PurePath
from typing import Protocol, TextIO

from batch.limits import utc_now, utc_text
from batch.path_text import path_text, printable_text

PROGRAM = "batch-label"


class LogFormat(StrEnum):
    """Format of the log."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """Severity of an event, in ascending order."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(StrEnum):
    """Name of an event, for programs; docs/run-record.md describes each."""

    WAITING = "waiting"
    OPENED = "opened"
    JOURNAL_BROKEN = "journal_broken"
    MODEL_HIDDEN = "model_hidden"
    LEFT_OUT = "left_out"
    FOUND = "found"
    NOT_COMPARED = "not_compared"
    PROGRESS = "progress"
    PHOTOS_MISSING = "photos_missing"
    STOPPING = "stopping"
    PART_PASSED_OVER = "part_passed_over"
    ACTOR_LOST = "actor_lost"
    PARTS_LEFT = "parts_left"
    DRIFT = "drift"
    REVIEWS = "reviews"
    PUBLISHED = "published"
    UP_TO_DATE = "up_to_date"
    SIDECARS = "sidecars"
    KEPT = "kept"
    NOT_RECORDED = "not_recorded"
    FAILURES = "failures"
    SUMMARY = "summary"
    ERROR = "error"


class Log(Protocol):
    """Writes events; never raises, even if an event can't be written."""

    def __call__(
        self, event: Event, message: str, level: Level = Level.INFO, **fields: object
    ) -> None:
        """Write one event as one line.

        Args:
            event: its name.
            message: one line for people.
            level: its severity.
            fields: values for programs, by name.
        """


def open_log(stream: TextIO | None, form: LogFormat, quiet: bool = False) -> Log:
    """Open the log of a run.

    Args:
        stream: where lines are written; None if the process has no standard error.
        form: text or JSON.
        quiet: write only warnings and errors.
    """
    min_level = Level.WARNING if quiet else Level.INFO
    return JsonLog(stream, min_level) if form is LogFormat.JSON else TextLog(stream, min_level)


class _LineLog(ABC):
    """Writes each event as a whole line, unbuffered, and drops what can't be written.

    If the reader of a stream is gone, Python would write a buffered line again at exit, fail, and
    change the exit code of the process.
    """

    def __init__(self, stream: TextIO | None, min_level: Level = Level.INFO) -> None:
        self._stream = stream
        self._levels = list(Level)[list(Level).index(min_level) :]
        self._is_torn = False  # whether the last line was written only in part

    def __call__(
        self, event: Event, message: str, level: Level = Level.INFO, **fields: object
    ) -> None:
        """Write one event; see ``Log``."""
        if level in self._levels and self._stream is not None:
            # A closed stream raises ValueError.
            with suppress(OSError, ValueError):
                self._write_line(self._stream, self._format(event, message, level, fields))

    @abstractmethod
    def _format(
        self, event: Event, message: str, level: Level, fields: Mapping[str, object]
    ) -> str:
        """Format an event as one line, without the newline."""

    def _write_line(self, stream: TextIO, line: str) -> None:
        try:
            descriptor = stream.fileno()
        except OSError:  # a stream in memory
            stream.write(line + "\n")
            stream.flush()
            return
        stream.flush()
        data = memoryview((("\n" if self._is_torn else "") + line + "\n").encode())
        sent = 0
        try:
            while sent < len(data):
                sent += os.write(descriptor, data[sent:])
                self._is_torn = sent < len(data)
        except OSError:
            self._is_torn = self._is_torn or sent > 0
            raise


class TextLog(_LineLog):
    """Writes only the messages; warnings and errors begin with the program's name."""

    def _format(
        self, event: Event, message: str, level: Level, fields: Mapping[str, object]
    ) -> str:
        if level is not Level.INFO:
            warning = "warning: " if level is Level.WARNING else ""
            message = f"{PROGRAM}: {warning}{message}"
        return escape_line(message)


class JsonLog(_LineLog):
    """Writes JSON objects in ASCII: time, level, event and message, then the event's fields."""

    def __init__(
        self,
        stream: TextIO | None,
        min_level: Level = Level.INFO,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(stream, min_level)
        self._now = now

    def _format(
        self, event: Event, message: str, level: Level, fields: Mapping[str, object]
    ) -> str:
        first = {
            "time": utc_text(self._now()),
            "level": level.value,
            "event": event.value,
            "message": message,
        }
        # A field never overrides one of the first four.
        more = {key: _to_json_value(value) for key, value in fields.items() if key not in first}
        # json.dumps escapes every control character of ASCII but DEL.
        return json.dumps(first | more).replace("\x7f", "\\u007f")


def count_text(number: int, noun: str) -> str:
    """Format a number with its noun, with a plural s: ``1 photo``, ``2,000 photos``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def escape_line(text: str) -> str:
    """Escape newlines and control characters; backslashes stay as they are."""
    return "\\".join(printable_text(part) for part in text.split("\\"))


def _to_json_value(value: object) -> object:
    """Convert a field's value into one that JSON can represent."""
    if isinstance(value, Enum):
        return _to_json_value(value.value)
    if isinstance(value, PurePath):
        return path_text(Path(value))
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, Mapping):
        return {str(_to_json_value(key)): _to_json_value(item) for key, item in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [_to_json_value(item) for item in value]
    return str(value)
