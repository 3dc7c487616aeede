"""Measurements of runs on Ray."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import tables
from bench.comparisons import compare_engines
from bench.driver import measure_driver
from bench.sets import SetSpec, make_set
from tests.bench.test_bench import assert_documented, source

__all__ = ["source"]

pytest.importorskip("ray", reason="ray is not installed")


def test_both_engines_are_timed_on_the_same_photos(source: Path, tmp_path: Path) -> None:
    photos = make_set(SetSpec("as they are", 20, 2), source, tmp_path)
    found = compare_engines(photos, workers=1, rounds=1)
    assert found.count == 20
    assert 0 < found.start.median < found.ray_start.median
    assert 0 < found.seconds.median < found.ray_seconds.median
    assert_documented(tables.ray_table([found]))


def test_the_memory_of_the_main_process_is_measured() -> None:
    found = measure_driver(200)
    assert 30 < found.before < found.peak
    assert found.journal_bytes > 50_000
    assert_documented(tables.driver_table([found]))
