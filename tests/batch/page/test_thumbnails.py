"""Thumbnails are upright, without metadata, bounded in size, and safe to make."""

from __future__ import annotations

import io
import os
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from batch.page.gather import PageRow
from batch.page.thumbnails import (
    FILE_NEWER,
    MAX_PICTURE_SIDE,
    PHOTO_CHANGED,
    PHOTO_GONE,
    PagePicture,
    choose_pictured,
    encode_picture,
    make_pictures,
)
from batch.reading.reviews import ReviewLine, write_review_lines
from batch.reading.saved import SavedRow
from batch.records import Photo, Source
from tests.support.bombs import bombs
from tests.support.page_rows import (
    ROWS,
    files_of,
    make_answered_row,
    make_report_page,
    page_data,
    write_photos,
    write_report,
)

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def make_row(path: str, size: tuple[int, int], number: int = 0, confidence: float = 0.6) -> PageRow:
    row = SavedRow(path, "ok", "happy", confidence)
    return PageRow(number, row, "face", (10.0, 10.0, 20.0, 20.0), size)


def make(
    folder: Path, *chosen: PageRow, made: datetime = LATER, per_face: bool = False
) -> list[PagePicture]:
    return [picture for _, picture in make_pictures(list(chosen), folder, per_face, made)]


def open_picture(picture: PagePicture) -> Image.Image:
    return Image.open(io.BytesIO(picture.data))


def test_a_picture_has_no_metadata(tmp_path: Path, astronaut: Image.Image) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "a camera of mine"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (52.0, 31.0, 12.0)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    wide = astronaut.crop((0, 0, 512, 384))
    sideways = wide.transpose(Image.Transpose.ROTATE_90)  # which orientation 6 turns upright
    sideways.save(
        *(tmp_path / "a.jpg", "JPEG"),
        exif=exif,
        icc_profile=profile,
        comment=b"my comment",
        quality=95,
    )
    (picture,) = make(tmp_path, make_row("a.jpg", (512, 384)))
    image = open_picture(picture)
    assert (image.format, image.size) == ("WEBP", (MAX_PICTURE_SIDE, MAX_PICTURE_SIDE * 384 // 512))
    assert picture.view == (0, 0, 512, 384)
    for word in (b"EXIF", b"ICCP", b"XMP ", b"camera", b"comment"):
        assert word not in picture.data
    assert not image.getexif()
    assert "icc_profile" not in image.info
    expected = np.asarray(wide.resize(image.size), np.int16)
    assert np.abs(np.asarray(image.convert("RGB"), np.int16) - expected).mean() < 6


def test_pictures_are_bounded_in_total_size(
    tmp_path: Path, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_answered_row(f"{number}.jpg", 0.5 + number / 100) for number in range(20)]
    for row in rows:
        astronaut.save(tmp_path / row.path)
    whole = files_of(make_report_page(write_report(tmp_path / "r.csv", rows))[0])
    assert len(whole) == 20
    bound = sum(map(len, whole[:7])) + 1
    monkeypatch.setattr("batch.page.thumbnails.MAX_TOTAL_BYTES", bound)
    page, made = make_report_page(write_report(tmp_path / "r.csv", rows))
    assert files_of(page) == whole[:7]
    assert made.pictures == 7


def test_the_least_certain_rows_get_the_pictures(tmp_path: Path, astronaut: Image.Image) -> None:
    for row in ROWS[:5]:
        (tmp_path / row.path).parent.mkdir(exist_ok=True)
        astronaut.save(tmp_path / row.path)
    page, _ = make_report_page(write_report(tmp_path / "r.csv"), gallery=2)
    data = page_data(page)
    assert [data["rows"]["name"][row] for row, *_ in data["pictures"]] == ["c.jpg", "d.jpg"]
    rows = [make_row("a", (9, 9), 0, 0.9), make_row("b", (9, 9), 1, 0.5)]
    chosen = choose_pictured(rows, 5, {})
    assert [one.saved.path for one in chosen] == ["b", "a"]


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(1, "b"), (2, "fb"), (4, "fdba"), (5, "fdbac"), (6, "fdebac"), (9, "fdebac"), (0, "")],
)
def test_reviewed_rows_get_at_most_half_of_the_pictures_if_others_need_them(
    count: int, chosen: str
) -> None:
    certain = zip("abcdef", (0.6, 0.5, 0.7, 1.0, 1.0, 1.0), strict=True)
    rows = [make_row(name, (9, 9), n, share) for n, (name, share) in enumerate(certain)]
    reviewed = {3: 7, 4: -1, 5: 9}  # f is the newest, e is not in the reviews file
    assert "".join(row.saved.path for row in choose_pictured(rows, count, reviewed)) == chosen


def test_a_photo_that_was_just_corrected_has_a_picture(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    rows = [replace(make_answered_row(f"{n}.jpg", 0.6), sha256=bytes([n]) * 32) for n in range(6)]
    rows[4] = replace(rows[4], source=Source.REVIEW)
    write_photos(tmp_path, rows, astronaut)
    lines = [
        ReviewLine(f"{n}.jpg", f"{n:02}" * 32, None, None, "happy", 0.6, "sad") for n in (5, 3)
    ]
    (tmp_path / "r.csv.reviews.csv").write_text(write_review_lines(lines))
    page, _ = make_report_page(write_report(tmp_path / "r.csv", rows), gallery=4)
    assert [row for row, *_ in page_data(page)["pictures"]] == [0, 1, 3, 5]


def test_a_photo_that_is_gone_or_changed_has_a_placeholder(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    astronaut.save(tmp_path / "a.jpg")
    os.utime(tmp_path / "a.jpg", (1.6e9, 1.6e9))
    (changed,) = make(tmp_path, make_row("a.jpg", (100, 100)))
    (gone,) = make(tmp_path, make_row("b.jpg", (512, 512)))
    (same,) = make(tmp_path, make_row("a.jpg", (512, 512)))
    assert (changed.data, changed.note) == (b"", PHOTO_CHANGED)
    assert (gone.data, gone.note) == (b"", PHOTO_GONE)
    assert (bool(same.data), same.note) == (True, "")
    (newer,) = make(tmp_path, make_row("a.jpg", (512, 512)), made=datetime(2001, 1, 1, tzinfo=UTC))
    assert (bool(newer.data), newer.note) == (True, FILE_NEWER)


def test_photos_in_local_archives_have_pictures(tmp_path: Path) -> None:
    photo = io.BytesIO()
    Image.new("RGB", (40, 30)).save(photo, "PNG")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.png", photo.getvalue())
    found, gone, elsewhere = make(
        tmp_path,
        make_row("zip://a.png::x.zip", (40, 30)),
        make_row("zip://b.png::x.zip", (40, 30)),
        make_row("zip://a.png::http://127.0.0.1:1/x.zip", (40, 30)),
    )
    assert open_picture(found).size == (40, 30)
    assert (gone.note, elsewhere.data) == (PHOTO_GONE, b"")
    assert "not on this machine" in elsewhere.note


def test_a_hostile_file_loses_only_its_own_picture(tmp_path: Path, astronaut: Image.Image) -> None:
    astronaut.save(tmp_path / "good.jpg")
    names = []
    for name, data in bombs().items():
        (tmp_path / name).write_bytes(data)
        names.append(name)
    rows = [make_row(name, (512, 512), number) for number, name in enumerate([*names, "good.jpg"])]
    *bad, good = make(tmp_path, *rows)
    assert len(bad) == len(names)
    assert all(picture.note and not picture.data for picture in bad)
    assert good.data


@pytest.mark.parametrize(
    "path", ["odd\\q.jpg", "nul\\x00.jpg", f"{'long' * 5000}.jpg", ".", "/dev/zero"]
)
def test_invalid_paths_have_no_picture(tmp_path: Path, path: str) -> None:
    (picture,) = make(tmp_path, make_row(path, (512, 512)))
    assert not picture.data
    assert picture.note


def test_a_face_is_shown_with_its_surroundings(tmp_path: Path) -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[40:60, 90:110] = 255
    photo = Photo(tmp_path, Image.fromarray(pixels), 400, 200)  # decoded to half its size
    picture = encode_picture(photo, (180.0, 80.0, 40.0, 40.0))
    assert picture.view == (140, 40, 120, 120)
    image = np.asarray(open_picture(picture).convert("L"))
    assert image.shape == (60, 60)
    assert image[30, 30] > 240
    assert image[5, 5] < 15


@pytest.mark.parametrize(
    "box", [(-50.0, -50.0, 40.0, 40.0), (900.0, 500.0, 10.0, 10.0), (0.0, 0.0, 1e6, 1e6)]
)
def test_a_box_beyond_the_photo_has_a_picture(
    tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    picture = encode_picture(Photo(tmp_path, Image.new("RGB", (200, 100)), 400, 200), box)
    left, top, width, height = picture.view
    assert 0 <= left < left + width <= 400
    assert 0 <= top < top + height <= 200
    assert open_picture(picture).size >= (1, 1)
