"""The orientation of a stored picture; that of raws is tested with their previews."""

from __future__ import annotations

import pytest
from PIL import ExifTags, Image

from batch.file_types import FILE_TYPES, PREVIEW
from batch.vision.orientation import read_stored_orientation
from tests.support.decoded import encode


def encode_turned(image: Image.Image, form: str, value: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return encode(image, form, exif=exif)


# Formats that store an orientation, and those that are turned by other data or have none.
TURNED = ("JPEG", "PNG", "TIFF", "WEBP")
OTHERS = ("AVIF", "HEIF", "JXL", "GIF", "BMP", PREVIEW)


def test_no_format_is_missing_above() -> None:
    assert {kind.decoder for kind in FILE_TYPES if kind.decoder} == {*TURNED, *OTHERS}


@pytest.mark.parametrize("value", range(1, 9))
@pytest.mark.parametrize("form", [*TURNED, "MPO"])
def test_the_stored_orientation_is_read(form: str, value: int, astronaut: Image.Image) -> None:
    assert read_stored_orientation(encode_turned(astronaut, form, value)) == value


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_unknown_orientation_does_not_count(value: int, astronaut: Image.Image) -> None:
    assert read_stored_orientation(encode_turned(astronaut, "JPEG", value)) == 1


def test_a_file_that_every_program_turns_has_none(astronaut: Image.Image) -> None:
    assert read_stored_orientation(encode_turned(astronaut, "AVIF", 6)) == 1


def test_other_bytes_have_none() -> None:
    assert read_stored_orientation(b"no photo") == 1
