"""Photos that can't be decoded become failures with a reason, without exceptions or warnings."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from batch.records import Failure, Photo, Reason
from batch.vision.decode import decode, decode_bytes
from tests.support.decoded import NAME, decode_failure, decode_photo, encode, heif

__all__ = ["heif"]


class TestBroken:
    def test_no_bytes(self) -> None:
        assert decode_failure(b"").reason is Reason.EMPTY

    @pytest.mark.parametrize(
        "data", [b"x", b"just a text\n" * 99, b"%PDF-1.7\n", b"RIFF\x24\0\0\0WAVEfmt ", bytes(999)]
    )
    def test_no_image(self, data: bytes) -> None:
        assert decode_failure(data).reason is Reason.NOT_AN_IMAGE

    def test_an_unknown_format_is_not_opened(self, astronaut: Image.Image) -> None:
        for form in ("ICO", "TGA", "PCX"):
            assert decode_failure(encode(astronaut, form)).reason is Reason.NOT_AN_IMAGE

    @pytest.mark.parametrize("left", [20, 60, 300, 0.5, 0.9])
    @pytest.mark.parametrize(
        "form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "TIFF lzw", "AVIF", "HEIF"]
    )
    def test_a_missing_end(
        self, form: str, left: float, astronaut: Image.Image, heif: None
    ) -> None:
        name, _, compression = form.partition(" ")
        how = {"compression": f"tiff_{compression}"} if compression else {}
        data = encode(astronaut, name, **how)
        end = int(left * len(data)) if isinstance(left, float) else left
        assert decode_failure(data[:end]).reason is Reason.TRUNCATED

    def test_a_jpeg_whose_end_was_never_written(self, astronaut: Image.Image) -> None:
        data = encode(astronaut, "JPEG")
        half = len(data) // 2
        assert decode_failure(data[:half] + bytes(len(data) - half)).reason is Reason.TRUNCATED

    @pytest.mark.parametrize(
        ("form", "how"),
        [
            ("PNG", {}),
            ("GIF", {}),
            ("WEBP", {"lossless": True}),
            ("TIFF", {"compression": "tiff_lzw"}),
        ],
    )
    def test_flipped_bits(self, form: str, how: dict[str, Any], astronaut: Image.Image) -> None:
        data = bytearray(encode(astronaut, form, **how))
        third = len(data) // 3
        for at in range(third, 2 * third, 1009):
            data[at] ^= 0xFF
        assert decode_failure(bytes(data)).reason is Reason.CORRUPT

    @pytest.mark.parametrize("form", ["PNG", "AVIF", "HEIF"])
    def test_a_broken_header(self, form: str, astronaut: Image.Image, heif: None) -> None:
        data = bytearray(encode(astronaut, form))
        data[40:80] = bytes(40)
        result = decode_failure(bytes(data))
        assert result.reason is Reason.CORRUPT
        assert form in result.detail

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF"])
    def test_noise_is_a_value_and_never_an_exception(
        self, form: str, astronaut: Image.Image, heif: None
    ) -> None:
        data = encode(astronaut.resize((64, 64)), form)
        random = np.random.default_rng(7)
        for _ in range(60):
            noisy = bytearray(data)
            for at in random.integers(0, min(len(data), 700), 6):
                noisy[at] = random.integers(256)
            result = decode_bytes(NAME, bytes(noisy))
            assert isinstance(result, Photo) or result.detail.isprintable()

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (MemoryError(), Reason.TOO_LARGE),
            (ZeroDivisionError("two\nlines\x1b[31m"), Reason.CORRUPT),
            (OSError("x" * 10_000), Reason.CORRUPT),
        ],
    )
    def test_any_exception_of_pillow_is_a_failure(
        self,
        error: Exception,
        reason: Reason,
        astronaut: Image.Image,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def load(image: ImageFile.ImageFile) -> None:
            raise error

        monkeypatch.setattr(ImageFile.ImageFile, "load", load)
        result = decode_failure(encode(astronaut, "BMP"))
        assert result.reason is reason
        assert len(result.detail) <= 200


class TestWarnings:
    """Warnings are errors in pytest, and with ``python -W error``."""

    @pytest.fixture
    def odd(self, astronaut: Image.Image) -> list[bytes]:
        """Files that Pillow decodes with a warning."""
        palette = Image.new("P", (8, 8), 3)
        palette.putpalette([7] * 768)
        exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x03\0"
        return [
            encode(astronaut, "JPEG", exif=exif),
            encode(palette, "PNG", transparency=bytes(range(256))),
        ]

    def test_pillow_alone_would_warn(self, odd: list[bytes], tmp_path: Path) -> None:
        code = "import sys; from PIL import Image; Image.open(sys.argv[1]).convert('RGB')"
        for number, data in enumerate(odd):
            path = tmp_path / str(number)
            path.write_bytes(data)
            result = subprocess.run(
                [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
            )
            assert "UserWarning" in result.stderr

    def test_none_escapes_in_any_thread(self, odd: list[bytes]) -> None:
        barrier = threading.Barrier(8)

        def work(number: int) -> None:
            barrier.wait()
            for _ in range(5):
                decode_photo(odd[number % len(odd)])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))


def test_an_intact_file_that_pillow_does_not_support_is_unsupported() -> None:
    import skimage

    # A TIFF of RGB in 64-bit floating point.
    path = Path(skimage.__file__).parent / "data" / "multipage_rgb.tif"
    failure = decode(path)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.UNSUPPORTED
    assert "64 bit floating-point" in failure.detail


def test_the_words_of_pillow_for_an_unsupported_file_are_known(astronaut: Image.Image) -> None:
    """Its readers have one type of exception for damage and for what they do not support."""
    bmp = bytearray(encode(astronaut, "BMP"))
    bmp[28] = 2  # bits per pixel
    jpeg = bytearray(encode(astronaut, "JPEG"))
    jpeg[jpeg.index(b"\xff\xc0") + 4] = 12  # bits per sample
    for data, words in ((bmp, "Unsupported BMP pixel depth"), (jpeg, "cannot handle 12-bit")):
        failure = decode_failure(bytes(data))
        assert (failure.reason, words in failure.detail) == (Reason.UNSUPPORTED, True), failure
