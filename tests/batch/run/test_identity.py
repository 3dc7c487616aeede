"""Digest, time, camera and coordinates of photos in the reports of real runs."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

import batch
from batch.errors import ExitCode
from tests.batch.vision.test_capture import CANON, LYON, TAKEN, make_exif
from tests.conftest import Command

# As cameras store 45 degrees 45 minutes, and as reports write it.
STORED = b"\0\0\0\x2d\0\0\0\x01\0\0\0\x2d\0\0\0\x01"
WRITTEN = b"45.75"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A portrait with the tags of a camera."""
    path = tmp_path / "photos" / "portrait.jpg"
    path.parent.mkdir()
    image = Image.fromarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    image.save(path, exif=make_exif(CANON, TAKEN, LYON))
    assert STORED in path.read_bytes()
    return path


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_streams_reports_copies_and_members_have_the_same_digest(
    command: Command, photo: Path, tmp_path: Path
) -> None:
    shutil.copy(photo, photo.with_name("copy.jpg"))
    (photo.parent / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (photo.parent / "empty.jpg").touch()
    with zipfile.ZipFile(tmp_path / "photos" / "album.zip", "w") as archive:
        archive.write(photo, "member.jpg")
    streamed = command("photos", "--archives", "-q")
    assert streamed.returncode == ExitCode.INCOMPLETE, streamed.stderr
    assert command("photos", "--archives", "-q", "-o", "r.csv").returncode == ExitCode.INCOMPLETE
    rows = read((tmp_path / "r.csv").read_text())
    assert rows == read(streamed.stdout)
    by_name = {row["path"].partition("::")[0].rpartition("/")[2]: row["sha256"] for row in rows}
    assert by_name == {
        "portrait.jpg": digest(photo),
        "copy.jpg": digest(photo),
        "member.jpg": digest(photo),
        "broken.jpg": digest(photo.with_name("broken.jpg")),
        "empty.jpg": hashlib.sha256().hexdigest(),
    }
    cameras = {row["camera"] for row in rows if row["status"] != "failed"}
    times = {row["taken"] for row in rows if row["status"] != "failed"}
    assert (cameras, times) == ({"Canon EOS R5"}, {"2026-01-31T18:04:05"})


def test_coordinates_are_stored_only_if_asked_for(
    command: Command, photo: Path, tmp_path: Path
) -> None:
    assert command("photos", "-o", "r.csv").returncode == ExitCode.OK
    shutil.copy(photo, photo.with_name("copy.jpg"))
    assert command("photos", "-o", "r.csv").returncode == ExitCode.OK
    photo.with_name("copy.jpg").unlink()
    assert "latitude" not in read((tmp_path / "r.csv").read_text())[0]
    for file in tmp_path.iterdir():
        assert file.is_dir() or WRITTEN not in file.read_bytes(), file

    again = command("photos", "-o", "r.csv", "--with-location")
    assert "--with-location changed from off to on" in again.stderr
    (row,) = read((tmp_path / "r.csv").read_text())
    assert (row["latitude"], row["longitude"]) == ("45.750000", "4.835000")
    assert WRITTEN in (tmp_path / ".r.csv.journal").read_bytes()
    unchanged = command("photos", "-o", "r.csv", "--with-location")
    assert "stays as it is" in unchanged.stderr

    assert command("photos", "-o", "r.csv").returncode == ExitCode.OK
    assert "latitude" not in read((tmp_path / "r.csv").read_text())[0]


def test_every_face_has_the_values_of_its_photo(
    command: Command, photo: Path, tmp_path: Path
) -> None:
    ran = command("photos", "-o", "r.jsonl", "--per-face", "--with-location")
    assert ran.returncode == ExitCode.OK, ran.stderr
    rows = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert {(row["sha256"], row["taken"], row["latitude"]) for row in rows} == {
        (digest(photo), "2026-01-31T18:04:05", 45.75)
    }


def test_shards_have_the_same_columns(command: Command, photo: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        part = ("--shard", f"{number}/2", "-o", f"part-{number}.csv")
        assert command("photos", *part, "--with-location").returncode == ExitCode.OK
    ran = command("merge", "part-1.csv", "part-2.csv", "-o", "merged.csv")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert command("photos", "--with-location", "-o", "r.csv").returncode == ExitCode.OK
    assert (tmp_path / "merged.csv").read_bytes() == (tmp_path / "r.csv").read_bytes()


def test_rows_of_the_library_have_them(photo: Path) -> None:
    (row,) = batch.label(photo)
    assert (row.sha256 or b"").hex() == digest(photo)
    assert (row.capture.camera, row.capture.latitude) == ("Canon EOS R5", None)
    (row,) = batch.label(photo, batch.Options(with_location=True))
    assert row.capture.latitude == pytest.approx(45.75)
    (record,) = batch.to_frame([row]).to_dict("records")
    assert record["sha256"] == digest(photo)
