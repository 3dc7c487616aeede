"""docs/run-record.md says what the code does: its tables and examples are checked."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from dataclasses import is_dataclass
from functools import partial
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from batch.errors import ExitCode
from batch.limits import parse_count, parse_deadline, parse_duration
from batch.log import Event, JsonLog, Level
from batch.recording import drift
from batch.recording.metrics import METRICS, SUCCESS_CODES
from batch.recording.run_record import (
    SCHEMA_VERSION,
    Outcome,
    RunRecord,
    find_versions,
    to_json,
)
from tests.batch.recording.test_run_record import RECORD
from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs" / "run-record.md"
TEXT = DOCS.read_text(encoding="utf-8")


def section(title: str) -> str:
    _, found, rest = TEXT.partition(f"\n## {title}\n")
    assert found, f"no section {title}"
    return rest.partition("\n## ")[0]


def tables(title: str) -> list[list[list[str]]]:
    blocks = [block.splitlines() for block in section(title).strip().split("\n\n")]
    found = [block for block in blocks if block[0].startswith("|")]
    return [[split(line) for line in block[2:]] for block in found]


def split(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def first(table: list[list[str]]) -> list[str]:
    return [row[0].strip("`") for row in table]


def keys(kind: Any, before: str = "") -> Iterator[str]:
    """Name what run.json holds for a dataclass, down to what is no dataclass."""
    for name, hint in get_type_hints(kind).items():
        inner = [part for part in (hint, *get_args(hint)) if is_dataclass(part)]
        if inner:
            several = "[]" if get_origin(hint) is tuple else ""
            yield from keys(inner[0], f"{before}{name}{several}.")
        else:
            yield f"{before}{name}"


def test_the_keys_of_the_record() -> None:
    (table,) = tables("run.json")
    assert first(table) == ["schema_version", *keys(RunRecord)]
    assert table[0][2].startswith(f"{SCHEMA_VERSION}:")
    assert {key.partition(".")[0].removesuffix("[]") for key in first(table)} == set(
        to_json(RECORD)
    )


def test_the_versions_are_those_looked_up() -> None:
    (table,) = tables("run.json")
    meaning = next(row[2] for row in table if row[0] == "`versions`")
    assert re.findall("`([^`]+)`", meaning) == list(find_versions())


def test_the_outcomes_and_their_exit_codes() -> None:
    (table,) = tables("Outcomes")
    assert first(table) == [outcome.value for outcome in Outcome]
    codes = {row[0].strip("`"): [int(code) for code in row[1].split(",")] for row in table}
    assert [*codes["done"], *codes["incomplete"]] == list(SUCCESS_CODES)
    told = {code for each in codes.values() for code in each}
    # Runs that end with these two write no record.
    assert told >= set(map(int, ExitCode)) - {ExitCode.USAGE, ExitCode.LOCKED}


@pytest.mark.parametrize(
    ("option", "parse"),
    [
        ("--deadline", parse_deadline),
        ("--time-limit", partial(parse_duration, option="--time-limit")),
        ("--max-failures", partial(parse_count, option="--max-failures")),
        ("--max-gone", partial(parse_count, option="--max-gone")),
    ],
)
def test_the_limits_are_written_as_they_are_read(option: str, parse: Any) -> None:
    (table,) = tables("Limits")
    assert len(table) == 4
    (examples,) = (re.findall("`([^`]+)`", row[2]) for row in table if row[0] == f"`{option}`")
    assert len(examples) >= 3
    for example in examples:
        parse(example)


def test_the_metrics() -> None:
    (table,) = tables("Metrics")
    described = [
        (metric.name, ", ".join(f"`{label}`" for label in metric.labels) or "none", metric.meaning)
        for metric in METRICS
    ]
    assert [(row[0].strip("`"), row[1], row[2]) for row in table] == described


def test_the_alert_is_on_a_metric_that_there_is() -> None:
    (alert,) = re.findall("```\n(.*?)```", section("Metrics"), re.DOTALL)
    assert set(re.findall(r"batch_label_\w+", alert)) <= {metric.name for metric in METRICS}
    assert "batch_label_" in alert


def test_the_log() -> None:
    of_line, events = tables("Log")
    assert first(events) == [event.value for event in Event]
    assert re.findall("`([^`]+)`", of_line[1][1]) == [level.value for level in Level]
    stream = io.StringIO()
    JsonLog(stream)(Event.SUMMARY, "done")
    assert first(of_line) == list(json.loads(stream.getvalue()))


def test_the_thresholds_of_drift() -> None:
    (table,) = tables("Drift")
    named = [name for name in vars(drift) if re.fullmatch("[A-Z][A-Z_]+", name)]
    assert first(table) == named
    for name, value, _ in table:
        assert float(value) == getattr(drift, name.strip("`"))


def test_no_cell_is_empty() -> None:
    for title in ("run.json", "Outcomes", "Limits", "Metrics", "Log", "Drift"):
        for table in tables(title):
            assert len({len(row) for row in table}) == 1, title
            assert all(all(row) for row in table), title
