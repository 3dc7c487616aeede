from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageOps

from batch.options import MAX_SIDE
from batch.records import Failure, Reason
from batch.vision.decode import WORKING_SIDE, read_size
from batch.vision.pillow import has_reader
from batch.vision.pixels import TRANSPOSES
from tests.support.decoded import (
    NAME,
    SIDE,
    are_pixels_close,
    decode_failure,
    decode_photo,
    encode,
    heif,
    mean_difference,
)

__all__ = ["heif"]

# Mean difference that lossy formats may have, in grey levels.
LOSSY = {"JPEG": 3.0, "MPO": 3.0, "WEBP": 4.0, "AVIF": 4.0, "HEIF": 4.0}
LOSSLESS = ("PNG", "BMP", "TIFF")


def png(width: int, height: int) -> bytes:
    """A PNG of this size without pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def with_checksums(data: bytes) -> bytes:
    """Repair the checksums of a PNG's chunks."""
    fixed, at = bytearray(data), 8
    while at < len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        fixed[end : end + 4] = struct.pack(">I", zlib.crc32(data[at + 4 : end]))
        at = end + 4
    return bytes(fixed)


class TestFormats:
    @pytest.mark.parametrize("form", LOSSLESS)
    def test_lossless(self, form: str, astronaut: Image.Image) -> None:
        result = decode_photo(encode(astronaut, form))
        assert are_pixels_close(result.pixels, astronaut)
        assert (result.path, result.width, result.height) == (NAME, SIDE, SIDE)

    @pytest.mark.parametrize("form", LOSSY)
    def test_lossy(self, form: str, astronaut: Image.Image, heif: None) -> None:
        result = decode_photo(encode(astronaut, form, quality=90))
        assert mean_difference(result.pixels, astronaut) < LOSSY[form]

    @pytest.mark.parametrize(
        "how",
        [
            ("WEBP", {"lossless": True}),
            ("TIFF", {"compression": "tiff_lzw"}),
            ("TIFF", {"compression": "tiff_adobe_deflate"}),
            ("TIFF", {"compression": "packbits"}),
        ],
    )
    def test_lossless_compressions(
        self, how: tuple[str, dict[str, Any]], astronaut: Image.Image
    ) -> None:
        assert are_pixels_close(decode_photo(encode(astronaut, how[0], **how[1])).pixels, astronaut)

    def test_gif_shows_its_palette(self, astronaut: Image.Image) -> None:
        few = astronaut.quantize(64)
        assert are_pixels_close(decode_photo(encode(few, "GIF")).pixels, few)

    @pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO", "HEIF"])
    def test_the_first_frame_counts(self, form: str, astronaut: Image.Image, heif: None) -> None:
        later = [ImageOps.invert(astronaut), Image.new("RGB", astronaut.size, "red")]
        data = encode(astronaut, form, save_all=True, append_images=later)
        with Image.open(io.BytesIO(data)) as image:
            assert getattr(image, "n_frames", 1) == 3
        assert mean_difference(decode_photo(data).pixels, astronaut) < 8

    def test_heic_without_its_extra_says_what_to_install(
        self, astronaut: Image.Image, heif: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        has_reader.cache_clear()
        try:
            result = decode_failure(encode(astronaut, "HEIF"))
        finally:
            has_reader.cache_clear()
        assert result.reason is Reason.UNSUPPORTED
        assert "pip install 'batch-label[heic]'" in result.detail

    def test_heif_needs_no_help_from_its_caller(
        self, astronaut: Image.Image, heif: None, tmp_path: Path, repository: Path
    ) -> None:
        path = tmp_path / "photo.heic"
        path.write_bytes(encode(astronaut, "HEIF"))
        code = (
            "import sys; from pathlib import Path; from batch.vision.decode import decode;"
            "print(decode(Path(sys.argv[1])).pixels.shape)"
        )
        command = [sys.executable, "-W", "error", "-c", code, str(path)]
        output = subprocess.check_output(command, cwd=repository, text=True)
        assert output == "(512, 512, 3)\n"


class TestModes:
    @pytest.mark.parametrize(
        ("mode", "form"),
        [("1", "PNG"), ("1", "TIFF"), ("L", "PNG"), ("L", "JPEG"), ("P", "PNG"), ("P", "TIFF")],
    )
    def test_without_transparency(self, mode: str, form: str, astronaut: Image.Image) -> None:
        converted = astronaut.convert(mode)
        how = {"quality": 100} if form == "JPEG" else {}
        result = decode_photo(encode(converted, form, **how))
        assert are_pixels_close(result.pixels, converted, tolerance=3 if form == "JPEG" else 0)

    @pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")])
    def test_alpha_is_laid_on_white(self, mode: str, form: str, astronaut: Image.Image) -> None:
        clear = astronaut.convert(mode)
        alpha = Image.linear_gradient("L").resize(clear.size)
        clear.putalpha(alpha)
        how = {"lossless": True, "exact": True} if form == "WEBP" else {}
        white = Image.new("RGBA", clear.size, "white")
        expected = Image.alpha_composite(white, clear.convert("RGBA"))
        pixels = decode_photo(encode(clear, form, **how)).pixels
        assert are_pixels_close(pixels, expected, tolerance=1)
        assert (pixels[np.asarray(alpha) == 0] == 255).all()

    def test_large_pictures_with_alpha_are_shrunk_and_laid_on_white(
        self, astronaut: Image.Image
    ) -> None:
        clear = astronaut.resize((2000, 2000))
        clear.putalpha(Image.linear_gradient("L").resize(clear.size))
        expected = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).reduce(2)
        assert are_pixels_close(decode_photo(encode(clear, "PNG")).pixels, expected, tolerance=2)

    @pytest.mark.parametrize("form", ["PNG", "GIF"])
    def test_a_palette_entry_may_be_transparent(self, form: str) -> None:
        picture = Image.new("P", (4, 4), 1)
        picture.putpalette([255, 0, 0, 0, 0, 255])
        picture.paste(0, (0, 0, 2, 4))
        pixels = decode_photo(encode(picture, form, transparency=0)).pixels
        assert (pixels[:, :2] == 255).all()
        assert (pixels[:, 2:] == (0, 0, 255)).all()

    def test_a_palette_may_be_transparent_by_bytes(self) -> None:
        picture = Image.new("P", (2, 1), 1)
        picture.putpalette([255, 0, 0, 0, 0, 255])
        picture.putpixel((0, 0), 0)
        pixels = decode_photo(encode(picture, "PNG", transparency=b"\x00\xff")).pixels
        assert pixels.tolist() == [[[255, 255, 255], [0, 0, 255]]]

    def test_a_colour_may_be_transparent(self) -> None:
        picture = Image.new("RGB", (2, 1), (1, 2, 3))
        picture.putpixel((0, 0), (9, 9, 9))
        pixels = decode_photo(encode(picture, "PNG", transparency=(9, 9, 9))).pixels
        assert pixels.tolist() == [[[255, 255, 255], [1, 2, 3]]]

    def test_cmyk_jpeg_is_not_negative(self, astronaut: Image.Image) -> None:
        result = decode_photo(encode(astronaut.convert("CMYK"), "JPEG", quality=95))
        assert mean_difference(result.pixels, astronaut) < LOSSY["JPEG"]

    def test_ycck_jpeg_is_not_negative(self, astronaut: Image.Image) -> None:
        """A YCCK file is a CMYK file whose Adobe marker names a colour transform."""
        planes = ImageOps.invert(astronaut).convert("YCbCr").split()
        # Adobe stores ink inverted, which Pillow's writer does too: here it is undone.
        stored = [ImageOps.invert(plane) for plane in planes]
        no_black = Image.new("L", astronaut.size, 0)
        data = bytearray(encode(Image.merge("CMYK", (*stored, no_black)), "JPEG", quality=95))
        marker = data.index(b"Adobe")
        assert data[marker + 11] == 0
        data[marker + 11] = 2
        assert mean_difference(decode_photo(bytes(data)).pixels, astronaut) < 6

    @pytest.mark.parametrize("form", ["PNG", "TIFF"])
    def test_sixteen_bit_grey_is_scaled_and_not_clipped(self, form: str) -> None:
        ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        pixels = decode_photo(encode(Image.fromarray(ramp), form)).pixels
        assert (pixels == (ramp >> 8)[..., None]).all()

    @pytest.mark.parametrize("kind", [np.int32, np.float32])
    def test_thirty_two_bit_grey_is_stretched(self, kind: type) -> None:
        ramp: npt.NDArray[Any] = np.linspace(-1000, 50000, 256).reshape(16, 16).astype(kind)
        pixels = decode_photo(encode(Image.fromarray(ramp), "TIFF")).pixels
        assert np.abs(pixels[..., 0].ravel() - np.arange(256.0)).max() <= 1

    def test_nan_and_infinite_floats_are_ignored(self) -> None:
        values = np.array([[np.nan, np.inf], [-np.inf, 2.0], [1.0, 1.5]], dtype=np.float32)
        pixels = decode_photo(encode(Image.fromarray(values), "TIFF")).pixels
        assert pixels[..., 0].tolist() == [[0, 255], [0, 255], [0, 128]]

    @pytest.mark.parametrize(
        ("kind", "low", "high"),
        [
            (np.float32, -3.4e38, 3.4e38),
            (np.float32, 1e30, 2e30),
            (np.float32, -np.inf, 1e9),
            (np.int32, -32_768, -32_768),
            (np.int32, -(2**31), 2**31 - 1),
        ],
    )
    @pytest.mark.parametrize("rows", [1, 200])
    def test_outliers_do_not_flatten_thirty_two_bit_grey(
        self, kind: type, low: float, high: float, rows: int, astronaut: Image.Image
    ) -> None:
        grey = np.asarray(astronaut.convert("L"))
        values: npt.NDArray[Any] = grey.astype(kind)
        values[:rows] = low
        values[-1, -1] = high
        pixels = decode_photo(encode(Image.fromarray(values), "TIFF")).pixels[..., 0]
        off = np.abs(pixels[rows:-1].astype(int) - grey[rows:-1])
        assert off.max() <= 8
        assert set(pixels[:rows].ravel().tolist()) <= {0, 255}
        flat = np.full((2, 2), 7.0, dtype=np.float32)
        assert decode_photo(encode(Image.fromarray(flat), "TIFF")).pixels.max() == 0


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_every_orientation_is_applied(
        self, form: str, orientation: int, astronaut: Image.Image, heif: None
    ) -> None:
        upright = astronaut.crop((60, 0, 380, 240))
        # The inverse of each turn is itself, but for the two quarter turns.
        inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        turn = inverse.get(orientation, TRANSPOSES.get(orientation))
        stored = upright if turn is None else upright.transpose(turn)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        result = decode_photo(encode(stored, form, exif=exif.tobytes()))
        assert (result.width, result.height) == (320, 240)
        assert result.pixels.shape == (240, 320, 3)
        assert mean_difference(result.pixels, upright) < 6

    def test_sizes_are_the_file_s_own_if_a_jpeg_is_turned_and_scaled(
        self, astronaut: Image.Image
    ) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        result = decode_photo(encode(astronaut.resize((2600, 1300)), "JPEG", exif=exif))
        assert (result.width, result.height) == (1300, 2600)
        assert result.pixels.shape == (650, 325, 3)

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_unknown_orientations_are_ignored(self, value: int, astronaut: Image.Image) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = value
        assert are_pixels_close(decode_photo(encode(astronaut, "PNG", exif=exif)).pixels, astronaut)

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
    @pytest.mark.parametrize("body", [b"", b"XXXX\0\0\0\0", b"II*\0", b"II*\0\xff\xff\xff\x7f"])
    def test_broken_exif_leaves_the_photo_as_it_is(
        self, form: str, body: bytes, astronaut: Image.Image
    ) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 1
        good = exif.tobytes()
        data = encode(astronaut, form, exif=good)
        tiff = good.removeprefix(b"Exif\0\0")
        if tiff in data:  # AVIF keeps orientation elsewhere, and drops an EXIF that says no more
            data = data.replace(tiff, body.ljust(len(tiff), b"\xff"))
        if form == "PNG":
            data = with_checksums(data)
        assert decode_photo(data).pixels.shape == (SIDE, SIDE, 3)


class TestSize:
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
    def test_the_size_is_read_without_decoding(self, form: str, astronaut: Image.Image) -> None:
        data = encode(astronaut.resize((300, 200)), form)
        assert read_size(Path("a"), data) == (300, 200)
        if form == "JPEG":
            assert read_size(Path("a"), data[: len(data) // 2]) == (300, 200)

    def test_a_file_without_a_size_is_a_failure(self) -> None:
        assert isinstance(read_size(Path("a"), b"no photo"), Failure)
        assert isinstance(read_size(Path("a"), b""), Failure)

    @pytest.mark.parametrize(
        ("width", "height", "scale"),
        [
            (512, 300, 1),
            (1279, 100, 1),
            (1280, 960, 2),
            (960, 1281, 2),
            (2559, 1000, 2),
            (2560, 1700, 4),
            (5119, 200, 4),
            (5120, 3000, 8),
            (10240, 64, 8),
        ],
    )
    def test_a_jpeg_is_scaled_while_it_is_decoded(
        self, width: int, height: int, scale: int, astronaut: Image.Image
    ) -> None:
        result = decode_photo(encode(astronaut.resize((width, height)), "JPEG", quality=50))
        assert (result.width, result.height) == (width, height)
        assert result.pixels.shape[:2] == (-(-height // scale), -(-width // scale))
        assert max(result.pixels.shape) >= WORKING_SIDE or scale == 1
        assert max(result.pixels.shape) <= MAX_SIDE

    def test_scaling_keeps_the_picture(self, astronaut: Image.Image) -> None:
        data = encode(astronaut.resize((2560, 2560)), "JPEG", quality=95)
        assert mean_difference(decode_photo(data).pixels, astronaut.resize((640, 640))) < 3

    @pytest.mark.parametrize(
        ("width", "height", "factor"),
        [(1280, 960, 1), (1281, 700, 2), (100, 2560, 2), (3000, 2000, 3), (3841, 1, 4)],
    )
    def test_other_formats_are_shrunk_by_a_whole_factor(
        self, width: int, height: int, factor: int, astronaut: Image.Image
    ) -> None:
        picture = astronaut.resize((width, height))
        result = decode_photo(encode(picture, "BMP"))
        assert (result.width, result.height) == (width, height)
        assert are_pixels_close(result.pixels, picture.reduce(factor))
        assert WORKING_SIDE <= max(result.pixels.shape) <= MAX_SIDE

    def test_one_pixel(self) -> None:
        for form in ("PNG", "JPEG", "GIF", "WEBP", "AVIF"):
            assert decode_photo(encode(Image.new("RGB", (1, 1)), form)).pixels.shape == (1, 1, 3)

    def test_a_bomb_fails_before_a_pixel_is_decoded(self) -> None:
        started = time.perf_counter()
        result = decode_failure(png(20_000, 20_000))
        assert time.perf_counter() - started < 0.5
        assert result.reason is Reason.TOO_LARGE
        assert "20000 x 20000 = 400,000,000" in result.detail
        assert "100,000,000" in result.detail

    def test_a_huge_jpeg_counts_after_scaling(self) -> None:
        # Of one colour, so that the file is small: what counts is its size in pixels.
        data = encode(Image.new("L", (20_000, 10_000), 99), "JPEG")
        result = decode_photo(data)
        assert (result.width, result.height) == (20_000, 10_000)
        assert result.pixels.shape == (625, 1250, 3)
        assert (result.pixels == 99).all()

    def test_the_limit_is_exact(self, astronaut: Image.Image) -> None:
        data = encode(astronaut, "PNG")
        assert decode_failure(data, max_pixels=SIDE * SIDE - 1).reason is Reason.TOO_LARGE
        decode_photo(data, max_pixels=SIDE * SIDE)

    def test_a_progressive_jpeg_counts_before_scaling(self, astronaut: Image.Image) -> None:
        large = astronaut.resize((1280, 1280))
        decode_photo(encode(large, "JPEG"), max_pixels=640 * 640)
        data = encode(large, "JPEG", progressive=True)
        assert decode_failure(data, max_pixels=640 * 640).reason is Reason.TOO_LARGE


@pytest.mark.parametrize("archive", ["photos.zip", "people.zip"])
def test_real_photos_decode(archive: str, shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / archive) as photos:
        names = [name for name in photos.namelist() if name.endswith((".jpg", ".png"))][::4]
        for name in names:
            result = decode_photo(photos.read(name))
            assert max(result.pixels.shape) <= MAX_SIDE
    assert len(names) > 100
