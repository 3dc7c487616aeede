"""The record of a run, ``run.json``: what ran, how it ended, and what it counted.

docs/run-record.md documents the keys of the file, which are the fields of the records below.
"""

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

SCHEMA_VERSION = 1
RECORD_SUFFIX = ".run.json"
# Distributions of ONNX Runtime; one of them is installed.
_ONNX_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")

Setting: TypeAlias = str | int | float | bool | tuple[str | int, ...] | None


class Outcome(StrEnum):
    """How a run ended, in one word for programs."""

    DONE = "done"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    PUBLISHED_ONLY = "published_only"
    DRIFTED = "drifted"
    TIME_IS_UP = "time_is_up"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class StageSeconds:
    """Durations in seconds.

    Attributes:
        wall: wall-clock time of the run.
        discover: finding the files.
        read: reading files; this and the next four are summed over the workers.
        decode: decoding photos.
        faces: detecting faces.
        crop: resizing photos and faces to the input size of the models.
        classify: running the models.
        report: writing the report, or finding that it is up to date.
    """

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
    """Counts of files.

    Attributes:
        found: files found.
        labelled_now: files that this run processed, including those that failed.
        reused: files whose row comes from an earlier run or from a file of the same content.
        missing: files that no longer exist but stay in the report; not in ``found``.
        away: files in ``missing`` whose folder, archive or input is empty or can't be read.
        gone: files that no longer exist and left the report, except for moved ones.
        salvaged: truncated photos labelled from their readable part.
        by_cause: files that had to be processed, by cause; empty without a journal.
        left_out: entries that discovery skipped.
        left_out_by_reason: skipped entries by reason, such as ``hidden``.
        by_status: files by status.
        by_reason: failed files by the reason of the failure.
        by_label: files of status ``ok`` by label.
        accepted: failed files accepted with ``--accept-failures``.
        reviewed: files in ``by_status`` with an answer that a person gave.
        unmatched_reviews: people's answers that no row of the report has used.
    """

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
    reviewed: int = 0
    unmatched_reviews: int = 0


@dataclass(frozen=True)
class ModelRecord:
    """A model that ran.

    Attributes:
        name: the name in its metadata.
        version: the version in its metadata.
        sha256: SHA-256 of its file, in hexadecimal.
    """

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class DetectorRecord:
    """The face detector that ran.

    Attributes:
        sha256: SHA-256 of its file, in hexadecimal.
    """

    sha256: str


@dataclass(frozen=True)
class HostRecord:
    """The machine.

    Attributes:
        name: host name.
        system: operating system, its release, and the architecture of the processor.
        cores: cores that the process may use.
    """

    name: str
    system: str
    cores: int


@dataclass(frozen=True)
class RunRecord:
    """The record of a run; its fields are the keys of run.json, in this order.

    A field that the run did not reach is None, 0 or empty.

    Attributes:
        outcome: how the run ended.
        exit_code: exit code of the process.
        published: whether the report holds the results of this run.
        error: what ended the run, with its remedy, in one line; None if nothing did.
        started: start of the run, with a time zone.
        ended: when this record was written, with a time zone.
        report: absolute path or URL of the report.
        inputs: the photos given on the command line.
        seconds: durations of the stages.
        counts: counts of files.
        models: the models that ran.
        detector: the face detector that ran; None without one.
        provider: execution provider that ran the models: ``cpu``, ``cuda`` or ``tensorrt``.
        devices: numbers of the GPUs that ran them; empty on the CPU.
        settings: all options by name, given or not; durations in seconds.
        versions: versions of the packages that answers depend on; None if not installed.
        host: the machine.
        drift: comparison with earlier runs; None if nothing was compared.
        basis: digest of everything that probabilities depend on, except the photo.
        shard: the shard that was labelled; None without ``--shard``.
        outputs: outputs with a column ``p_<output>`` in the report: labels, then abstain outputs.
        up_to_date: whether the report was kept, as nothing in it would change.
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
    """Flatten option records, including nested ones, to the settings of run.json."""
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


def find_versions() -> dict[str, str | None]:
    """Find the versions of the packages that answers depend on; None if not installed."""
    return {
        "batch-label": find_version("batch-label"),
        "python": platform.python_version(),
        "onnxruntime": next(filter(None, map(find_version, _ONNX_RUNTIMES)), None),
        "pillow": find_version("pillow"),
        "numpy": find_version("numpy"),
    }


def find_version(package: str) -> str | None:
    """Find the version of a package; None if it is not installed, as in a source checkout."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def describe_host(cores: int) -> HostRecord:
    """Describe this machine, of which the process may use ``cores`` cores."""
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return HostRecord(platform.node(), system, cores)


def local_record_file(report: Path) -> AtomicFile:
    """Return the run record of a local report: ``results.csv.run.json`` beside ``results.csv``."""
    return AtomicFile(
        report.with_name(report.name + RECORD_SUFFIX), "run record", "choose another path with -o"
    )


def record_file(report: Location) -> AtomicFile | AtomicObject:
    """Return the run record of a report, which may be in a store."""
    if isinstance(report, Url):
        return AtomicObject(Url(report.text.rstrip("/") + RECORD_SUFFIX), "run record")
    return local_record_file(report)


def write_record(file: AtomicFile | AtomicObject, record: RunRecord) -> None:
    """Replace the run record.

    Raises:
        OutputError: the record can't be written; the earlier one stays.
    """
    text = json.dumps(to_json(record), indent=2, ensure_ascii=False, allow_nan=False)
    # Lone surrogates become escapes, which are valid in JSON as well.
    file.write(f"{text}\n".encode("utf-8", "backslashreplace"))


def read_record(file: AtomicFile | AtomicObject) -> RunRecord | None:
    """Read the record of the last run.

    Returns:
        The record; None if it is missing, damaged, or of another schema version.
    """
    try:
        values = json.loads(file.read() or b"")
        if values["schema_version"] != SCHEMA_VERSION:
            return None
        # Unknown keys are ignored, and missing ones get their default.
        return msgspec.convert(values, RunRecord)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def to_json(record: RunRecord) -> dict[str, Any]:
    """Convert a record to the JSON object of run.json."""
    times = {"started": utc_text(record.started), "ended": utc_text(record.ended)}
    return {"schema_version": SCHEMA_VERSION} | asdict(record) | times
