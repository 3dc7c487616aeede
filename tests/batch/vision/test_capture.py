from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import ExifTags, Image, TiffImagePlugin
from PIL.ExifTags import GPS, Base

from batch.file_types import FILE_TYPES, PREVIEW
from batch.records import NO_CAPTURE, Capture, Photo
from batch.row_json import MAX_CAMERA_CHARS
from batch.vision.decode import decode_bytes
from batch.vision.pillow import has_reader
from tests.batch.vision.test_raw import preview, raf, tiff_raw

TAKEN: dict[int, Any] = {Base.DateTimeOriginal: "2026:01:31 18:04:05"}
CANON: dict[int, Any] = {Base.Make: "Canon", Base.Model: "Canon EOS R5"}
LYON: dict[int, Any] = {
    GPS.GPSLatitudeRef: "N",
    GPS.GPSLatitude: (45.0, 45.0, 0.0),
    GPS.GPSLongitudeRef: "E",
    GPS.GPSLongitude: (4.0, 50.0, 6.0),
}
PICTURE = Image.new("RGB", (96, 64), "grey")


def read(data: bytes) -> Capture:
    photo = decode_bytes(Path("photo"), data)
    assert isinstance(photo, Photo), photo
    return photo.capture


def make_exif(
    main: Mapping[int, Any] = {}, shot: Mapping[int, Any] = {}, place: Mapping[int, Any] = {}
) -> Image.Exif:
    exif = Image.Exif()
    exif.update(main)
    exif.get_ifd(ExifTags.IFD.Exif).update(shot)
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(place)
    written = Image.Exif()
    written.load(exif.tobytes())  # a TIFF is saved only with groups that were loaded
    return written


def save(exif: Image.Exif | bytes, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, form, exif=exif)
    return file.getvalue()


def check_has_all(capture: Capture) -> None:
    assert (capture.taken, capture.camera) == ("2026-01-31T18:04:05", "Canon EOS R5")
    assert capture.latitude == pytest.approx(45.75)
    assert capture.longitude == pytest.approx(4.835)


# Formats of Pillow's name that can hold EXIF tags.
FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "AVIF", "HEIF", "JXL")


@pytest.mark.parametrize("form", FORMATS)
def test_time_camera_and_place_are_read_from_every_format(form: str) -> None:
    if kind := {"HEIF": "pillow_heif", "JXL": "pillow_jxl"}.get(form):
        pytest.importorskip(kind)
        assert has_reader(form)
    check_has_all(read(save(make_exif(CANON, TAKEN, LYON).tobytes(), form)))


def test_no_format_with_tags_is_missing_above() -> None:
    without = {"GIF", "BMP", PREVIEW}
    assert {kind.decoder for kind in FILE_TYPES if kind.decoder} == {*FORMATS, *without} - {"MPO"}


def test_a_photo_without_tags_has_none() -> None:
    assert read(save(b"")) == NO_CAPTURE


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({**TAKEN, Base.OffsetTimeOriginal: "+01:00"}, "2026-01-31T18:04:05+01:00"),
        ({**TAKEN, Base.OffsetTimeOriginal: "   :  "}, "2026-01-31T18:04:05"),
        ({**TAKEN, Base.OffsetTimeOriginal: "+25:00"}, "2026-01-31T18:04:05"),
        ({Base.DateTimeDigitized: "2026:02:01 00:00:00"}, "2026-02-01T00:00:00"),
        # The clock was never set, or the text is not a time: the next tag counts.
        (
            {
                Base.DateTimeOriginal: "0000:00:00 00:00:00",
                Base.DateTimeDigitized: "2026:02:01 00:00:00",
            },
            "2026-02-01T00:00:00",
        ),
        ({Base.DateTimeOriginal: "    :  :     :  :  "}, None),
        ({Base.DateTimeOriginal: "2026:02:30 00:00:00"}, None),
        ({Base.DateTimeOriginal: "=1+1"}, None),
    ],
)
def test_times(tags: Mapping[int, Any], expected: str | None) -> None:
    assert read(save(make_exif(shot=tags))).taken == expected


def test_the_time_of_saving_is_not_the_time_of_the_shot() -> None:
    assert read(save(make_exif({Base.DateTime: "2026:01:31 18:04:05"}))).taken is None


@pytest.mark.parametrize(
    ("make", "model", "expected"),
    [
        ("NIKON CORPORATION", "NIKON D850", "NIKON D850"),
        ("Apple", "iPhone 15 Pro", "Apple iPhone 15 Pro"),
        ("Apple\0\0", "iPhone\0rubbish", "Apple iPhone"),
        ("Maker", "", "Maker"),
        ("", "Model", "Model"),
        (" ", " ", None),
        ("two\nlines", "here", "two lines here"),
        ("x" * 2000, "", "x" * MAX_CAMERA_CHARS),
    ],
)
def test_cameras(make: str, model: str, expected: str | None) -> None:
    main: dict[int, Any] = {Base.Make: make.encode(), Base.Model: model.encode()}
    assert read(save(make_exif(main))).camera == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("Hülle".encode(), "Hülle"), ("a\u202eb".encode(), None)]
)
def test_names_are_utf_8_and_printable(name: bytes, expected: str | None) -> None:
    data = save(make_exif({Base.Model: "?" * len(name)}))
    assert read(data.replace(b"?" * len(name), name)).camera == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({GPS.GPSLatitudeRef: "S", GPS.GPSLongitudeRef: "W"}, (-45.75, -4.835)),
        ({GPS.GPSLatitudeRef: ""}, None),
        ({GPS.GPSLatitude: (91.0, 0.0, 0.0)}, None),
        ({GPS.GPSLongitude: (4.0, 50.0)}, None),
        ({GPS.GPSLatitude: (TiffImagePlugin.IFDRational(1, 0), 0.0, 0.0)}, None),
    ],
)
def test_places(changed: Mapping[int, Any], expected: tuple[float, float] | None) -> None:
    capture = read(save(make_exif(place={**LYON, **changed})))
    place = (capture.latitude, capture.longitude)
    assert place == ((None, None) if expected is None else pytest.approx(expected))


def test_damaged_tags_do_not_hide_the_photo() -> None:
    whole = bytearray(make_exif(CANON, TAKEN, LYON).tobytes())
    for cut in range(6, len(whole), 7):
        assert isinstance(read(save(bytes(whole[:cut]))), Capture)
        broken = whole.copy()
        broken[cut] ^= 0xFF
        assert isinstance(read(save(bytes(broken))), Capture)


def test_a_raw_has_the_tags_that_its_preview_lacks() -> None:
    texts = [(Base.Make, "Canon"), (Base.Model, "Canon EOS R5")]
    tags = [(int(tag), "s", 0, text, True) for tag, text in texts]
    photo = Image.effect_noise((800, 640), 60).convert("RGB")
    assert read(tiff_raw(preview(photo), tags=tags)).camera == "Canon EOS R5"


def _tiff(exif: Image.Exif) -> bytes:
    return exif.tobytes().removeprefix(b"Exif\0\0")


def test_a_cr3_has_a_box_for_each_kind_of_tags() -> None:
    boxes: dict[bytes, dict[int, Any]] = {b"CMT1": CANON, b"CMT2": TAKEN, b"CMT4": LYON}
    settings = b"".join(
        struct.pack(">I", 8 + len(tags)) + name + tags
        for name, tags in ((name, _tiff(make_exif(tags))) for name, tags in boxes.items())
    )
    inside = preview(Image.effect_noise((800, 640), 60).convert("RGB"))
    movie = struct.pack(">I", 8 + len(settings)) + b"moov" + settings
    media = struct.pack(">I", 8 + len(inside)) + b"mdat" + inside
    check_has_all(read(b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + movie + media))


@pytest.mark.parametrize("head", [b"II*\0", b"MM\0*", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"])
def test_each_start_of_a_raw_that_is_built_like_a_tiff(head: bytes) -> None:
    """Olympus and Panasonic have a number of their own instead of that of TIFF."""
    mosaic = [(int(ExifTags.Base.PhotometricInterpretation), 32803)]
    tags = make_exif({**CANON, **dict(mosaic)}, TAKEN, LYON)
    # Pillow writes the tags of a new picture in big-endian order, those of a TIFF in little-endian.
    data = _tiff(tags) if head[:2] == b"MM" else _to_little_endian(tags)
    inside = preview(Image.effect_noise((800, 640), 60).convert("RGB"))
    check_has_all(read(head + data[4:] + inside))


def test_the_preview_of_a_raf_has_its_tags() -> None:
    photo = Image.effect_noise((800, 640), 60).convert("RGB")
    check_has_all(read(raf(preview(photo, exif=make_exif(CANON, TAKEN, LYON)), 1)))


def _to_little_endian(tags: Image.Exif) -> bytes:
    exif = Image.Exif()
    exif.load(b"II*\0\x08\0\0\0" + bytes(6))
    exif.update(tags)
    for group in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
        exif.get_ifd(group).update(tags.get_ifd(group))
    data = _tiff(exif)
    assert data.startswith(b"II*\0")
    return data
