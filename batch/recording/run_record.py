"""What a run runs on: the machine, and the versions of what answers depend on."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import datetime, time
from enum import Enum, StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from batch.limits import CountLimit, utc_text
from batch.location import Location, Url
from batch.path_text import path_text
from batch.recording.drift import Drift
from batch.reports.whole_file import AtomicFile, AtomicObject
from batch.shard import Shard, ShardRecord

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


# Whichever of its builds is installed.
_ONNX_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")


@dataclass(frozen=True)
class HostRecord:
    """The machine, and the cores that the run was allowed."""

    name: str
    system: str
    cores: int


def find_versions() -> dict[str, str | None]:
    """Look up the versions of what answers depend on; None for what is not installed."""
    return {
        "batch-label": find_version("batch-label"),
        "python": platform.python_version(),
        "onnxruntime": next(filter(None, map(find_version, _ONNX_RUNTIMES)), None),
        "pillow": find_version("pillow"),
        "numpy": find_version("numpy"),
    }


def describe_host(cores: int) -> HostRecord:
    """Describe this machine; ``cores`` are those that the process may use."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return HostRecord(platform.node(), system, cores)


def find_version(package: str) -> str | None:
    """Look up a package's version; None if it is not installed, as in a copy of the source."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# == What is kept of a run: see docs/run-record.md.

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
class StageSeconds:
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
class RunCounts:
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
    seconds: StageSeconds
    counts: RunCounts
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


def flatten_options(*options: DataclassInstance) -> dict[str, Setting]:
    """Flatten records of options, those inside them too, into the settings of run.json."""
    settings: dict[str, Setting] = {}
    for record in options:
        for option in fields(record):
            value = getattr(record, option.name)
            if is_dataclass(value) and not isinstance(value, type | CountLimit | Shard):
                settings.update(flatten_options(value))
            else:
                settings[option.name] = _to_setting(value)
    return settings


def _to_setting(value: object) -> Setting:
    if isinstance(value, Enum):
        return _to_setting(value.value)
    if isinstance(value, datetime):
        return utc_text(value)
    if isinstance(value, time):
        return f"{value:%H:%M}"
    if isinstance(value, PurePath):
        return path_text(Path(value))
    if isinstance(value, tuple | list):
        return tuple(item if isinstance(item, int) else str(item) for item in value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


# == The file of a run's record, ``results.csv.run.json`` beside ``results.csv``.

SCHEMA_VERSION = 1
RECORD_SUFFIX = ".run.json"


def local_record_file(report: Path) -> AtomicFile:
    """Name the record of a report's runs: ``results.csv.run.json`` beside ``results.csv``."""
    return AtomicFile(
        report.with_name(report.name + RECORD_SUFFIX), "run record", "choose another path with -o"
    )


def record_file(report: Location) -> AtomicFile | AtomicObject:
    """Name the record of a report's runs, also that of one in a store."""
    if isinstance(report, Url):
        return AtomicObject(Url(report.text.rstrip("/") + RECORD_SUFFIX), "run record")
    return local_record_file(report)


def write_record(file: AtomicFile | AtomicObject, record: RunRecord) -> None:
    """Write a run's record in the earlier one's place.

    Raises:
        OutputError: the system refuses; the earlier record stays.
    """
    text = json.dumps(to_json(record), indent=2, ensure_ascii=False, allow_nan=False)
    # What is no UTF-8 becomes an escape, which is JSON's own as well.
    file.write(f"{text}\n".encode("utf-8", "backslashreplace"))


def read_record(file: AtomicFile | AtomicObject) -> RunRecord | None:
    """Read the record that an earlier run left.

    None where there is none, and where it is damaged or of another schema: a record is for
    people and monitors, and no run depends on one.
    """
    try:
        values = json.loads(file.read() or b"")
        if values["schema_version"] != SCHEMA_VERSION:
            return None
        # What a later version adds is passed over, and what the first ones lack has its default.
        return msgspec.convert(values, RunRecord)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def to_json(record: RunRecord) -> dict[str, Any]:
    """Give a record as the object that run.json holds."""
    times = {"started": utc_text(record.started), "ended": utc_text(record.ended)}
    return {"schema_version": SCHEMA_VERSION} | asdict(record) | times
