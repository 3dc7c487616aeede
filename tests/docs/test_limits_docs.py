"""docs/limits.md lists every limit with the figure of the code."""

from __future__ import annotations

import importlib
import re

import click
import pytest

from batch.cli.label import label
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "limits.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \| (`[^`]+`)? ?\| ([^|]+?) \|$", TEXT, re.MULTILINE)
NAMED = {name.strip("`"): value for _, value, name, _ in ROWS if name}

# They bound a cache, a layout, a message or a step of a calculation, not what a user may do.
NOT_MET_BY_USERS = set(
    "MAX_CACHED_GRIDS MAX_FETCHES MAX_IOU MAX_LABELS_CHARS MAX_LOOKUPS MAX_NAMED_CHANGES"
    " MAX_NAMED_SHARDS MAX_PANEL_WIDTH MAX_SAMPLED_PIXELS MAX_SCORE_LOG_ODDS MAX_SHARED_BYTES"
    " MAX_STEM_CHARS MAX_VALUE_CHARS MAX_WAITING_RESULTS MAX_WRITTEN_BYTES".split()
)


@pytest.mark.parametrize("name", NAMED)
def test_a_figure_is_the_code_s(name: str) -> None:
    module, _, constant = name.rpartition(".")
    value = getattr(importlib.import_module(f"batch.{module}"), constant)
    figures = [float(text.replace(",", "")) for text in re.findall(r"[\d.,]*\d", NAMED[name])]
    assert figures[-1] == value


def test_every_constant_that_is_called_a_limit_is_there() -> None:
    named = {name.rpartition(".")[2] for name in NAMED}
    for path in (REPOSITORY / "batch").rglob("*.py"):
        # docs/run-record.md has those of drift.
        if path.stem != "drift":
            limits = re.findall(r"^(MAX_\w+|MOST_\w+) =", path.read_text(), re.MULTILINE)
            assert set(limits) - NOT_MET_BY_USERS <= named, path.name


def test_the_ranges_of_options_are_the_command_s() -> None:
    ranges = {
        option.opts[0]: option.type
        for option in label.params
        if isinstance(option.type, click.IntRange)
    }
    told = {name.strip("`"): value for name, value, _, _ in ROWS if name.startswith("`--")}
    assert {name: f"{kind.min:,} to {kind.max:,}" for name, kind in ranges.items()} == told


def test_no_row_is_lost() -> None:
    lines = [line for line in TEXT.splitlines() if line.startswith("| ")]
    assert len(ROWS) == len(lines) - 2 * TEXT.count("| --- |\n")  # heads and dashes
