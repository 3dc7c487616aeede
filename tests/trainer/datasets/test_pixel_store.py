from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from batch.errors import OutputError
from batch.records import Region
from tests.support.trainer_data import write_folders
from trainer.datasets import pixel_store
from trainer.datasets.dataset import Framing, Split, concatenate, select_samples
from trainer.datasets.labelled_files import load_folders
from trainer.datasets.pixel_store import allocate_pixels, join_pixels, select_pixels


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep no array in memory, and temporary files in a folder."""
    monkeypatch.setattr(pixel_store, "MAX_BYTES_IN_MEMORY", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def is_in_file(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bool:
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base
    return False


def make_samples(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), np.uint8)


def test_large_arrays_are_in_a_file_without_a_name(small_memory: Path) -> None:
    assert not is_in_file(allocate_pixels((5, 8, 8, 3)))
    large = allocate_pixels((6, 8, 8, 3))
    assert is_in_file(large)
    assert list(small_memory.iterdir()) == []
    large[:] = 7
    assert large.sum() == 7 * large.size


@pytest.mark.usefixtures("small_memory")
def test_selected_and_joined_samples_stay_in_files() -> None:
    pixels = make_samples(700)
    mask = np.arange(700) % 3 > 0
    indices = np.arange(699, -1, -1)
    for chosen in (mask, indices):
        selected = select_pixels(pixels, chosen)
        assert is_in_file(selected)
        np.testing.assert_array_equal(selected, pixels[chosen])
    part = Split(pixels, np.ones((700, 1), np.float32), np.ones(700, np.bool_))
    assert is_in_file(select_samples(part, mask).pixels)
    joined = concatenate((part, select_samples(part, mask))).pixels
    assert is_in_file(joined)
    np.testing.assert_array_equal(joined, join_pixels([pixels, pixels[mask]]))
    assert len(select_pixels(pixels, np.zeros(700, np.bool_))) == 0


def test_a_full_disk_is_an_error_and_not_a_killed_process(
    small_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OutputError, match=r"has no room .* 0\.0 GB .*free space, or name another"):
        allocate_pixels((100, 8, 8, 3))


@pytest.mark.usefixtures("small_memory")
def test_without_a_folder_for_temporary_files_the_remedy_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with pytest.raises(OutputError, match=r"no folder .* \(No usable temporary .*variable TMPDIR"):
        allocate_pixels((100, 8, 8, 3))


@pytest.mark.usefixtures("small_memory")
def test_a_given_folder_that_does_not_exist_is_said_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    for _ in range(2):
        assert is_in_file(allocate_pixels((100, 8, 8, 3)))
    assert caplog.messages == [
        f"WARNING: TMPDIR names {tmp_path / 'none'}, which is not a folder, so it is not used"
    ]


def test_by_default_files_are_on_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")
    assert pixel_store._choose_folder() == Path("/var/tmp")
    monkeypatch.setattr(tempfile, "tempdir", "/elsewhere")
    assert pixel_store._choose_folder() == Path("/elsewhere")


@pytest.mark.usefixtures("small_memory")
def test_the_samples_of_a_folder_are_in_files(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    write_folders(photos, 20)
    data = load_folders(photos, Framing(Region.IMAGE, side=48))
    assert is_in_file(data.train.pixels)
    assert is_in_file(data.get_split("all").pixels)
