"""The file of a run's record, ``results.csv.run.json`` beside ``results.csv``."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from batch.clock import utc_text
from batch.location import Location, Url
from batch.recording.drift import Drift
from batch.recording.host import HostRecord
from batch.recording.run_record import (
    Counts,
    DetectorRecord,
    ModelRecord,
    Outcome,
    RunRecord,
    Seconds,
)
from batch.reports.wholefile import WholeFile, WholeObject
from batch.sharding.shard import ShardRecord

SCHEMA_VERSION = 1
SUFFIX = ".run.json"


def run_file(report: Path) -> WholeFile:
    """Name the record of a report's runs: ``results.csv.run.json`` beside ``results.csv``."""
    return WholeFile(
        report.with_name(report.name + SUFFIX), "run record", "choose another place with -o"
    )


def record_of(report: Location) -> WholeFile | WholeObject:
    """Name the record of a report's runs, also that of one in a store."""
    if isinstance(report, Url):
        return WholeObject(Url(report.text.rstrip("/") + SUFFIX), "run record")
    return run_file(report)


def write_run(file: WholeFile | WholeObject, record: RunRecord) -> None:
    """Write a run's record in the earlier one's place.

    Raises:
        OutputError: the system refuses; the earlier record stays.
    """
    text = json.dumps(as_json(record), indent=2, ensure_ascii=False, allow_nan=False)
    # What is no UTF-8 becomes an escape, which is JSON's own as well.
    file.write(f"{text}\n".encode("utf-8", "backslashreplace"))


def read_run(file: WholeFile | WholeObject) -> RunRecord | None:
    """Read the record that an earlier run left.

    None where there is none, and where it is damaged or of another schema: a record is for
    people and monitors, and no run depends on one.
    """
    try:
        values = json.loads(file.read() or b"")
        return _record(values) if values["schema_version"] == SCHEMA_VERSION else None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def as_json(record: RunRecord) -> dict[str, Any]:
    """Give a record as the object that run.json holds."""
    times = {"started": utc_text(record.started), "ended": utc_text(record.ended)}
    return {"schema_version": SCHEMA_VERSION} | asdict(record) | times


def _record(values: dict[str, Any]) -> RunRecord:
    """Build a record from run.json's object, whatever a later version added to it.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is none.
    """
    later = {"basis": None, "shard": None, "outputs": ()}  # which the first records do not have
    own = {option.name: (later | values)[option.name] for option in fields(RunRecord)}
    own |= {
        "outcome": Outcome(own["outcome"]),
        "started": datetime.fromisoformat(own["started"]),
        "ended": datetime.fromisoformat(own["ended"]),
        "inputs": tuple(own["inputs"]),
        "seconds": Seconds(**own["seconds"]),
        "counts": Counts(**own["counts"]),
        "models": tuple(ModelRecord(**model) for model in own["models"]),
        "detector": DetectorRecord(**own["detector"]) if own["detector"] else None,
        "devices": tuple(own["devices"]),
        "settings": {name: _tupled(value) for name, value in own["settings"].items()},
        "host": HostRecord(**own["host"]),
        "drift": _drift(own["drift"]) if own["drift"] else None,
        "shard": ShardRecord(**own["shard"]) if own["shard"] else None,
        "outputs": tuple(own["outputs"]),
    }
    return RunRecord(**own)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _drift(values: dict[str, Any]) -> Drift:
    lines = {name: tuple(values[name]) for name in ("warnings", "since_last_run")}
    return Drift(**values | lines)
