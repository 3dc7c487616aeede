"""Fits of cost against size, and runs with simulated workers."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from bench.growth import FEWEST_FILES, CommandCost, fit_exponent
from bench.simulated_runs import (
    label_simulated,
    make_files,
    path_in_one_folder,
    path_in_thousands,
    path_nested,
)
from bench.unchanged import run_again


def costs(*seconds: tuple[int, float]) -> list[CommandCost]:
    return [CommandCost("merge", files, spent, None) for files, spent in seconds]


class TestExponent:
    @pytest.mark.parametrize("power", [1.0, 1.5, 2.0])
    def test_start_up_does_not_count(self, power: float) -> None:
        measured = [(files, 0.5 + 1e-3 * files**power) for files in (1_000, 10_000, 100_000)]
        assert fit_exponent(costs((FEWEST_FILES, 0.5), *measured)) == pytest.approx(power)

    def test_two_sizes_are_enough_and_one_is_not(self) -> None:
        assert fit_exponent(costs((FEWEST_FILES, 1.0), (100, 2.0), (1_000, 11.0))) == pytest.approx(
            1
        )
        assert fit_exponent(costs((FEWEST_FILES, 1.0), (100, 2.0))) is None
        assert fit_exponent(costs((100, 2.0), (1_000, 11.0), (2_000, 20.0))) is None

    def test_sizes_that_take_as_long_as_start_up_are_skipped(self) -> None:
        measured = [(1_000, 1.4), (10_000, 2.0), (100_000, 11.0)]
        assert fit_exponent(costs((FEWEST_FILES, 1.0), *measured)) == pytest.approx(1)
        assert fit_exponent(costs((FEWEST_FILES, 1.0), *measured[:2])) is None


class TestSimulatedRuns:
    def test_files_are_in_the_right_folders(self, tmp_path: Path) -> None:
        for name, count, folders in (
            (path_in_thousands, 1_001, 2),
            (path_in_one_folder, 7, 1),
            (path_nested, 12, 12),
        ):
            make_files(tmp_path / name.__name__, count, name)
            found = [Path(top, file) for top, _, files in os.walk(tmp_path / name.__name__)
                     for file in files]  # fmt: skip
            assert len(found) == count
            assert len({path.parent for path in found}) == folders

    def test_a_real_run_continues_the_journal_of_a_simulated_run(self, tmp_path: Path) -> None:
        photos, report = tmp_path / "photos", tmp_path / "r.csv"
        make_files(photos, 40)
        made = label_simulated([photos], report)
        assert made.rows == 40
        assert made.spent > 0
        assert 0 < made.seconds < made.run.seconds
        with report.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["status"] for row in rows] == ["ok"] * 40
        again = run_again(photos, report, 40)
        assert again.record["counts"]["labelled_now"] == 0
        assert 0 < again.after_start < again.seconds
