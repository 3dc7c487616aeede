"""Files are opened without waiting for pipes, and the program's own without following links."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from batch.files.regular_file import (
    NotRegularFile,
    is_current,
    open_folder,
    open_lockable,
    open_regular,
    read_regular,
    read_start,
    try_lock,
)
from tests.support.discovery import without_privileges


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    return path


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_pipe_is_not_waited_for(pipe: Path) -> None:
    with pytest.raises(NotRegularFile, match="not a regular file"):
        open_regular(pipe)
    assert read_regular(pipe, 10) is None
    assert read_start(pipe, 10) is None
    os.close(open_lockable(pipe))


def test_a_link_to_a_regular_file_is_followed_for_reading(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    with open_regular(tmp_path / "link") as stream:
        assert stream.read() == b"12345"


def test_a_link_is_refused_for_own_files_and_folders(file: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(file)
    (tmp_path / "folder").symlink_to(tmp_path)
    with pytest.raises(OSError, match="symbolic links"):
        open_lockable(tmp_path / "link")
    with pytest.raises(OSError, match="Not a directory"):
        open_folder(tmp_path / "folder")


@pytest.mark.parametrize(("max_bytes", "data"), [(5, b"12345"), (6, b"12345"), (4, None)])
def test_a_file_beyond_the_limit_is_not_read(
    file: Path, max_bytes: int, data: bytes | None
) -> None:
    assert read_regular(file, max_bytes) == data


def test_the_start_of_a_file(file: Path) -> None:
    assert read_start(file, 2) == b"12"
    with pytest.raises(FileNotFoundError):
        read_start(file.with_name("none"), 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files of another user")
def test_a_file_that_may_not_be_written_is_opened_for_reading() -> None:
    with tempfile.TemporaryDirectory() as text:  # pytest's folders are closed to other users
        folder = Path(text)
        (folder / "readable").touch(mode=0o644)
        (folder / "closed").touch(mode=0o600)
        with without_privileges(folder):
            descriptor = open_lockable(folder / "readable", create=True)
            assert try_lock(descriptor)
            os.close(descriptor)
            with pytest.raises(PermissionError):
                open_lockable(folder / "closed", create=True)


def test_a_lock_is_held_until_its_descriptor_is_closed(file: Path) -> None:
    one, other = open_lockable(file), open_lockable(file)
    assert try_lock(one)
    assert not try_lock(other)
    os.close(one)
    assert try_lock(other)
    os.close(other)


def test_a_file_that_was_replaced_is_not_current(file: Path) -> None:
    descriptor = open_lockable(file)
    assert is_current(file, descriptor)
    file.with_name("other").touch()
    file.with_name("other").replace(file)
    assert not is_current(file, descriptor)
    file.unlink()
    assert not is_current(file, descriptor)
    os.close(descriptor)
