"""A run's record is written whole, read back the same, and never stands in a run's way."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta, timezone
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.limits import Limits, parse_count
from batch.options import Options, Provider, Search
from batch.recording.drift import Drift
from batch.recording.run_record import (
    SCHEMA_VERSION,
    DetectorRecord,
    HostRecord,
    ModelRecord,
    Outcome,
    RunCounts,
    RunRecord,
    StageSeconds,
    flatten_options,
    local_record_file,
    read_record,
    to_json,
    write_record,
)
from batch.shard import ShardRecord

RECORD = RunRecord(
    outcome=Outcome.INCOMPLETE,
    exit_code=3,
    published=True,
    error=None,
    started=datetime(2024, 5, 1, 22, 0, 0, 5_000, tzinfo=UTC),
    ended=datetime(2024, 5, 1, 22, 30, tzinfo=UTC),
    report="results.csv",
    inputs=("photos/",),
    seconds=StageSeconds(wall=1800.0, decode=99.5),
    counts=RunCounts(
        found=12,
        labelled_now=2,
        reused=10,
        by_status={"ok": 11, "failed": 1},
        by_reason={"empty": 1},
        by_label={"happy": 11, "sad": 0},
    ),
    models=(ModelRecord("happy-sad", "1", "ab" * 32), ModelRecord("people", "2", "cd" * 32)),
    detector=DetectorRecord("ef" * 32),
    provider="cuda",
    devices=(0, 1),
    settings={"min_confidence": None, "batch_size": 32, "labels": ("a", "b")},
    versions={"batch-label": "0.1.0", "onnxruntime": None},
    host=HostRecord("night", "Linux 6.1 x86_64", 2),
    drift=Drift(500, 0.9, 0.12, None, -0.01, ("the labels' shares are far",)),
    basis="ab12",
    shard=ShardRecord(3, 16, 190, "cd34"),
    outputs=("happy", "sad", "neither", "no_person"),
)
# As of a run that ended before its models were open.
EARLY = replace(
    RECORD,
    outcome=Outcome.FAILED,
    exit_code=1,
    error="model x.onnx can't be read; give the path of an .onnx file",
    published=False,
    counts=RunCounts(),
    models=(),
    detector=None,
    provider=None,
    devices=(),
    drift=None,
    basis=None,
    shard=None,
    outputs=(),
)


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


@pytest.mark.parametrize("record", [RECORD, EARLY])
def test_a_record_is_read_back_as_it_was_written(record: RunRecord, tmp_path: Path) -> None:
    file = local_record_file(tmp_path / "results.csv")
    assert read_record(file) is None
    write_record(file, EARLY if record is RECORD else RECORD)
    write_record(file, record)
    assert read_record(file) == record
    assert names(tmp_path) == ["results.csv.run.json"]


def test_a_record_is_json_for_people(tmp_path: Path) -> None:
    file = local_record_file(tmp_path / "results.csv")
    write_record(file, replace(RECORD, inputs=("größer",)))
    text = file.path.read_text(encoding="utf-8")
    assert text.startswith('{\n  "schema_version": 1,\n  "outcome": "incomplete",\n')
    assert text.endswith("}\n")
    assert '"größer"' in text
    assert json.loads(text) == json.loads(json.dumps(to_json(replace(RECORD, inputs=("größer",)))))


def test_times_are_in_utc() -> None:
    summer = timezone(timedelta(hours=2))
    values = to_json(replace(RECORD, started=datetime(2024, 5, 2, 0, 0, tzinfo=summer)))
    assert values["started"] == values["ended"].replace("22:30", "22:00")
    assert values["started"] == "2024-05-01T22:00:00.000Z"


def test_what_is_no_text_is_escaped(tmp_path: Path) -> None:
    file = local_record_file(tmp_path / "results.csv")
    record = replace(RECORD, error="a\udcffb\n")
    write_record(file, record)
    assert read_record(file) == record


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        b"{}",
        b"[" * 100_000,
        b'{"schema_version": 1}',
        json.dumps(to_json(RECORD) | {"schema_version": SCHEMA_VERSION + 1}).encode(),
        json.dumps(to_json(RECORD) | {"outcome": "unheard of"}).encode(),
        json.dumps(to_json(RECORD) | {"started": "yesterday"}).encode(),
        json.dumps(to_json(RECORD) | {"counts": 5}).encode(),
        json.dumps(to_json(RECORD) | {"drift": {"photos": 5}}).encode(),
        json.dumps(to_json(RECORD) | {"settings": None}).encode(),
    ],
)
def test_a_record_that_is_none_is_as_good_as_missing(data: bytes, tmp_path: Path) -> None:
    file = local_record_file(tmp_path / "results.csv")
    file.path.write_bytes(data)
    assert read_record(file) is None


def test_keys_that_were_added_later_are_passed_over(tmp_path: Path) -> None:
    file = local_record_file(tmp_path / "results.csv")
    file.path.write_text(json.dumps(to_json(RECORD) | {"more": 1}))
    assert read_record(file) == RECORD


def test_a_record_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    file = local_record_file(tmp_path / "results.csv")
    earlier = to_json(RECORD)
    for key in ("basis", "shard", "outputs"):
        del earlier[key]
    file.path.write_text(json.dumps(earlier))
    assert read_record(file) == replace(RECORD, basis=None, shard=None, outputs=())


def test_a_record_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    file = local_record_file(tmp_path / "results.csv")
    write_record(file, RECORD)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_record(file, replace(RECORD, seconds=StageSeconds(wall=float("nan"))))
    assert read_record(file) == RECORD
    with pytest.raises(OutputError, match=r"run record .* can't be written"):
        write_record(local_record_file(tmp_path / "missing" / "results.csv"), RECORD)


@pytest.mark.parametrize(
    ("report", "name"),
    [
        ("results.csv", "results.csv.run.json"),
        ("results.jsonl", "results.jsonl.run.json"),
        ("2024.05.01.parquet", "2024.05.01.parquet.run.json"),
    ],
)
def test_the_record_lies_beside_the_report(report: str, name: str) -> None:
    assert local_record_file(Path("out") / report).path == Path("out") / name


def test_settings_are_the_options_flat() -> None:
    options = Options(provider=Provider.CUDA, devices=(0, 2), search=Search(hidden=True))
    limits = Limits(time(5, 30), 5400, parse_count("2%", "--max-failures"))
    settings = flatten_options(options, limits)
    assert settings["provider"] == "cuda"
    assert settings["devices"] == (0, 2)
    assert settings["hidden"] is True
    assert settings["min_confidence"] is None
    assert settings["deadline"] == "05:30"
    assert settings["time_limit"] == 5400
    assert settings["max_failures"] == "2%"
    assert "search" not in settings
    assert json.loads(json.dumps(settings)) == settings | {"devices": [0, 2], "exclude": []}
