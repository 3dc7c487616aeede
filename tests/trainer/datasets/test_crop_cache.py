from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.records import Region
from batch.vision.decode import decode_bytes
from trainer.datasets import crop_cache, samples
from trainer.datasets.crop_cache import CACHE_FILE, Crop, CropCache
from trainer.datasets.dataset import Framing
from trainer.datasets.samples import LabelledFile, Sample, read_samples

FRAMING = Framing(Region.IMAGE, side=32, channels=3)


@pytest.fixture
def folder(tmp_path: Path, astronaut: Image.Image) -> Path:
    """A folder of six photos of which the last can't be decoded."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(5):
        astronaut.crop((n * 20, 0, n * 20 + 300, 300)).save(photos / f"{n}.jpg")
    (photos / "5.jpg").write_bytes(b"no photo")
    return photos


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded."""
    names: list[str] = []

    def note(path: Path, data: bytes) -> object:
        names.append(path.name)
        return decode_bytes(path, data)

    monkeypatch.setattr(samples, "decode_bytes", note)
    return names


def read(folder: Path, cache: Path | None, framing: Framing = FRAMING) -> list[Sample]:
    files = [LabelledFile(path, path.name, 0) for path in sorted(folder.iterdir())]
    found, skipped, _ = read_samples(files, framing, cache)
    assert [name for name, _ in skipped if name == "5.jpg"] == ["5.jpg"]
    return found


def assert_same(one: list[Sample], other: list[Sample]) -> None:
    assert [(s.name, s.digest, s.split) for s in one] == [
        (s.name, s.digest, s.split) for s in other
    ]
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a.pixels, b.pixels)


def test_a_second_reading_decodes_only_what_is_new_or_failed(
    folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    first = read(folder, cache)
    assert len(first) == 5
    assert_same(read(folder, None), first)
    decoded.clear()
    assert_same(read(folder, cache), first)
    assert decoded == ["5.jpg"]
    shutil.copy(folder / "0.jpg", folder / "new.jpg")
    decoded.clear()
    assert len(read(folder, cache)) == 6
    assert sorted(decoded) == ["5.jpg", "new.jpg"]
    assert (cache.stat().st_mode & 0o777) == 0o700


def test_a_replaced_photo_is_read_again_though_size_and_mtime_are_the_same(
    folder: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    read(folder, cache)
    other, *_, path = sorted(folder.glob("[0-4].jpg"), key=lambda path: path.stat().st_size)
    before = path.stat()
    path.write_bytes(other.read_bytes().ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    again = {sample.name: sample for sample in read(folder, cache)}
    np.testing.assert_array_equal(again[path.name].pixels, again[other.name].pixels)


def test_crops_of_another_framing_or_version_are_not_used(
    folder: Path, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    read(folder, cache)
    decoded.clear()
    small = read(folder, cache, Framing(Region.IMAGE, side=16, channels=1))
    assert small[0].pixels.shape == (16, 16, 1)
    assert len(decoded) == 6
    for name in ("PREPROCESSING_VERSION", "CROP_VERSION"):
        decoded.clear()
        monkeypatch.setattr(crop_cache, name, 99)
        read(folder, cache)
        assert len(decoded) == 6


def test_photos_without_a_face_are_known_too(
    photos: Path, tmp_path: Path, decoded: list[str]
) -> None:
    files = [LabelledFile(path, path.name, 0) for path in sorted(photos.glob("*.jpg"))]
    for _ in range(2):
        found, skipped, _ = read_samples(files, Framing(), tmp_path / "cache")
        assert [sample.name for sample in found] == ["astronaut.jpg"]
        assert skipped == [("coffee.jpg", "no face found")]
    assert len(decoded) == 2


def damage(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1
    path.write_bytes(content.replace(old, new))


def test_a_damaged_crop_is_decoded_again_and_replaced(
    folder: Path, tmp_path: Path, decoded: list[str]
) -> None:
    cache = tmp_path / "cache"
    first = read(folder, cache)
    stored = first[2].pixels.tobytes()[:64]
    damage(cache / CACHE_FILE, stored, bytes(255 - value for value in stored))
    decoded.clear()
    assert_same(read(folder, cache), first)
    assert sorted(decoded) == ["2.jpg", "5.jpg"]
    decoded.clear()
    assert_same(read(folder, cache), first)
    assert decoded == ["5.jpg"]


@pytest.mark.parametrize(
    "content", [b"not a database" * 400, b"SQLite format 3\0" + b"\xff" * 9000]
)
def test_a_damaged_cache_starts_anew(
    folder: Path, tmp_path: Path, decoded: list[str], content: bytes,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    cache = tmp_path / "cache"
    first = read(folder, cache)
    (cache / CACHE_FILE).write_bytes(content)
    assert_same(read(folder, cache), first)
    assert "crops.sqlite is damaged" in caplog.text
    decoded.clear()
    assert_same(read(folder, cache), first)
    assert decoded == ["5.jpg"]


def test_a_cache_that_cannot_be_used_costs_only_time(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    assert len(read(folder, tmp_path / "file" / "cache")) == 5
    assert "can't be used" in caplog.text


def make_crop(n: int) -> Crop:
    return Crop(f"{n:064}", np.full((32, 32, 3), n % 256, np.uint8))


def store(folder: Path, numbers: range, max_bytes: int) -> None:
    with CropCache(folder, FRAMING, max_bytes) as cache:
        for n in numbers:
            cache.store(n.to_bytes(32), make_crop(n))


def count_known(folder: Path, numbers: range) -> int:
    with CropCache(folder, FRAMING) as cache:
        return sum(cache.fetch(n.to_bytes(32)) is not None for n in numbers)


def test_the_size_is_bounded_and_old_crops_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(crop_cache, "WRITTEN_ROWS", 10)
    monkeypatch.setattr(crop_cache, "EVICTED_ROWS", 10)
    limit = 200 * 3072
    store(tmp_path, range(100), limit)
    assert count_known(tmp_path, range(100)) == 100
    assert count_known(tmp_path, range(50, 100)) == 50  # these were used last
    store(tmp_path, range(1000, 1080), limit)
    assert count_known(tmp_path, range(1000, 1080)) == 80
    assert count_known(tmp_path, range(50)) < 50
    assert count_known(tmp_path, range(50, 100)) == 50
    size = (tmp_path / CACHE_FILE).stat().st_size
    # A command never evicts its own crops: the next one could use none of them.
    store(tmp_path, range(2000, 3000), limit)
    assert (tmp_path / CACHE_FILE).stat().st_size <= size + 50 * 3072
    known = count_known(tmp_path, range(2000, 3000))
    assert 50 < known < 200
    assert f"is full: {1000 - known} crops are not stored" in caplog.text


def test_two_commands_share_a_cache(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=store, args=(tmp_path, range(n * 400, n * 400 + 800), 10**9))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count_known(tmp_path, range(1600)) == 1600
    database = sqlite3.connect(tmp_path / CACHE_FILE)
    assert database.execute("SELECT count(*) FROM pixels").fetchone() == (1600,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


KILLED = """
import os, sys
from pathlib import Path
from tests.trainer.datasets.test_crop_cache import FRAMING, make_crop
from trainer.datasets.crop_cache import CropCache
with CropCache(Path(sys.argv[1]), FRAMING) as cache:
    for n in range(600):
        cache.store(n.to_bytes(32), make_crop(n))
    os.kill(os.getpid(), 9)
"""


def test_a_kill_loses_only_the_last_crops(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert ran.returncode == -9
    assert count_known(tmp_path, range(600)) == crop_cache.WRITTEN_ROWS


def list_numbers(folder: Path, numbers: range) -> list[int]:
    """List the numbers of the crops that are known, whose content has to be right."""
    found = []
    with CropCache(folder, FRAMING) as cache:
        for n in numbers:
            crop, wanted = cache.fetch(n.to_bytes(32)), make_crop(n)
            if crop is not None:
                assert crop.digest == wanted.digest
                np.testing.assert_array_equal(crop.pixels, wanted.pixels)
                found.append(n)
    return found


def execute(path: Path, *statements: str) -> None:
    database = sqlite3.connect(path, isolation_level=None)
    for statement in statements:
        database.execute(statement)
    database.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE crops SET digest = CAST(digest AS BLOB) WHERE rowid = 2",
        "UPDATE crops SET digest = CAST(x'ff' AS TEXT) WHERE rowid = 2",
        "UPDATE crops SET checksum = 'x' WHERE rowid = 2",
        "UPDATE pixels SET pixels = 7 WHERE id = 2",
        "UPDATE pixels SET pixels = CAST(pixels AS TEXT) WHERE id = 2",
        "UPDATE pixels SET pixels = NULL WHERE id = 2",
    ],
)
def test_a_row_of_wrong_types_is_not_used(tmp_path: Path, statement: str) -> None:
    store(tmp_path, range(4), 10**9)
    execute(tmp_path / CACHE_FILE, statement)
    assert list_numbers(tmp_path, range(4)) == [0, 2, 3]
    store(tmp_path, range(4), 10**9)
    assert list_numbers(tmp_path, range(4)) == [0, 1, 2, 3]


def test_a_schema_that_is_not_utf8_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, range(2), 10**9)
    damage(tmp_path / CACHE_FILE, b"CREATE TABLE crops", b"CREATE TABL\xff crops")
    store(tmp_path, range(2), 10**9)
    assert "crops.sqlite is damaged" in caplog.text
    assert list_numbers(tmp_path, range(2)) == [0, 1]


def test_no_damaged_byte_stops_a_command_or_changes_a_crop(tmp_path: Path) -> None:
    store(tmp_path, range(6), 10**9)
    path = tmp_path / CACHE_FILE
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    # All bytes of the header, and some of all pages.
    places = [*range(100), *random.integers(0, len(whole), 900)]
    for count, at in enumerate(places):
        damaged = bytearray(whole)
        damaged[at] ^= int(random.integers(1, 256))
        path.write_bytes(damaged)
        list_numbers(tmp_path, range(6))
        if count % 10 == 0:  # a write waits for the disk
            store(tmp_path, range(6, 7), 10**9)
            list_numbers(tmp_path, range(7))
        (tmp_path / f"{CACHE_FILE}-journal").unlink(missing_ok=True)


@pytest.mark.parametrize("is_link", [False, True])
@pytest.mark.parametrize("table", ["photos (id)", "crops (key, digest)"])
def test_the_database_of_another_program_is_not_written(
    tmp_path: Path, table: str, is_link: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / CACHE_FILE
    other = tmp_path / "other.db" if is_link else path
    execute(other, "PRAGMA journal_mode = WAL", f"CREATE TABLE {table}")
    if is_link:
        path.symlink_to(other)
    before, names = other.read_bytes(), sorted(tmp_path.iterdir())
    store(tmp_path, range(2), 10**9)
    assert list_numbers(tmp_path, range(2)) == []
    assert other.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == names
    assert f"{path} is the database of another program" in caplog.text


def test_a_cache_of_another_release_starts_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / CACHE_FILE
    for change in ("ALTER TABLE crops ADD COLUMN x", "PRAGMA user_version = 99"):
        store(tmp_path, range(2), 10**9)
        execute(path, change)
        caplog.clear()
        assert list_numbers(tmp_path, range(2)) == []
        assert caplog.messages == [f"{path} is of another release and starts anew"]
        store(tmp_path, range(2), 10**9)
        assert list_numbers(tmp_path, range(2)) == [0, 1]


def test_a_cache_of_before_the_marks_is_used(tmp_path: Path) -> None:
    store(tmp_path, range(2), 10**9)
    execute(tmp_path / CACHE_FILE, "PRAGMA application_id = 0", "PRAGMA user_version = 0")
    assert list_numbers(tmp_path, range(2)) == [0, 1]
