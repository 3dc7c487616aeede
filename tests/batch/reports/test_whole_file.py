"""Small files are replaced atomically, or stay as they were."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import OutputError
from batch.files.drafts import draft_stem, make_draft_name
from batch.location import Url
from batch.reports.whole_file import MAX_RECORD_BYTES, AtomicFile, AtomicObject

ELSEWHERE = "name another place"


def names(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir()]


def whole(path: Path) -> AtomicFile:
    return AtomicFile(path, "metrics file", ELSEWHERE)


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
    (tmp_path / make_draft_name(draft_stem(file.path))).write_bytes(b"half")
    file.write(b"whole")
    assert names(tmp_path) == ["run.prom"]


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path) -> None:
    file = whole(tmp_path / "run.prom")
    with file.path.open("wb") as stream:
        stream.truncate(MAX_RECORD_BYTES)
    assert len(file.read() or b"") == MAX_RECORD_BYTES
    with file.path.open("ab") as stream:
        stream.truncate(1 << 40)  # of which reading all would take a terabyte of memory
    assert file.read() is None


def test_an_object_that_is_too_long_is_not_read() -> None:
    import fsspec

    url = Url("memory://records/r.csv.run.json")
    store, object_ = fsspec.filesystem("memory"), AtomicObject(url, "run record")
    assert object_.read() is None
    for size in (0, MAX_RECORD_BYTES):
        object_.write(bytes(size))
        assert object_.read() == bytes(size)
    object_.write(bytes(MAX_RECORD_BYTES + 1))
    assert object_.read() is None
    store.rm("/records", recursive=True)


def test_a_pipe_in_place_of_the_file_is_not_waited_for(tmp_path: Path) -> None:
    file = whole(tmp_path / "run.prom")
    os.mkfifo(file.path)
    assert file.read() is None


def test_a_file_of_another_program_is_not_replaced(tmp_path: Path) -> None:
    file = AtomicFile(tmp_path / "apt.prom", "metrics file", ELSEWHERE, start=b"# HELP ours ")
    for earlier in (b"", b"# HELP ours and more"):
        file.path.write_bytes(earlier)
        file.check()
        file.write(b"# HELP ours 2")
    file.path.write_bytes(b"# HELP theirs")
    for call in (file.check, lambda: file.write(b"# HELP ours 3")):
        with pytest.raises(OutputError, match=f"was not written by batch-label; {ELSEWHERE}"):
            call()
    assert file.path.read_bytes() == b"# HELP theirs"


def test_a_photo_is_not_replaced(tmp_path: Path) -> None:
    file = whole(tmp_path / "photo.jpg")
    Image.new("RGB", (8, 8)).save(file.path)
    photo = file.path.read_bytes()
    for call in (file.check, lambda: file.write(b"")):
        with pytest.raises(OutputError, match=f"is a picture, .*; {ELSEWHERE}"):
            call()
    assert file.path.read_bytes() == photo


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
def test_a_bad_place_is_found_before_the_run(make: Callable[[Path], Path], tmp_path: Path) -> None:
    file = whole(make(tmp_path / "place"))
    with pytest.raises(OutputError, match=f"metrics file .*{ELSEWHERE}"):
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
def test_a_folder_that_may_not_be_written_is_found_before_the_run(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="permission denied"):
            whole(tmp_path / "run.prom").check()
    finally:
        tmp_path.chmod(0o700)
