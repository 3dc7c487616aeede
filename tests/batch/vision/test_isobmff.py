"""AVIF and JPEG XL: pictures of several pieces, sizes before decoding, truncated files."""

from __future__ import annotations

import io
import struct
import sys

import numpy as np
import pytest
from PIL import ExifTags, Image

from batch.records import Reason
from batch.vision.decode import decode_bytes
from batch.vision.isobmff import read_jxl_header
from batch.vision.pillow import has_reader
from tests.support.decoded import NAME, decode_failure, decode_photo, encode, mean_difference
from tests.support.grid_avif import grid_avif


class TestAvif:
    @pytest.mark.parametrize("alpha", [False, True])
    def test_grids_are_decoded(self, alpha: bool, astronaut: Image.Image) -> None:
        data, shown = grid_avif(astronaut, alpha)
        assert mean_difference(decode_photo(data).pixels, shown) < 3

    def test_an_intact_file_that_the_decoder_rejects_is_unsupported(
        self, astronaut: Image.Image
    ) -> None:
        data, _ = grid_avif(astronaut, True, alpha_size=False)
        result = decode_failure(data)
        assert result.reason is Reason.UNSUPPORTED
        assert "structure that is not supported" in result.detail
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
    def test_its_size_is_known_before_it_is_decoded(
        self, size: tuple[int, int], container: bool, astronaut: Image.Image
    ) -> None:
        data = encode(astronaut.resize(size), "JXL", use_container=container)
        assert read_jxl_header(data) == (*size, 1)
        result = decode_failure(data, max_pixels=size[0] * size[1] - 1)
        assert result.reason is Reason.TOO_LARGE

    @pytest.mark.parametrize("packed", [True, False])
    def test_the_orientation_is_applied_once(self, packed: bool, astronaut: Image.Image) -> None:
        imagecodecs = pytest.importorskip("imagecodecs")
        upright = astronaut.crop((60, 0, 380, 240))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        stored = upright.transpose(Image.Transpose.ROTATE_90)
        jpeg = encode(stored, "JPEG", quality=95, exif=exif)
        data = imagecodecs.jpegxl_encode_jpeg(jpeg)
        assert read_jxl_header(data) == (240, 320, 6)
        if not packed:  # without what makes the JPEG of it again
            data = b"".join(box for box in boxes(data) if box[4:8] != b"jbrd")
            tags = bytes(4) + exif.tobytes().removeprefix(b"Exif\0\0")
            data += struct.pack(">I", 8 + len(tags)) + b"Exif" + tags
        result = decode_photo(data)
        assert (result.width, result.height) == (320, 240)
        assert mean_difference(result.pixels, upright) < 3

    def test_a_truncated_file_has_a_readable_reason(self, astronaut: Image.Image) -> None:
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

    def test_noise_in_its_header_raises_nothing(self, astronaut: Image.Image) -> None:
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
