"""A small file is replaced as a whole, or stays as it was."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.reports.publish import draft_path
from batch.reports.wholefile import WholeFile

ELSEWHERE = "name another place"


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def whole(path: Path) -> WholeFile:
    return WholeFile(path, "metrics file", ELSEWHERE)


def test_what_was_written_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    file = whole(tmp_path / "run.prom")
    assert file.read() is None
    for data in (b"first", b"2"):
        file.check()
        file.write(data)
        assert file.read() == data
    assert names(tmp_path) == ["run.prom"]


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        whole(tmp_path / "run.prom").write(b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "run.prom").stat().st_mode) == 0o644


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    whole(tmp_path / "link").write(b"data")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"data"


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    file = whole(tmp_path / "run.prom")
    draft_path(file.path).write_bytes(b"half")
    file.write(b"whole")
    assert names(tmp_path) == ["run.prom"]


def folder(place: Path) -> Path:
    place.mkdir()
    return place


def pipe(place: Path) -> Path:
    os.mkfifo(place)
    return place


def in_no_folder(place: Path) -> Path:
    return place / "run.prom"


def with_a_long_name(place: Path) -> Path:
    return place.with_name("a" * 300)


@pytest.mark.parametrize("make", [folder, pipe, in_no_folder])
def test_a_place_that_does_not_do_is_seen_before_the_work(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    file = whole(make(tmp_path / "place"))
    with pytest.raises(OutputError, match=f"metrics file .*; {ELSEWHERE}"):
        file.check()
    assert file.read() is None


@pytest.mark.parametrize("make", [folder, in_no_folder, with_a_long_name])
def test_a_file_that_cannot_be_written_is_an_error_and_leaves_nothing(
    make: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = make(tmp_path / "place")
    before = names(tmp_path)
    with pytest.raises(OutputError):
        whole(path).write(b"data")
    assert names(tmp_path) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_seen_before_the_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="Permission denied"):
            whole(tmp_path / "run.prom").check()
    finally:
        tmp_path.chmod(0o700)
