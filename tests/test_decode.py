from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageFile, ImageOps

from batch import decode as decode_module
from batch.decode import MAX_SIDE, WORKING_SIDE, decode, decode_bytes
from batch.file_bytes import read
from batch.file_limits import MAX_FILE_BYTES, MAX_PIXELS
from batch.pillow import has_heif_reader
from batch.records import Failure, Photo, Pixels, Reason, Stage

NAME = Path("photo")
NOBODY = 65534
SIDE = 512
# How far lossy formats may be off, in grey levels on average.
LOSSY = {"JPEG": 3.0, "MPO": 3.0, "WEBP": 4.0, "AVIF": 4.0, "HEIF": 4.0}
LOSSLESS = ("PNG", "BMP", "TIFF")


def encoded(image: Image.Image, form: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **how)
    return file.getvalue()


def photo(data: bytes, max_pixels: int = MAX_PIXELS) -> Photo:
    result = decode_bytes(NAME, data, max_pixels)
    assert isinstance(result, Photo), result
    assert result.pixels.dtype == np.uint8
    assert result.pixels.ndim == 3
    assert result.pixels.shape[2] == 3
    assert result.pixels.flags.c_contiguous
    return result


def failure(data: bytes, max_pixels: int = MAX_PIXELS) -> Failure:
    result = decode_bytes(NAME, data, max_pixels)
    assert isinstance(result, Failure), "decoded"
    assert result.stage is Stage.DECODE
    assert result.detail.isprintable()
    assert " object at 0x" not in result.detail
    return result


def distance(pixels: Pixels, expected: Image.Image) -> float:
    """Mean difference in grey levels."""
    return float(np.abs(pixels.astype(int) - np.asarray(expected.convert("RGB"))).mean())


def pixels_like(pixels: Pixels, expected: Image.Image, tolerance: int = 0) -> bool:
    wanted = np.asarray(expected.convert("RGB")).astype(int)
    return pixels.shape == wanted.shape and bool(np.abs(pixels - wanted).max() <= tolerance)


@pytest.fixture(scope="session")
def heif() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()


def png(width: int, height: int) -> bytes:
    """A PNG of that size and no pixels."""

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
        result = photo(encoded(astronaut, form))
        assert pixels_like(result.pixels, astronaut)
        assert (result.path, result.width, result.height) == (NAME, SIDE, SIDE)

    @pytest.mark.parametrize("form", LOSSY)
    def test_lossy(self, form: str, astronaut: Image.Image, heif: None) -> None:
        result = photo(encoded(astronaut, form, quality=90))
        assert distance(result.pixels, astronaut) < LOSSY[form]

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
        assert pixels_like(photo(encoded(astronaut, how[0], **how[1])).pixels, astronaut)

    def test_gif_shows_its_palette(self, astronaut: Image.Image) -> None:
        few = astronaut.quantize(64)
        assert pixels_like(photo(encoded(few, "GIF")).pixels, few)

    @pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO", "HEIF"])
    def test_the_first_frame_counts(self, form: str, astronaut: Image.Image, heif: None) -> None:
        later = [ImageOps.invert(astronaut), Image.new("RGB", astronaut.size, "red")]
        data = encoded(astronaut, form, save_all=True, append_images=later)
        with Image.open(io.BytesIO(data)) as image:
            assert getattr(image, "n_frames", 1) == 3
        assert distance(photo(data).pixels, astronaut) < 8

    def test_heic_without_its_extra_says_what_to_install(
        self, astronaut: Image.Image, heif: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pillow_heif", None)
        has_heif_reader.cache_clear()
        try:
            result = failure(encoded(astronaut, "HEIF"))
        finally:
            has_heif_reader.cache_clear()
        assert result.reason is Reason.UNSUPPORTED
        assert "pip install 'batch-label[heic]'" in result.detail

    def test_heif_needs_no_help_from_its_caller(
        self, astronaut: Image.Image, heif: None, tmp_path: Path, repository: Path
    ) -> None:
        path = tmp_path / "photo.heic"
        path.write_bytes(encoded(astronaut, "HEIF"))
        code = (
            "import sys; from pathlib import Path; from batch.decode import decode;"
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
        result = photo(encoded(converted, form, **how))
        assert pixels_like(result.pixels, converted, tolerance=3 if form == "JPEG" else 0)

    @pytest.mark.parametrize(("mode", "form"), [("RGBA", "PNG"), ("LA", "PNG"), ("RGBA", "WEBP")])
    def test_alpha_is_laid_on_white(self, mode: str, form: str, astronaut: Image.Image) -> None:
        clear = astronaut.convert(mode)
        alpha = Image.linear_gradient("L").resize(clear.size)
        clear.putalpha(alpha)
        how = {"lossless": True, "exact": True} if form == "WEBP" else {}
        white = Image.new("RGBA", clear.size, "white")
        expected = Image.alpha_composite(white, clear.convert("RGBA"))
        pixels = photo(encoded(clear, form, **how)).pixels
        assert pixels_like(pixels, expected, tolerance=1)
        assert (pixels[np.asarray(alpha) == 0] == 255).all()

    def test_large_pictures_with_alpha_are_shrunk_and_laid_on_white(
        self, astronaut: Image.Image
    ) -> None:
        clear = astronaut.resize((2000, 2000))
        clear.putalpha(Image.linear_gradient("L").resize(clear.size))
        expected = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).reduce(2)
        assert pixels_like(photo(encoded(clear, "PNG")).pixels, expected, tolerance=2)

    @pytest.mark.parametrize("form", ["PNG", "GIF"])
    def test_a_palette_entry_may_be_transparent(self, form: str) -> None:
        picture = Image.new("P", (4, 4), 1)
        picture.putpalette([255, 0, 0, 0, 0, 255])
        picture.paste(0, (0, 0, 2, 4))
        pixels = photo(encoded(picture, form, transparency=0)).pixels
        assert (pixels[:, :2] == 255).all()
        assert (pixels[:, 2:] == (0, 0, 255)).all()

    def test_a_palette_may_be_transparent_by_bytes(self) -> None:
        picture = Image.new("P", (2, 1), 1)
        picture.putpalette([255, 0, 0, 0, 0, 255])
        picture.putpixel((0, 0), 0)
        pixels = photo(encoded(picture, "PNG", transparency=b"\x00\xff")).pixels
        assert pixels.tolist() == [[[255, 255, 255], [0, 0, 255]]]

    def test_a_colour_may_be_transparent(self) -> None:
        picture = Image.new("RGB", (2, 1), (1, 2, 3))
        picture.putpixel((0, 0), (9, 9, 9))
        pixels = photo(encoded(picture, "PNG", transparency=(9, 9, 9))).pixels
        assert pixels.tolist() == [[[255, 255, 255], [1, 2, 3]]]

    def test_cmyk_jpeg_is_not_negative(self, astronaut: Image.Image) -> None:
        result = photo(encoded(astronaut.convert("CMYK"), "JPEG", quality=95))
        assert distance(result.pixels, astronaut) < LOSSY["JPEG"]

    def test_ycck_jpeg_is_not_negative(self, astronaut: Image.Image) -> None:
        """A YCCK file is a CMYK file whose Adobe marker says that it was transformed."""
        planes = ImageOps.invert(astronaut).convert("YCbCr").split()
        # Adobe stores ink inverted, which Pillow's writer does too: here it is undone.
        stored = [ImageOps.invert(plane) for plane in planes]
        no_black = Image.new("L", astronaut.size, 0)
        data = bytearray(encoded(Image.merge("CMYK", (*stored, no_black)), "JPEG", quality=95))
        marker = data.index(b"Adobe")
        assert data[marker + 11] == 0
        data[marker + 11] = 2
        assert distance(photo(bytes(data)).pixels, astronaut) < 6

    @pytest.mark.parametrize("form", ["PNG", "TIFF"])
    def test_sixteen_bit_grey_is_scaled_and_not_clipped(self, form: str) -> None:
        ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        pixels = photo(encoded(Image.fromarray(ramp), form)).pixels
        assert (pixels == (ramp >> 8)[..., None]).all()

    @pytest.mark.parametrize("kind", [np.int32, np.float32])
    def test_thirty_two_bit_grey_is_stretched(self, kind: type) -> None:
        ramp: npt.NDArray[Any] = np.linspace(-1000, 50000, 256).reshape(16, 16).astype(kind)
        pixels = photo(encoded(Image.fromarray(ramp), "TIFF")).pixels
        assert np.abs(pixels[..., 0].ravel() - np.arange(256.0)).max() <= 1

    def test_floats_that_are_no_numbers_harm_nothing(self) -> None:
        values = np.array([[np.nan, np.inf], [-np.inf, 2.0]], dtype=np.float32)
        assert photo(encoded(Image.fromarray(values), "TIFF")).pixels[1, 1].tolist() == [255] * 3
        flat = np.full((2, 2), 7.0, dtype=np.float32)
        assert photo(encoded(Image.fromarray(flat), "TIFF")).pixels.max() == 0


class TestOrientation:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
    def test_every_turn_is_undone(
        self, form: str, orientation: int, astronaut: Image.Image, heif: None
    ) -> None:
        upright = astronaut.crop((60, 0, 380, 240))
        # The inverse of each turn is itself, but for the two quarter turns.
        inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
        turn = inverse.get(orientation, decode_module.UPRIGHT.get(orientation))
        stored = upright if turn is None else upright.transpose(turn)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = orientation
        result = photo(encoded(stored, form, exif=exif.tobytes()))
        assert (result.width, result.height) == (320, 240)
        assert result.pixels.shape == (240, 320, 3)
        assert distance(result.pixels, upright) < 6

    def test_sizes_are_the_files_own_where_a_jpeg_is_turned_and_scaled(
        self, astronaut: Image.Image
    ) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        result = photo(encoded(astronaut.resize((2600, 1300)), "JPEG", exif=exif))
        assert (result.width, result.height) == (1300, 2600)
        assert result.pixels.shape == (650, 325, 3)

    @pytest.mark.parametrize("value", [0, 9, 65535])
    def test_unknown_turns_are_none(self, value: int, astronaut: Image.Image) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = value
        assert pixels_like(photo(encoded(astronaut, "PNG", exif=exif)).pixels, astronaut)

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
    @pytest.mark.parametrize("body", [b"", b"XXXX\0\0\0\0", b"II*\0", b"II*\0\xff\xff\xff\x7f"])
    def test_broken_exif_leaves_the_photo_as_it_is(
        self, form: str, body: bytes, astronaut: Image.Image
    ) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 1
        good = exif.tobytes()
        data = encoded(astronaut, form, exif=good)
        tiff = good.removeprefix(b"Exif\0\0")
        if tiff in data:  # AVIF keeps orientation elsewhere, and drops an EXIF that says no more
            data = data.replace(tiff, body.ljust(len(tiff), b"\xff"))
        if form == "PNG":
            data = with_checksums(data)
        assert photo(data).pixels.shape == (SIDE, SIDE, 3)


class TestSize:
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
        result = photo(encoded(astronaut.resize((width, height)), "JPEG", quality=50))
        assert (result.width, result.height) == (width, height)
        assert result.pixels.shape[:2] == (-(-height // scale), -(-width // scale))
        assert max(result.pixels.shape) >= WORKING_SIDE or scale == 1
        assert max(result.pixels.shape) <= MAX_SIDE

    def test_scaling_keeps_the_picture(self, astronaut: Image.Image) -> None:
        data = encoded(astronaut.resize((2560, 2560)), "JPEG", quality=95)
        assert distance(photo(data).pixels, astronaut.resize((640, 640))) < 3

    @pytest.mark.parametrize(
        ("width", "height", "factor"),
        [(1280, 960, 1), (1281, 700, 2), (100, 2560, 2), (3000, 2000, 3), (3841, 1, 4)],
    )
    def test_any_other_is_shrunk_by_a_whole_factor(
        self, width: int, height: int, factor: int, astronaut: Image.Image
    ) -> None:
        picture = astronaut.resize((width, height))
        result = photo(encoded(picture, "BMP"))
        assert (result.width, result.height) == (width, height)
        assert pixels_like(result.pixels, picture.reduce(factor))
        assert WORKING_SIDE <= max(result.pixels.shape) <= MAX_SIDE

    def test_one_pixel(self) -> None:
        for form in ("PNG", "JPEG", "GIF", "WEBP", "AVIF"):
            assert photo(encoded(Image.new("RGB", (1, 1)), form)).pixels.shape == (1, 1, 3)

    def test_a_bomb_fails_before_a_pixel_is_decoded(self) -> None:
        started = time.perf_counter()
        result = failure(png(20_000, 20_000))
        assert time.perf_counter() - started < 0.5
        assert result.reason is Reason.TOO_LARGE
        assert "20000 x 20000 = 400,000,000" in result.detail
        assert "100,000,000" in result.detail

    def test_a_huge_jpeg_counts_as_it_is_scaled(self) -> None:
        # Of one colour, so that the file is small: what counts is its size in pixels.
        data = encoded(Image.new("L", (20_000, 10_000), 99), "JPEG")
        result = photo(data)
        assert (result.width, result.height) == (20_000, 10_000)
        assert result.pixels.shape == (625, 1250, 3)
        assert (result.pixels == 99).all()

    def test_the_limit_is_exact(self, astronaut: Image.Image) -> None:
        data = encoded(astronaut, "PNG")
        assert failure(data, max_pixels=SIDE * SIDE - 1).reason is Reason.TOO_LARGE
        photo(data, max_pixels=SIDE * SIDE)

    def test_a_progressive_jpeg_counts_whole(self, astronaut: Image.Image) -> None:
        large = astronaut.resize((1280, 1280))
        photo(encoded(large, "JPEG"), max_pixels=640 * 640)
        data = encoded(large, "JPEG", progressive=True)
        assert failure(data, max_pixels=640 * 640).reason is Reason.TOO_LARGE


class TestBroken:
    def test_no_bytes(self) -> None:
        assert failure(b"").reason is Reason.EMPTY

    @pytest.mark.parametrize(
        "data", [b"x", b"just a text\n" * 99, b"%PDF-1.7\n", b"RIFF\x24\0\0\0WAVEfmt ", bytes(999)]
    )
    def test_no_image(self, data: bytes) -> None:
        assert failure(data).reason is Reason.NOT_AN_IMAGE

    def test_a_format_that_is_not_known_is_not_opened(self, astronaut: Image.Image) -> None:
        for form in ("PPM", "ICO", "TGA", "PCX"):
            assert failure(encoded(astronaut, form)).reason is Reason.NOT_AN_IMAGE

    @pytest.mark.parametrize("left", [20, 60, 300, 0.5, 0.9])
    @pytest.mark.parametrize(
        "form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "TIFF lzw", "AVIF", "HEIF"]
    )
    def test_a_missing_end(
        self, form: str, left: float, astronaut: Image.Image, heif: None
    ) -> None:
        name, _, compression = form.partition(" ")
        how = {"compression": f"tiff_{compression}"} if compression else {}
        data = encoded(astronaut, name, **how)
        end = int(left * len(data)) if isinstance(left, float) else left
        assert failure(data[:end]).reason is Reason.TRUNCATED

    def test_a_jpeg_whose_end_was_never_written(self, astronaut: Image.Image) -> None:
        data = encoded(astronaut, "JPEG")
        half = len(data) // 2
        assert failure(data[:half] + bytes(len(data) - half)).reason is Reason.TRUNCATED

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
        data = bytearray(encoded(astronaut, form, **how))
        third = len(data) // 3
        for at in range(third, 2 * third, 1009):
            data[at] ^= 0xFF
        assert failure(bytes(data)).reason is Reason.CORRUPT

    @pytest.mark.parametrize("form", ["PNG", "AVIF", "HEIF"])
    def test_a_broken_header(self, form: str, astronaut: Image.Image, heif: None) -> None:
        data = bytearray(encoded(astronaut, form))
        data[40:80] = bytes(40)
        result = failure(bytes(data))
        assert result.reason is Reason.CORRUPT
        assert form in result.detail

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF"])
    def test_noise_is_a_value_and_never_an_exception(
        self, form: str, astronaut: Image.Image, heif: None
    ) -> None:
        data = encoded(astronaut.resize((64, 64)), form)
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
    def test_what_pillow_may_raise_besides(
        self,
        error: Exception,
        reason: Reason,
        astronaut: Image.Image,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        def load(image: ImageFile.ImageFile) -> None:
            raise error

        monkeypatch.setattr(ImageFile.ImageFile, "load", load)
        result = failure(encoded(astronaut, "BMP"))
        assert result.reason is reason
        assert len(result.detail) <= 200


class TestWarnings:
    """pytest makes each warning an error here, and so would ``python -W error``."""

    @pytest.fixture
    def odd(self, astronaut: Image.Image) -> list[bytes]:
        """Files that Pillow itself decodes, but warns about."""
        palette = Image.new("P", (8, 8), 3)
        palette.putpalette([7] * 768)
        exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x03\0"
        return [
            encoded(astronaut, "JPEG", exif=exif),
            encoded(palette, "PNG", transparency=bytes(range(256))),
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
                photo(odd[number % len(odd)])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))


class TestRead:
    def test_bytes(self, tmp_path: Path, astronaut: Image.Image) -> None:
        path = tmp_path / "photo.txt"
        path.write_bytes(encoded(astronaut, "PNG"))
        assert read(path) == path.read_bytes()
        result = decode(path)
        assert isinstance(result, Photo)
        assert result.path == path
        assert pixels_like(result.pixels, astronaut)

    def refused(self, path: Path) -> Reason:
        result = decode(path)
        assert isinstance(result, Failure)
        assert result.path == path
        assert result.stage is Stage.READ
        assert str(path) not in result.detail
        return result.reason

    def test_gone(self, tmp_path: Path) -> None:
        assert self.refused(tmp_path / "lost.jpg") is Reason.VANISHED
        (tmp_path / "file").touch()
        assert self.refused(tmp_path / "file" / "lost.jpg") is Reason.VANISHED

    def test_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        os.mkfifo("pipe.jpg")
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.jpg")
            for name in ("pipe.jpg", "socket.jpg", ".", "/dev/zero"):
                assert self.refused(Path(name).absolute()) is Reason.NOT_A_FILE

    def test_not_allowed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        tmp_path.chmod(0o755)
        path = Path("photo.jpg")
        path.touch(mode=0)
        privileged = os.geteuid() == 0
        if privileged:
            os.seteuid(NOBODY)
        try:
            assert self.refused(path) is Reason.UNREADABLE
        finally:
            if privileged:
                os.seteuid(0)

    def test_too_many_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "huge.jpg"
        with path.open("wb") as file:
            file.truncate(MAX_FILE_BYTES + 1)  # sparse: it takes no room
        assert self.refused(path) is Reason.TOO_LARGE

    def test_an_empty_file_was_read_but_holds_no_photo(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.jpg"
        path.touch()
        assert read(path) == b""
        result = decode(path)
        assert isinstance(result, Failure)
        assert (result.stage, result.reason) == (Stage.DECODE, Reason.EMPTY)


@pytest.mark.parametrize("archive", ["photos.zip", "people.zip"])
def test_real_photos_decode(archive: str, shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / archive) as photos:
        names = [name for name in photos.namelist() if name.endswith((".jpg", ".png"))][::4]
        for name in names:
            result = photo(photos.read(name))
            assert max(result.pixels.shape) <= MAX_SIDE
    assert len(names) > 100


def test_a_sound_file_of_a_kind_that_pillow_can_not_read_is_unsupported() -> None:
    import skimage

    # A TIFF of RGB in 64-bit floating point.
    path = Path(skimage.__file__).parent / "data" / "multipage_rgb.tif"
    failure = decode(path)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.UNSUPPORTED
    assert "unknown pixel mode" in failure.detail
