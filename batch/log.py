"""What a run says while it goes on: lines for people, or a JSON object a line for programs."""

from __future__ import annotations

import json
import math
import os
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
    """How events are written."""

    TEXT = "text"
    JSON = "json"


class Level(StrEnum):
    """How much an event matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Event(StrEnum):
    """What happened, in one word that a program can match; see docs/run-record.md."""

    WAITING = "waiting"
    OPENED = "opened"
    JOURNAL_BROKEN = "journal_broken"
    LEFT_OUT = "left_out"
    FOUND = "found"
    PROGRESS = "progress"
    PHOTOS_MISSING = "photos_missing"
    STOPPING = "stopping"
    PART_PASSED_OVER = "part_passed_over"
    ACTOR_LOST = "actor_lost"
    PARTS_LEFT = "parts_left"
    DRIFT = "drift"
    PUBLISHED = "published"
    UP_TO_DATE = "up_to_date"
    NOT_RECORDED = "not_recorded"
    FAILURES = "failures"
    SUMMARY = "summary"
    ERROR = "error"


class Log(Protocol):
    """Takes events; whatever becomes of where they are written, the run goes on."""

    def __call__(
        self, event: Event, message: str, level: Level = Level.INFO, **fields: object
    ) -> None:
        """Write one event as one line; ``message`` is for people, ``fields`` for programs."""


class TextLog:
    """Writes the messages alone, one line an event."""

    def __init__(self, stream: TextIO | None, min_level: Level = Level.INFO) -> None:
        self._lines = _LineWriter(stream)
        self._least = min_level

    def __call__(
        self, event: Event, message: str, level: Level = Level.INFO, **fields: object
    ) -> None:
        """Write the message, with the program's name in front where something is wrong."""
        if not _is_logged(level, self._least):
            return
        if level is not Level.INFO:
            warning = "warning: " if level is Level.WARNING else ""
            message = f"{PROGRAM}: {warning}{message}"
        self._lines.write(escape_line(message))


class JsonLog:
    """Writes a JSON object an event, in ASCII: time, level, event, message, then the fields."""

    def __init__(
        self,
        stream: TextIO | None,
        min_level: Level = Level.INFO,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._lines = _LineWriter(stream)
        self._least = min_level
        self._now = now

    def __call__(
        self, event: Event, message: str, level: Level = Level.INFO, **fields: object
    ) -> None:
        """Write the event; of fields that are called as the first four, those four win."""
        if not _is_logged(level, self._least):
            return
        first = {
            "time": utc_text(self._now()),
            "level": level.value,
            "event": event.value,
            "message": message,
        }
        more = {key: _to_json_value(value) for key, value in fields.items() if key not in first}
        # JSON's own escapes leave the last control character of ASCII as it is.
        self._lines.write(json.dumps(first | more).replace("\x7f", "\\u007f"))


def open_log(stream: TextIO | None, form: LogFormat, quiet: bool = False) -> Log:
    """Make the log of a run; a quiet one writes only what is wrong.

    ``stream`` is None where the process has no standard error.
    """
    min_level = Level.WARNING if quiet else Level.INFO
    return JsonLog(stream, min_level) if form is LogFormat.JSON else TextLog(stream, min_level)


def count_text(number: int, noun: str) -> str:
    """Write a number with its noun, whose plural ends in s: ``1 photo``, ``2,000 photos``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def escape_line(text: str) -> str:
    """Escape what would break a line or steer a terminal; backslashes stay as they are."""
    return "\\".join(printable_text(part) for part in text.split("\\"))


class _LineWriter:
    """Writes whole lines to a stream, past its buffer, and drops what can't be written.

    A line that stayed in the buffer of a stream whose reader has gone would be tried again
    as Python ends, and change the process's exit code.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._is_torn = False

    def write(self, line: str) -> None:
        if self._stream is None:
            return
        # ValueError is what a closed stream raises.
        with suppress(OSError, ValueError):
            try:
                descriptor = self._stream.fileno()
            except OSError:  # a stream in memory
                self._stream.write(line + "\n")
                self._stream.flush()
                return
            self._stream.flush()
            self._send(descriptor, line)

    def _send(self, descriptor: int, line: str) -> None:
        data = memoryview((("\n" if self._is_torn else "") + line + "\n").encode())
        sent = 0
        try:
            while sent < len(data):
                sent += os.write(descriptor, data[sent:])
                self._is_torn = sent < len(data)
        except OSError:
            self._is_torn = self._is_torn or sent > 0
            raise


def _is_logged(level: Level, min_level: Level) -> bool:
    levels = list(Level)
    return levels.index(level) >= levels.index(min_level)


def _to_json_value(value: object) -> object:
    """Turn a field's value into what JSON has."""
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
