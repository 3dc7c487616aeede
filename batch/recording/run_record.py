"""What is kept of a run: see docs/run-record.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import datetime, time
from enum import Enum, StrEnum
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeAlias

from batch.limits import CountLimit, utc_text
from batch.path_text import path_text
from batch.recording.drift import Drift
from batch.recording.host import HostRecord
from batch.shard import Shard, ShardRecord

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Setting: TypeAlias = str | int | float | bool | tuple[str | int, ...] | None


class Outcome(StrEnum):
    """How a run ended, in one word that a program can match."""

    DONE = "done"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    PUBLISHED_ONLY = "published_only"
    DRIFTED = "drifted"
    TIME_IS_UP = "time_is_up"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Seconds:
    """How long it took: ``wall`` on the clock, the stages summed over the workers."""

    wall: float = 0.0
    discover: float = 0.0
    read: float = 0.0
    decode: float = 0.0
    faces: float = 0.0
    crop: float = 0.0
    classify: float = 0.0
    report: float = 0.0


@dataclass(frozen=True)
class Counts:
    """What was found, and what became of every single file."""

    found: int = 0
    labelled_now: int = 0
    reused: int = 0
    missing: int = 0
    away: int = 0
    gone: int = 0
    salvaged: int = 0
    by_cause: Mapping[str, int] = field(default_factory=dict)
    left_out: int = 0
    left_out_by_reason: Mapping[str, int] = field(default_factory=dict)
    by_status: Mapping[str, int] = field(default_factory=dict)
    by_reason: Mapping[str, int] = field(default_factory=dict)
    by_label: Mapping[str, int] = field(default_factory=dict)
    accepted: int = 0


@dataclass(frozen=True)
class ModelRecord:
    """A model that ran, and its file's SHA-256 in hexadecimal."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class DetectorRecord:
    """The face detector that ran, by its file's SHA-256 in hexadecimal."""

    sha256: str


@dataclass(frozen=True)
class RunRecord:
    """All that is kept of a run; the fields are the keys of run.json, in their order.

    ``started`` and ``ended`` are aware datetimes; ``outputs`` are the labels, then the abstain
    outputs that the report has columns for. ``up_to_date`` says that it was left as it was. What a
    run did not get to is None or empty.
    """

    outcome: Outcome
    exit_code: int
    published: bool
    error: str | None
    started: datetime
    ended: datetime
    report: str
    inputs: tuple[str, ...]
    seconds: Seconds
    counts: Counts
    models: tuple[ModelRecord, ...]
    detector: DetectorRecord | None
    provider: str | None
    devices: tuple[int, ...]
    settings: Mapping[str, Setting]
    versions: Mapping[str, str | None]
    host: HostRecord
    drift: Drift | None = None
    basis: str | None = None
    shard: ShardRecord | None = None
    outputs: tuple[str, ...] = ()
    up_to_date: bool = False


def settings_of(*options: DataclassInstance) -> dict[str, Setting]:
    """Flatten records of options, those inside them too, into the settings of run.json."""
    settings: dict[str, Setting] = {}
    for record in options:
        for option in fields(record):
            value = getattr(record, option.name)
            if is_dataclass(value) and not isinstance(value, type | CountLimit | Shard):
                settings.update(settings_of(value))
            else:
                settings[option.name] = _setting(value)
    return settings


def _setting(value: object) -> Setting:
    if isinstance(value, Enum):
        return _setting(value.value)
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, time):
        return f"{value:%H:%M}"
    if isinstance(value, PurePath):
        return path_text(Path(value))
    if isinstance(value, tuple | list):
        return tuple(item if isinstance(item, int) else str(item) for item in value)
    return value if value is None or isinstance(value, str | int | float) else str(value)
