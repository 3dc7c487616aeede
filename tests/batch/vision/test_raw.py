"""Previews in camera raws."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from batch.file_types import RAW_TYPE, detect_file_type
from batch.options import Search
from batch.records import Reason
from batch.vision.orientation import read_stored_orientation
from batch.vision.raw import MIN_PREVIEW_SIDE, find_preview
from tests.support.decoded import decode_failure, decode_photo, encode, mean_difference

DNG = (50706, "B", 4, (1, 6, 0, 0), True)


@pytest.fixture
def upright(astronaut: Image.Image) -> Image.Image:
    return astronaut.crop((40, 0, 440, 320))


def preview(image: Image.Image, **how: Any) -> bytes:
    """The JPEGs that a camera stores: a thumbnail, and the shot in the sensor's orientation."""
    small = image.resize((160, 128))
    return encode(small, "JPEG") + bytes(99) + encode(image, "JPEG", quality=92, **how)


def tiff_raw(inside: bytes, orientation: int = 1, **how: Any) -> bytes:
    """A raw as Nikon, Sony and others write it: a thumbnail, then sensor data."""
    tifffile = pytest.importorskip("tifffile")
    file = io.BytesIO()
    thumbnail = np.zeros((12, 16, 3), "u1")
    turn = (274, "H", 1, orientation, True)
    with tifffile.TiffWriter(file, **how.pop("file", {})) as tiff:
        tags = [turn, *how.pop("tags", [])]
        if how.pop("has_thumbnail", True):
            tiff.write(thumbnail, photometric="rgb", subifds=1, extratags=tags, metadata=None)
        else:
            how["extratags"] = tags
        mosaic = np.arange(64 * 64, dtype="u2").reshape(64, 64)
        if how.get("photometric") == 34892:
            mosaic = np.dstack([mosaic] * 3)
        tiff.write(mosaic, **{"photometric": 32803, "metadata": None, **how})
    return file.getvalue() + inside


def boxes_raw(inside: bytes, orientation: int) -> bytes:
    """A raw as Canon writes it today (CR3)."""
    tags = b"II*\0\x08\0\0\0" + struct.pack("<HHHIHHI", 1, 274, 3, 1, orientation, 0, 0)
    settings = struct.pack(">I", 8 + len(tags)) + b"CMT1" + tags
    movie = struct.pack(">I", 8 + len(settings)) + b"moov" + settings
    data = struct.pack(">I", 8 + len(inside)) + b"mdat" + inside
    return b"\0\0\0\x18ftypcrx \0\0\0\1crx isom" + movie + data


def raf(inside: bytes, orientation: int) -> bytes:
    """A raw as Fujifilm writes it, whose preview has the orientation."""
    return b"FUJIFILMCCD-RAW 0201FF383501X-T1".ljust(160, b"\0") + inside


@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize(
    "make", ["nef", "big-endian", "cr3", "raf", "dng", "sensor first", "cr2", "orf", "rw2"]
)
def test_the_preview_is_decoded_upright(make: str, orientation: int, upright: Image.Image) -> None:
    turn = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}.get(orientation)
    stored = upright.transpose(turn) if turn is not None else upright
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    inside = preview(stored, **({"exif": exif} if make == "raf" else {}))
    if make == "cr3":
        data = boxes_raw(inside, orientation)
    elif make == "raf":
        data = raf(inside, orientation)
    elif make == "big-endian":
        data = tiff_raw(inside, orientation, file={"byteorder": ">"})
    elif make == "dng":
        data = tiff_raw(inside, orientation, tags=[DNG], photometric=34892)
    elif make == "sensor first":
        data = tiff_raw(inside, orientation, tags=[DNG], has_thumbnail=False)
    else:
        data = tiff_raw(inside, orientation)
        head = {"cr2": b"II*\0", "orf": b"IIRO", "rw2": b"IIU\0"}.get(make, data[:4])
        data = head + data[4:]
    result = decode_photo(data)
    assert (result.width, result.height) == upright.size
    assert mean_difference(result.pixels, upright) < 4
    assert read_stored_orientation(data) == orientation


def test_tiles_of_a_lossy_raw_are_not_previews(upright: Image.Image) -> None:
    pytest.importorskip("imagecodecs")
    tiles = {"photometric": 34892, "compression": "jpeg", "tile": (512, 512)}
    file = tiff_raw(b"", tags=[DNG])
    assert decode_failure(file).reason is Reason.UNSUPPORTED
    tifffile = pytest.importorskip("tifffile")
    written = io.BytesIO()
    pixels = np.asarray(upright.resize((1024, 1024)))
    tifffile.imwrite(written, pixels, metadata=None, extratags=[DNG], **tiles)
    result = decode_failure(written.getvalue())
    assert result.reason is Reason.UNSUPPORTED
    assert "without a preview" in result.detail
    result_with = decode_photo(written.getvalue() + preview(upright))
    assert (result_with.width, result_with.height) == upright.size


@pytest.mark.parametrize("how", [{"rowsperstrip": 96}, {"tile": (256, 256)}, {"tile": (1024, 512)}])
def test_strips_and_tiles_of_a_preview_are_not_previews(
    how: dict[str, Any], upright: Image.Image
) -> None:
    pytest.importorskip("imagecodecs")
    tifffile = pytest.importorskip("tifffile")
    written = io.BytesIO()
    shot = upright.resize((1024, 1024))
    tags = {"metadata": None, "extratags": [DNG], "compression": "jpeg"}
    tifffile.imwrite(written, np.asarray(shot), photometric="rgb", **tags, **how)
    result = decode_photo(written.getvalue())
    assert (result.width, result.height) == shot.size
    assert mean_difference(result.pixels, shot) < 4
    other = io.BytesIO()
    how = {"bigtiff": True, "byteorder": ">", **how}
    tifffile.imwrite(other, np.asarray(shot), photometric="rgb", **tags, **how)
    assert decode_failure(other.getvalue()).reason is Reason.UNSUPPORTED


def test_a_preview_of_another_kind_is_not_called_small(upright: Image.Image) -> None:
    inside = encode(upright.convert("CMYK"), "JPEG")
    result = decode_failure(tiff_raw(inside))
    assert result.reason is Reason.UNSUPPORTED
    assert "that can be read here (a JPEG of 8 bits, grey or YCbCr, not lossless)" in result.detail


def test_a_thumbnail_is_not_enough(upright: Image.Image) -> None:
    small = encode(upright.resize((MIN_PREVIEW_SIDE - 1, 200)), "JPEG")
    result = decode_failure(tiff_raw(small))
    assert result.reason is Reason.UNSUPPORTED
    assert f"without a preview of {MIN_PREVIEW_SIDE} pixels" in result.detail


def test_a_preview_that_is_cut_off_is_truncated(upright: Image.Image) -> None:
    data = tiff_raw(preview(upright))
    assert decode_failure(data[:-2000]).reason is Reason.TRUNCATED


def test_an_ordinary_tiff_is_not_a_raw(upright: Image.Image) -> None:
    data = encode(upright, "TIFF") + preview(upright.resize((999, 999)))
    assert decode_photo(data).width == upright.width


def test_a_file_full_of_jpeg_starts_is_fast() -> None:
    assert find_preview(b"IIRO" + b"\xff\xd8\xff\xe0\0\2" * 200_000) is None


@pytest.mark.parametrize(
    "head",
    [
        b"II*\0\x10\0\0\0CR\2\0",
        b"IIRO\x08\0\0\0",
        b"IIU\0\x18\0\0\0",
        b"FUJIFILMCCD-RAW ",
        b"\0MRM\0\0",
        b"FOVb\0\0",
        b"II\x1a\0\0\0HEAPCCDR",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    ],
)
def test_raws_of_each_maker_are_detected_by_their_first_bytes(head: bytes) -> None:
    assert detect_file_type(head) is RAW_TYPE


def test_raws_in_folders_are_found_on_request(tmp_path: Path) -> None:
    from batch.discovery.discover import discover

    (tmp_path / "a.NEF").write_bytes(b"II*\0\x08\0\0\0")
    (tmp_path / "b").write_bytes(b"FUJIFILMCCD-RAW ")
    left_out: dict[str, str] = {}

    def find(search: Search) -> list[str]:
        files = discover(
            [str(tmp_path)],
            search,
            on_skip=lambda path, why: left_out.update({path.name: why}),
        )
        return [file.name for file in files if not hasattr(file, "reason")]

    assert find(Search()) == []
    assert left_out == {"a.NEF": "camera raw", "b": "camera raw"}
    assert find(Search(raws=True)) == ["a.NEF", "b"]
    assert Search().find_skip_reason("x/a.cr2") == "camera raw"
    assert Search(raws=True).find_skip_reason("x/a.cr2") is None
