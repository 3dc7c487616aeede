"""The whole benchmark on a handful of photos."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import tables
from bench.__main__ import main
from bench.command import CommandError, label_photos
from bench.growth import GrowthSizes
from bench.machine import list_usable_cores
from bench.memory import MemorySampler, list_process_tree
from bench.plan import BenchPlan, Lot
from bench.results import Benchmark, Measurement, Results
from bench.rounds import MedianRange, run_in_turns
from bench.sets import RECIPE, Camera, CameraError, SetError, SetSpec, add_number_comment, make_set
from bench.speed import choose_settings
from bench.stages import STAGES, compute_rate, measure_each_core
from bench.training import TrainingSizes
from tests.conftest import REPOSITORY
from trainer.datasets.drawn_faces import Mood, draw_snapshot

PERFORMANCE = (REPOSITORY / "docs" / "performance.md").read_text(encoding="utf-8")
MIB = 1024**2
needs_proc = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").is_file(), reason="no /proc")


def jpeg(image: Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


@pytest.fixture(scope="module")
def source(astronaut: Image.Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zip file with three photos of a face, a text, and drawn faces that a network can learn."""
    file = tmp_path_factory.mktemp("source") / "photos.zip"
    with zipfile.ZipFile(file, "w") as pack:
        pack.writestr("LICENSE.txt", "free")
        for n, side in enumerate((256, 320, 350)):
            pack.writestr(f"{n}/face.jpg", jpeg(astronaut.resize((side, side))))
        for n in range(27):  # no near duplicates, which a training would exclude
            drawn = Image.fromarray(draw_snapshot([*Mood][n % 2], 256, 3, n))
            pack.writestr(f"drawn/{n}.jpg", jpeg(drawn))
    return file


class TestSets:
    def test_copies_differ_in_bytes_and_not_in_pixels(self, astronaut: Image.Image) -> None:
        first = jpeg(astronaut)
        copies = [add_number_comment(first, n) for n in range(3)]
        assert len({first, *copies}) == 4
        for copy in copies:
            with Image.open(BytesIO(copy)) as image, Image.open(BytesIO(first)) as original:
                assert image.info["jfif"] == original.info["jfif"]
                assert image.tobytes() == original.tobytes()

    def test_a_set_has_as_many_different_files_as_asked_for(
        self, source: Path, tmp_path: Path
    ) -> None:
        photos = make_set(SetSpec("as they are", count=25, bases=3), source, tmp_path)
        files = [path.read_bytes() for path in photos.paths()]
        assert (len(set(files)), photos.count) == (25, 25)
        assert photos.mean_bytes == sum(map(len, files)) // 25
        found = [file for folder in photos.folders() for file in sorted(folder.iterdir())]
        assert found == photos.paths()
        assert photos.first(3).count == 20
        assert photos.first(99) == photos

    def test_a_set_is_made_once_and_again_if_its_spec_changes(
        self, source: Path, tmp_path: Path
    ) -> None:
        kind = SetSpec("as they are", count=2, bases=2)
        first = make_set(kind, source, tmp_path)
        first.paths()[0].write_bytes(b"still here")
        make_set(kind, source, tmp_path)
        assert first.paths()[0].read_bytes() == b"still here"
        assert make_set(replace(kind, bases=1), source, tmp_path).mean_bytes > 100

    def test_an_incomplete_set_is_made_again(self, source: Path, tmp_path: Path) -> None:
        kind = SetSpec("as they are", count=2, bases=2)
        first = make_set(kind, source, tmp_path)
        (first.folder / RECIPE).unlink()
        first.paths()[1].unlink()
        assert make_set(kind, source, tmp_path) == first

    @pytest.mark.parametrize("content", [None, b"not a zip file"])
    def test_a_missing_or_invalid_zip_file_is_named(
        self, content: bytes | None, tmp_path: Path
    ) -> None:
        file = tmp_path / "photos.zip"
        if content:
            file.write_bytes(content)
        with pytest.raises(SetError, match=r"photos\.zip \(.*--photos"):
            make_set(SetSpec("any", 1, 1), file, tmp_path)

    def test_a_zip_file_without_a_jpeg_is_named(self, tmp_path: Path) -> None:
        file = tmp_path / "photos.zip"
        with zipfile.ZipFile(file, "w") as pack:
            pack.writestr("a.jpg", "a text")
        with pytest.raises(SetError, match=r"no JPEG in .*photos\.zip"):
            make_set(SetSpec("any", 1, 1), file, tmp_path)


class TestCamera:
    def test_photos_have_the_wanted_size_and_the_same_content(self, astronaut: Image.Image) -> None:
        taken = Camera(side=700, least=82_000, most=163_000).enlarge(jpeg(astronaut))
        assert 82_000 <= len(taken) <= 163_000
        with Image.open(BytesIO(taken)) as image:
            assert image.size == (700, 700)
            small = np.asarray(image.resize(astronaut.size), dtype=float)
        assert np.abs(small - np.asarray(astronaut, dtype=float)).mean() < 6

    def test_an_impossible_file_size_is_an_error(self, astronaut: Image.Image) -> None:
        with pytest.raises(CameraError, match="64 x 64 pixels to between 1 and 2 bytes"):
            Camera(side=64, least=1, most=2).enlarge(jpeg(astronaut))


class TestMemory:
    @needs_proc
    def test_the_peak_of_a_process_and_its_child(self) -> None:
        child = f"a = b'x' * {64 * MIB}; input()"
        parent = (
            f"import subprocess, sys; a = b'x' * {32 * MIB};"
            f"subprocess.run([sys.executable, '-c', {child!r}])"
        )
        # The sampling process holds more memory than the sampled one: it must not count.
        mine = b"x" * (256 * MIB)
        with subprocess.Popen(
            [sys.executable, "-c", parent], stdin=subprocess.PIPE, text=True
        ) as process:
            sampler = MemorySampler(process.pid)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1)
            assert len(list_process_tree(process.pid)) == 2
            process.communicate("\n")
        own, peak = sampler.end()
        assert peak
        assert own
        assert 64 < peak.greatest < 64 + 48
        assert 96 < peak.together < 96 + 64
        assert 32 < own < 32 + 48
        assert len(mine) > peak.together

    def test_a_process_that_has_ended_has_no_peak(self) -> None:
        with subprocess.Popen([sys.executable, "-c", ""]) as process:
            process.wait()
        assert MemorySampler(process.pid).end() == (None, None)


class TestTurns:
    def test_every_other_round_goes_in_the_opposite_order(self) -> None:
        order: list[str] = []

        def measure(name: str) -> Callable[[int], int]:
            def way(number: int) -> int:
                order.append(name)
                return number

            return way

        found = run_in_turns({name: measure(name) for name in "abc"}, 3)
        assert "".join(order) == "abccbaabc"
        assert found == {name: [0, 1, 2] for name in "abc"}


class TestFigures:
    def test_a_figure_is_the_median_with_its_spread(self) -> None:
        assert MedianRange.of([3, 1, 2, 9, 2.5]) == MedianRange(2.5, 1, 9)
        assert MedianRange.of([0.5, 0.25, 0.75]).text(".0%") == "50% (25%–75%)"  # noqa: RUF001
        assert MedianRange.of([7]).text() == "7"

    @pytest.mark.parametrize(
        ("cores", "workers"), [(1, [1, 1]), (2, [1, 2, 2]), (6, [1, 2, 4, 6, 6])]
    )
    def test_settings_go_from_one_worker_to_all_cores(self, cores: int, workers: list[int]) -> None:
        assert [setting.workers for setting in choose_settings(cores)] == workers
        assert choose_settings(cores)[-1].options == ()

    def test_stages_are_all_timed_on_each_core(self, source: Path, tmp_path: Path) -> None:
        photos = make_set(SetSpec("as they are", 2, 2), source, tmp_path)
        found = measure_each_core(photos.paths(), list_usable_cores()[:1] * 2, passes=2)
        assert [len(passes) for passes in found] == [2, 2]
        for passes in found:
            assert all(set(once) == set(STAGES) for once in passes)
            assert all(seconds > 0 for once in passes for seconds in once.values())
            assert compute_rate(passes) == pytest.approx(
                2 / (sum(passes[0].values()) + sum(passes[1].values()))
            )


class TestCommand:
    def test_a_run_that_fails_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match=r"ended with 2: .*nowhere"):
            label_photos([tmp_path / "nowhere"])

    def test_copies_that_are_not_labelled_do_not_count(self, source: Path, tmp_path: Path) -> None:
        photos = make_set(SetSpec("as they are", 2, 2), source, tmp_path)
        with pytest.raises(CommandError, match="2 photos were labelled, not 3"):
            label_photos(photos.folders(), expected=3)


@pytest.fixture(scope="module")
def measured(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Results, list[str]]:
    """Results of all parts on a few photos, and the lines of progress."""
    kind = SetSpec("200 pixels", count=30, bases=30, camera=Camera(200, 5_000, 30_000))
    plan = BenchPlan(
        rounds=1,
        repeats=1,
        lots=(Lot(kind, sample=2, measured=20, memory=(20, 30), against=20),),
        peer_pictures=1,
        peer_copies=1,
        judged=2,
        unchanged=(12,),
        clustered=20,
        drivers=(),
        growth=GrowthSizes(
            photos=(20,), rounds=1, rows=(30,), workers=2, one_folder=(12,), nested=(12,)
        ),
        first_runs=kind,
        training=TrainingSizes(photos=24, epochs=1),
    )
    told: list[str] = []
    home = tmp_path_factory.mktemp("sets")
    return Benchmark(plan, source, home, Path("nowhere"), told.append).measure(
        set(Measurement) - {Measurement.RAY, Measurement.PEERS}
    ), told


class TestResults:
    def test_speed_is_measured_with_all_settings(self, measured: tuple[Results, list[str]]) -> None:
        (speed,) = measured[0].speed
        assert speed.count == 20
        assert set(speed.stages_ms) == set(STAGES)
        assert speed.floor.median == pytest.approx(
            measured[0].machine.cores * 1000 / speed.sum_ms.median
        )
        one, *_, default = speed.reached
        assert (one.setting, default.setting) == ("1 worker", "default")
        assert one.to_one_worker == MedianRange(1, 1, 1)
        assert one.of_floor.median == pytest.approx(one.rate.median / speed.one_core.median)
        assert one.of_machine == one.of_floor

    def test_both_programs_train(self, measured: tuple[Results, list[str]]) -> None:
        plain, own = measured[0].training
        assert (plain.name, own.name) == ("plain_training.py", "trainer train")
        assert plain.times == MedianRange(1, 1, 1)
        assert own.times.median == pytest.approx(own.rate.median / plain.rate.median)
        assert own.photos == plain.photos == 24

    def test_waiting_times_are_in_order(self, measured: tuple[Results, list[str]]) -> None:
        waits = measured[0].waits
        assert waits
        assert 0 < waits.help.median < waits.one_photo.median
        assert waits.models_open.median < waits.one_photo.median
        assert waits.first_label.median > 0

    def test_memory_is_measured(self, measured: tuple[Results, list[str]]) -> None:
        results, _ = measured
        assert [one.count for one in results.footprints] == [20, 30]
        if Path("/proc/self/smaps_rollup").is_file():
            assert all(one.peak and one.peak.greatest > 30 for one in results.footprints)

    def test_a_run_without_changes_is_timed_as_a_whole_process(
        self, measured: tuple[Results, list[str]]
    ) -> None:
        (run,) = measured[0].unchanged
        assert run.files == 12
        parts = run.start.median + run.discover.median + run.report.median
        assert 0 < parts < run.whole.median
        assert run.ratio.median == pytest.approx(run.whole.median / run.find.median)

    def test_each_command_is_measured_by_size(self, measured: tuple[Results, list[str]]) -> None:
        growth = measured[0].growth
        assert growth
        assert [run.count for run in growth.first_runs] == [20]
        assert [intake.files for intake in growth.intakes] == [30]
        assert growth.intakes[0].rate > 0
        assert 0 < growth.intakes[0].spent_ms < 1000
        sizes = {cost.what: cost.files for cost in growth.costs}
        assert list(sizes.values()) == [30] * 7 + [12] * 4
        assert {"merge", "report", "manifest"} < set(sizes)

    def test_a_comparison_without_another_checkout_is_skipped_with_a_line(
        self, measured: tuple[Results, list[str]]
    ) -> None:
        results, told = measured
        assert results.against == []
        assert any("another checkout skipped" in line for line in told)

    def test_results_can_be_written_as_json_and_as_tables(
        self, measured: tuple[Results, list[str]]
    ) -> None:
        results, _ = measured
        assert json.loads(json.dumps(asdict(results)))["speed"][0]["photos"] == "200 pixels"
        for markdown in (True, False):
            text = tables.format_results(results, markdown)
            assert results.machine.processor in text
            assert "200 pixels" in text

    def test_the_docs_show_the_tables_that_are_printed(
        self, measured: tuple[Results, list[str]]
    ) -> None:
        for table in tables.make_tables(measured[0]):
            assert_documented(table)


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--photos", str(tmp_path / "no.zip"), "--parts", "waits"]) == 1
    assert "bench: can't read" in capsys.readouterr().err.splitlines()[-1]


def assert_documented(table: tables.Table) -> None:
    title, _, header, *_ = table.markdown().splitlines()
    assert f"{title}\n\n{header}\n" in PERFORMANCE
