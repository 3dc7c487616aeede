"""The file of a run's record, ``results.csv.run.json`` beside ``results.csv``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from batch.limits import utc_text
from batch.location import Location, Url
from batch.recording.run_record import RunRecord
from batch.reports.whole_file import WholeFile, WholeObject

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
        if values["schema_version"] != SCHEMA_VERSION:
            return None
        # What a later version adds is passed over, and what the first ones lack has its default.
        return msgspec.convert(values, RunRecord)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def as_json(record: RunRecord) -> dict[str, Any]:
    """Give a record as the object that run.json holds."""
    times = {"started": utc_text(record.started), "ended": utc_text(record.ended)}
    return {"schema_version": SCHEMA_VERSION} | asdict(record) | times
