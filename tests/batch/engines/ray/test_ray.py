"""Whole runs on a real Ray cluster give the local report, even if actors are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.support.ray_cluster import RayCluster, ray_cluster
from tests.support.runs import (
    JOURNAL,
    REPORT,
    RunFolder,
    kill_run,
    make_photos,
    wait_for,
    wait_for_end,
)

__all__ = ["ray_cluster"]

PARTS = f".{REPORT}.parts"
# Enough for some seconds of work.
MANY = 700


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos with two of the same bytes, and one that is no photo."""
    folder = make_photos(tmp_path_factory.mktemp("crowd") / "photos", MANY)
    shutil.copy(folder / "00001.jpg", folder / "copy.jpg")
    (folder / "text.jpg").write_text("no photo")
    return folder


@pytest.fixture(scope="module")
def expected(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The report of the local engine."""
    place = _place(crowd, tmp_path_factory.mktemp("local"))
    place.label("--workers", "2")
    return place.report.read_bytes()


@pytest.fixture
def place(crowd: Path, tmp_path: Path) -> RunFolder:
    return _place(crowd, tmp_path)


def _place(crowd: Path, folder: Path) -> RunFolder:
    (folder / "photos").symlink_to(crowd)
    return RunFolder(folder)


def _on(cluster: RayCluster) -> tuple[str, ...]:
    return ("--engine", "ray", "--ray-address", cluster.address)


def _begun(place: RunFolder, cluster: RayCluster, *args: str) -> subprocess.Popen[str]:
    """Start a run and wait for its first parts."""
    process = place.start("photos", "-o", REPORT, *_on(cluster), *args)
    wait_for(lambda: len(_parts(place)) > 3, process)
    return process


def _parts(place: RunFolder) -> list[Path]:
    folder = place.folder / PARTS
    return sorted(folder.glob("[!.]*.parquet")) if folder.exists() else []


def _rows_of(parts: list[Path]) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(part).num_rows for part in parts)


def test_the_report_is_the_same_and_a_second_run_needs_no_cluster(
    ray_cluster: RayCluster, place: RunFolder, expected: bytes
) -> None:
    counts = place.label(*_on(ray_cluster))
    assert place.report.read_bytes() == expected
    assert counts["found"] == MANY + 2
    assert counts["by_reason"] == {"not_an_image": 1}
    assert not (place.folder / PARTS).exists(), "the journal has all that was in them"
    (place.folder / "photos").unlink()
    make_photos(place.folder / "photos", 3)
    place.label("--engine", "ray", "--ray-address", ray_cluster.address, "--max-gone", "0")
    # With nothing to label the run does not connect: there is no cluster at this address.
    assert place.label("--engine", "ray", "--ray-address", "127.0.0.1:1")["labelled_now"] == 0


def test_nine_hundred_photos(ray_cluster: RayCluster, shared_data: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data / "photos.zip") as archive:
        archive.extractall(tmp_path)
    place, default = RunFolder(tmp_path), ("-m", "happy-sad+people")
    assert place.label(*default, "--workers", "2")["found"] == 900
    local = place.report.read_bytes()
    place.journal.unlink()
    assert place.label(*default, *_on(ray_cluster))["labelled_now"] == 900
    assert place.report.read_bytes() == local


def test_an_actor_that_is_killed_costs_nothing(
    ray_cluster: RayCluster, place: RunFolder, expected: bytes
) -> None:
    process = _begun(place, ray_cluster)
    ray_cluster.kill_an_actor()
    ran = wait_for_end(process)
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    assert f"{MANY + 2} photos found" in ran.stderr
    assert ran.stdout == "", "that is where reports go"
    assert place.report.read_bytes() == expected
    assert place.counts()["labelled_now"] == MANY + 2 - place.counts()["reused"]


@pytest.mark.parametrize("has_journal", [True, False])
def test_a_killed_run_resumes_from_the_parts(
    ray_cluster: RayCluster, place: RunFolder, expected: bytes, has_journal: bool
) -> None:
    process = _begun(place, ray_cluster)
    assert kill_run(process)
    wait_for_actors_to_end(ray_cluster)
    if not has_journal:  # as on another machine
        place.journal.unlink(missing_ok=True)
        place.journal.with_name(f"{JOURNAL}-journal").unlink(missing_ok=True)
    done = _rows_of(_parts(place))
    assert 0 < done < MANY
    counts = place.label(*_on(ray_cluster))
    copies = 1
    failed = 1
    assert MANY + 2 - done - copies - failed <= counts["labelled_now"] <= MANY + 2 - done + failed
    assert place.report.read_bytes() == expected
    assert not (place.folder / PARTS).exists(), "nor is anything left of the run that was killed"


def wait_for_actors_to_end(cluster: RayCluster) -> None:
    """Wait until the actors of a killed run have ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as clock:
        wait_for(lambda: not cluster.actors(), clock)  # type: ignore[arg-type]
        clock.kill()


def test_a_run_that_is_stopped_keeps_what_is_done(
    ray_cluster: RayCluster, place: RunFolder, expected: bytes
) -> None:
    process = _begun(place, ray_cluster)
    process.send_signal(signal.SIGTERM)
    ran = wait_for_end(process)
    assert ran.returncode == ExitCode.TERMINATED, ran.stderr
    assert not place.report.exists()
    done = _rows_of(_parts(place))
    counts = place.label(*_on(ray_cluster))
    assert counts["reused"] >= done - 1
    assert place.report.read_bytes() == expected


def test_a_time_limit_ends_the_run_within_a_block(
    ray_cluster: RayCluster, place: RunFolder
) -> None:
    ran = place.run("photos", "-o", REPORT, *_on(ray_cluster), "--time-limit", "3s")
    assert ran.returncode == ExitCode.TIME_IS_UP, ran.stderr
    assert place.record()["outcome"] == "time_is_up"


def test_truncated_and_foreign_parts_are_skipped(
    ray_cluster: RayCluster, place: RunFolder, expected: bytes
) -> None:
    process = _begun(place, ray_cluster, "--per-face")
    process.kill()
    process.communicate()
    wait_for_actors_to_end(ray_cluster)
    torn = place.folder / PARTS / "99990101T000000Z-0-000000000.parquet"
    torn.write_bytes(_parts(place)[0].read_bytes()[:-100])
    ran = place.run("photos", "-o", REPORT, *_on(ray_cluster))
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    assert f"{torn.name} in " in ran.stderr
    assert "truncated" in ran.stderr
    assert "of other models or settings are skipped" in ran.stderr
    assert place.report.read_bytes() == expected
    assert torn.exists(), "what is not understood is nobody's to remove"


def test_a_photo_that_vanishes_in_the_run_has_its_row(
    ray_cluster: RayCluster, crowd: Path, tmp_path: Path
) -> None:
    shutil.copytree(crowd, tmp_path / "photos")
    place = RunFolder(tmp_path)
    process = _begun(place, ray_cluster)
    gone = sorted((tmp_path / "photos").iterdir())[-3]
    gone.unlink()
    assert wait_for_end(process).returncode == ExitCode.INCOMPLETE
    assert place.rows()[f"photos/{gone.name}"]["error"].startswith("vanished")
    assert place.counts()["by_reason"] == {"not_an_image": 1, "vanished": 1}


def test_parts_may_be_kept_elsewhere(ray_cluster: RayCluster, tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 20)
    parts = ("--parts", "kept")
    place.label(*_on(ray_cluster), *parts)
    place.journal.unlink()
    assert place.label(*_on(ray_cluster), *parts) | {"labelled_now": 20} == place.counts() | {
        "labelled_now": 20
    }
    assert place.counts()["labelled_now"] == 0


@pytest.mark.parametrize(
    ("hidden", "words"),
    [("photos", "does not find photos/"), ("out", ".r.csv.parts can't be read")],
)
def test_files_that_actors_do_not_find_end_the_run(
    ray_cluster: RayCluster, tmp_path: Path, hidden: str, words: str
) -> None:
    """A file system mounted only for the command simulates a disk that nodes lack."""
    place = RunFolder(tmp_path)
    for name in ("photos", "out"):
        (tmp_path / name).mkdir()
    if hidden == "out":
        make_photos(tmp_path / "photos", 5)
    else:
        make_photos(tmp_path / "given", 5)
    script = (
        f'mount -t tmpfs tmpfs {hidden} && {{ [ ! -d given ] || cp given/* photos/; }} && exec "$@"'
    )
    alone = ("unshare", "--mount", "sh", "-c", script, "sh")
    if os.geteuid() != 0 or subprocess.run([*alone[:2], "true"], check=False).returncode:
        pytest.skip("mounting is refused")
    ran = place.run("photos", "-o", "out/r.csv", *_on(ray_cluster), before=alone)
    assert ran.returncode == ExitCode.FAILED
    assert words in ran.stderr.splitlines()[-1]
    assert "share" in ran.stderr.splitlines()[-1]


def test_the_error_names_an_unreachable_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 1)
    ran = place.run("photos", "-o", REPORT, "--engine", "ray", RAY_ADDRESS="127.0.0.1:1")
    assert ran.returncode == ExitCode.FAILED
    assert "the Ray cluster 127.0.0.1:1 can't be used" in ran.stderr.splitlines()[-1]


def test_a_cluster_is_started_by_default(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 40)
    ran = place.run(
        "photos", "-o", REPORT, "--engine", "ray", "--actors", "1", "--log-format", "json"
    )
    assert place.counts()["labelled_now"] == 40
    events = [json.loads(line)["event"] for line in ran.stderr.splitlines()]
    assert events == ["opened", "found", "published", "summary"]
    assert place.record()["settings"]["engine"] == "ray"
