"""The table of image formats: what is decoded, what is named, and what docs/usage.md says of it."""

from __future__ import annotations

import io
import re
import struct
import sys
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from batch.file_types import (
    DECODERS,
    FILE_TYPES,
    HEAD_BYTES,
    RAW_SUFFIXES,
    RAW_TYPE,
    SKIP_REASONS,
    SUFFIXES,
    detect_file_type,
    sniff_skip_reason,
)
from batch.records import Reason
from batch.vision.decode import decode_bytes
from batch.vision.isobmff import read_header
from batch.vision.pillow import has_reader
from tests.conftest import REPOSITORY
from tests.support.decoded import NAME, decode_failure, decode_photo, encode, mean_difference
from tests.support.grid_avif import grid_avif

USAGE = (REPOSITORY / "docs" / "usage.md").read_text(encoding="utf-8")


def test_the_docs_have_the_table() -> None:
    rows = re.findall(r"^\| ([^|]+?) \| (`\.[^|]+?) \| ([^|]+?) \|$", USAGE, re.MULTILINE)
    assert rows == [
        (kind.name, " ".join(f"`{suffix}`" for suffix in kind.suffixes), read_from(kind))
        for kind in FILE_TYPES
    ]


def read_from(kind: Any) -> str:
    if not kind.decoder:
        return "`unsupported`"
    extra = f", with the extra `{kind.extra}`" if kind.extra else ""
    option = ", in folders with `--raws`" if kind is RAW_TYPE else ""
    return f"{kind.picture.removesuffix('.')}{extra}{option}"


def test_the_table_is_consistent() -> None:
    suffixes = [suffix for kind in FILE_TYPES for suffix in kind.suffixes]
    assert len(set(suffixes)) == len(suffixes)
    assert all(re.fullmatch(r"\.[a-z0-9]+", suffix) for suffix in suffixes)
    assert set(suffixes) == SUFFIXES | set(SKIP_REASONS)
    assert set(SKIP_REASONS) >= RAW_SUFFIXES
    assert all(kind.signature or kind.brands for kind in FILE_TYPES)
    Image.init()
    assert set(DECODERS) <= set(Image.OPEN)


@pytest.mark.parametrize(
    ("form", "name"), [("JPEG2000", "JPEG 2000"), ("PPM", "Netpbm"), ("QOI", "QOI")]
)
def test_a_format_without_a_decoder_is_named(form: str, name: str, astronaut: Image.Image) -> None:
    data = encode(astronaut, form)
    result = decode_failure(data)
    assert result.reason is Reason.UNSUPPORTED
    assert name in result.detail
    assert sniff_skip_reason(data[:HEAD_BYTES]) == "unsupported format"


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\xff\xd8\xff\xf7\0\x0b", "JPEG-LS"),
        (b"\xff\x4f\xff\x51\0\x2f", "JPEG 2000"),
        (b"\xff\x0a\xfa\x7f", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"II\xbc\x01\x08\0\0\0", "JPEG XR"),
        (b"8BPS\0\x01\0\0", "Photoshop"),
        (b"v/1\x01\x02\0\0\0", "OpenEXR"),
        (b"#?RADIANCE\n", "Radiance HDR"),
        (b"gimp xcf v011\0", "GIMP"),
    ],
)
def test_first_bytes_tell_the_format(head: bytes, name: str) -> None:
    kind = detect_file_type(head)
    assert kind is not None
    assert kind.name == name


def test_a_folder_takes_what_can_be_decoded() -> None:
    assert {".jpg", ".jxl", ".heic", ".tif"} <= SUFFIXES
    assert SKIP_REASONS[".jp2"] == SKIP_REASONS[".psd"] == "unsupported format"
    assert sniff_skip_reason(b"no picture") == "no image"


class TestAvif:
    @pytest.mark.parametrize("alpha", [False, True])
    def test_grids_are_decoded(self, alpha: bool, astronaut: Image.Image) -> None:
        data, shown = grid_avif(astronaut, alpha)
        assert mean_difference(decode_photo(data).pixels, shown) < 3

    def test_a_sound_one_that_the_decoder_refuses_is_not_called_broken(
        self, astronaut: Image.Image
    ) -> None:
        data, _ = grid_avif(astronaut, True, alpha_size=False)
        result = decode_failure(data)
        assert result.reason is Reason.UNSUPPORTED
        assert "put together in a way" in result.detail
        assert decode_failure(data[:-500]).reason is Reason.TRUNCATED

    def test_damaged_pixels_are_corrupt(self, astronaut: Image.Image) -> None:
        data, _ = grid_avif(astronaut, True)
        broken = bytearray(data)
        start = data.index(b"mdat") + 30
        broken[start : start + 4000] = bytes(4000)
        assert decode_failure(bytes(broken)).reason is Reason.CORRUPT


class TestJpegXl:
    @pytest.fixture(autouse=True)
    def reader(self) -> None:
        pytest.importorskip("pillow_jxl")
        assert has_reader("JXL")

    @pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
    @pytest.mark.parametrize("container", [False, True])
    def test_is_decoded(self, mode: str, container: bool, astronaut: Image.Image) -> None:
        picture = astronaut.convert(mode)
        data = encode(picture, "JXL", lossless=True, use_container=container)
        assert mean_difference(decode_photo(data).pixels, picture) < 0.1

    @pytest.mark.parametrize(
        "size", [(8, 8), (64, 64), (320, 240), (16, 9), (1001, 1000), (200, 300), (3333, 7)]
    )
    @pytest.mark.parametrize("container", [False, True])
    def test_its_size_is_known_before_a_pixel_is(
        self, size: tuple[int, int], container: bool, astronaut: Image.Image
    ) -> None:
        data = encode(astronaut.resize(size), "JXL", use_container=container)
        assert read_header(data) == (*size, 1)
        result = decode_failure(data, max_pixels=size[0] * size[1] - 1)
        assert result.reason is Reason.TOO_LARGE

    @pytest.mark.parametrize("packed", [True, False])
    def test_a_turn_is_undone_once(self, packed: bool, astronaut: Image.Image) -> None:
        imagecodecs = pytest.importorskip("imagecodecs")
        upright = astronaut.crop((60, 0, 380, 240))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        stored = upright.transpose(Image.Transpose.ROTATE_90)
        jpeg = encode(stored, "JPEG", quality=95, exif=exif)
        data = imagecodecs.jpegxl_encode_jpeg(jpeg)
        assert read_header(data) == (240, 320, 6)
        if not packed:  # without what makes the JPEG of it again
            data = b"".join(box for box in boxes(data) if box[4:8] != b"jbrd")
            tags = bytes(4) + exif.tobytes().removeprefix(b"Exif\0\0")
            data += struct.pack(">I", 8 + len(tags)) + b"Exif" + tags
        result = decode_photo(data)
        assert (result.width, result.height) == (320, 240)
        assert mean_difference(result.pixels, upright) < 3

    def test_one_that_is_cut_off_says_so_in_words(self, astronaut: Image.Image) -> None:
        data = encode(astronaut, "JXL")
        for end in (20, len(data) // 2):
            result = decode_failure(data[:end])
            assert result.reason is Reason.CORRUPT
            assert result.detail == "its JPEG XL data are cut off or damaged"

    def test_without_its_extra_it_says_what_to_install(
        self, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        data = encode(astronaut, "JXL")
        monkeypatch.setitem(sys.modules, "pillow_jxl", None)
        has_reader.cache_clear()
        try:
            result = decode_failure(data)
        finally:
            has_reader.cache_clear()
        assert result.reason is Reason.UNSUPPORTED
        assert "pip install 'batch-label[jxl]'" in result.detail

    def test_noise_in_its_head_is_a_value(self, astronaut: Image.Image) -> None:
        data = encode(astronaut.resize((64, 64)), "JXL", use_container=True)
        random = np.random.default_rng(3)
        for _ in range(60):
            noisy = bytearray(data)
            for at in random.integers(12, 80, 4):
                noisy[at] = random.integers(256)
            decode_bytes(NAME, bytes(noisy), max_pixels=10**6)


def boxes(data: bytes) -> list[bytes]:
    found, file = [], io.BytesIO(data)
    while head := file.read(8):
        size = int.from_bytes(head[:4], "big") or len(data)
        found.append(head + file.read(size - 8))
    return found
