"""Broken run records (``run.json`` next to a report), as later runs and merges read them."""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
from pathlib import Path

from batch.errors import BatchLabelError
from batch.merging.merge import MergeJob, merge
from batch.recording.run_record import local_record_file, read_record, to_json
from batch.stopping import stop_on_signals
from tests.fuzz.cases import Case, check_message, get_case_folder, make_broken_case
from tests.fuzz.text_mutations import BYTES, LINES, replace_value
from tests.support.runs import BASE_ARGUMENTS, RunFolder, make_photos

MERGE_INTERVAL = 4  # cases between two merges, which are slower than reading a record
PARTS = ("1.csv", "2.csv")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT")


@functools.cache
def _place() -> Path:
    """Label two shards with real runs, once."""
    place = RunFolder(get_case_folder())
    make_photos(place.folder / "photos", 4)
    for number, part in enumerate(PARTS, start=1):
        ran = place.command(*BASE_ARGUMENTS, "photos", "-o", part, "--shard", f"{number}/2")
        assert ran.returncode == 0, ran.stderr
    for part in PARTS:
        record = place.folder / f"{part}.run.json"
        shutil.copy(record, f"{record}.sound")
    shutil.rmtree(place.folder / "photos")
    return place.folder


@functools.cache
def make_sound_files() -> dict[str, bytes]:
    """Return the record of a real run, with fixed times and host so that cases are repeatable."""
    values = json.loads((_place() / f"{PARTS[0]}.run.json.sound").read_bytes())
    values["report"] = PARTS[0]
    values["seconds"] = dict.fromkeys(values["seconds"], 0.25)
    values["host"] = {
        name: 1 if isinstance(value, int) else "host" for name, value in values["host"].items()
    }
    for name, value in values.items():
        if isinstance(value, str) and _TIME.match(value):
            values[name] = "2026-01-02T03:04:05Z"
        elif isinstance(value, float):
            values[name] = 0.5
    return {"shard": (json.dumps(values, indent=2) + "\n").encode()}


def make(seed: int, number: int) -> Case:
    """Make a broken record from a seed and a number."""
    return make_broken_case(
        seed, number, make_sound_files(), (*BYTES, *LINES, *(replace_value,) * 14)
    )


@functools.cache
def _merged() -> bytes:
    """Merge the sound shards and return the report."""
    (_place() / f"{PARTS[0]}.run.json").write_bytes(make_sound_files()["shard"])
    _merge()
    return (_place() / "merged.csv").read_bytes()


def _merge() -> None:
    place = _place()
    parts = tuple(str(place / part) for part in PARTS)
    with stop_on_signals() as stop:
        merge(MergeJob(parts, str(place / "merged.csv")), io.BytesIO(), stop)


def check(case: Case) -> str:
    """Read a broken record, write it again, and merge its shard with a sound one."""
    merged = _merged()
    report = _place() / PARTS[0]
    file = local_record_file(report)
    (_place() / f"{PARTS[0]}.run.json").write_bytes(case.data)
    record = read_record(file)
    if record is not None:
        assert json.dumps(to_json(record))
    if int(case.name.split("-")[0]) % MERGE_INTERVAL == 0:
        try:
            _merge()
        except BatchLabelError as error:
            check_message(error)
            return "not merged"
        assert (_place() / "merged.csv").read_bytes() == merged, "another report"
        return "merged"
    return "none" if record is None else "read"
