"""A run record is written in one step and read back unchanged; a damaged one is ignored."""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from datetime import datetime, time, timedelta, timezone
from importlib.metadata import version
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.limits import Limits, parse_count
from batch.options import Options, Provider, Search
from batch.recording import run_record
from batch.recording.run_record import (
    SCHEMA_VERSION,
    RunRecord,
    StageSeconds,
    describe_host,
    find_versions,
    flatten_options,
    local_record_file,
    read_record,
    to_json,
    write_record,
)
from tests.support.run_records import EARLY, RECORD


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


def test_bytes_that_are_not_text_are_escaped(tmp_path: Path) -> None:
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
def test_a_damaged_record_counts_as_missing(data: bytes, tmp_path: Path) -> None:
    file = local_record_file(tmp_path / "results.csv")
    file.path.write_bytes(data)
    assert read_record(file) is None


def test_unknown_keys_are_ignored(tmp_path: Path) -> None:
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


def test_settings_are_the_flattened_options() -> None:
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


def test_the_versions_are_those_installed() -> None:
    versions = find_versions()
    assert set(versions) == {"batch-label", "python", "onnxruntime", "pillow", "numpy"}
    assert versions["numpy"] == version("numpy")
    assert versions["pillow"] == version("pillow")
    assert versions["onnxruntime"] is not None


def test_what_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_record, "_ONNX_RUNTIMES", ("no-such-package",))
    assert find_versions()["onnxruntime"] is None


def test_the_host_is_this_one() -> None:
    record = describe_host(cores=3)
    assert record.name == platform.node()
    assert platform.system() in record.system
    assert record.cores == 3
