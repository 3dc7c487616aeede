"""JPEGs that no program minds: without the mark of their end, and with an odd head."""

from __future__ import annotations

import re
import struct
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFile, JpegImagePlugin

from batch.records import Failure, Photo, Reason
from batch.vision.decode import decode_bytes
from batch.vision.jpeg import SCAN, has_all_scans, iter_segments, read_frame
from tests.support.decoded import NAME, decode_failure, decode_photo, encode


@pytest.mark.parametrize("size", [(512, 512), (1700, 1300)])
@pytest.mark.parametrize(
    "how", [{}, {"quality": 30}, {"quality": 100}, {"progressive": True}, {"optimize": True}]
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_only_the_end_s_mark_may_be_missing(
    size: tuple[int, int], how: dict[str, Any], mode: str, astronaut: Image.Image
) -> None:
    data = encode(astronaut.resize(size).convert(mode), "JPEG", **how)
    whole = decode_photo(data)
    for end in (data[:-1], data[:-2], data[:-2] + bytes(999)):
        assert np.array_equal(decode_photo(end).pixels, whole.pixels)
    for missing in (3, 4, 10, 100, 5000):
        assert decode_failure(data[:-missing]).reason is Reason.TRUNCATED


def test_a_file_is_handed_to_the_decoder_at_once(
    astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    read = JpegImagePlugin.JpegImageFile.load_read

    def load_read(image: JpegImagePlugin.JpegImageFile, size: int) -> bytes:
        part = read(image, size)
        sizes.append(len(part))
        return part

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load_read", load_read)
    data = encode(astronaut, "JPEG", quality=100)
    assert len(data) > 2 * ImageFile.MAXBLOCK
    decode_photo(data)
    assert sizes == [len(data)]


def test_what_was_never_written_is_not_taken_for_pixels(astronaut: Image.Image) -> None:
    data = encode(astronaut, "JPEG")
    half = len(data) // 2
    for rest in (bytes(half), b"\xff" * half, b"", b"\0\xff" * 100):
        assert decode_failure(data[:half] + rest).reason is Reason.TRUNCATED


@pytest.mark.parametrize("size", [(512, 512), (501, 333)])
@pytest.mark.parametrize(
    "how",
    [
        {"restart_marker_rows": 1},
        {"restart_marker_blocks": 4, "subsampling": 0},
        {"restart_marker_blocks": 7, "progressive": True},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_cut_at_a_restart_marker_is_found(
    size: tuple[int, int], how: dict[str, Any], mode: str, astronaut: Image.Image
) -> None:
    data = encode(astronaut.resize(size).convert(mode), "JPEG", quality=90, **how)
    assert np.array_equal(decode_photo(data[:-2]).pixels, decode_photo(data).pixels)
    markers = [match.start() for match in re.finditer(rb"\xff[\xd0-\xd7]", data)]
    for at in (markers[3], markers[len(markers) // 2], markers[-1]):
        rest = len(data) - at
        for fill in (b"", bytes(rest), b"\xff" * rest, b"\0\xff" * rest, b"\xf6" * rest):
            assert decode_failure(data[:at] + fill).reason is Reason.TRUNCATED
        for end in (at + 1, at + 2):
            assert decode_failure(data[:end]).reason is Reason.TRUNCATED
    most = decode_bytes(NAME, data[: markers[int(0.9 * len(markers))]], salvage=True)
    assert isinstance(most, Photo)
    assert most.salvaged


@pytest.mark.parametrize("how", [{}, {"quality": 30}, {"subsampling": 0}])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_progressive_photo_is_whole_only_with_its_last_scan(
    how: dict[str, Any], mode: str, astronaut: Image.Image
) -> None:
    data = encode(astronaut.convert(mode), "JPEG", progressive=True, **how)
    found = list(iter_segments(data, to_end=True))
    first = next(at for at, segment in enumerate(found) if segment.marker == SCAN)
    assert sum(segment.marker == SCAN for segment in found) > 5
    for segment in found[first + 1 :]:
        for end in (segment.start, segment.end - 1, segment.end):
            assert decode_failure(data[:end]).reason is Reason.TRUNCATED


def test_a_frame_or_scan_that_makes_no_sense_is_no_end() -> None:
    head = b"\xff\xd8"
    for body in (b"", b"\x08\0\x08\0\x08\1", b"\x08\0\x08\0\x08\1\1\0\0"):
        with pytest.raises(ValueError, match="start of frame"):
            has_all_scans(head + b"\xff\xc0" + struct.pack(">H", 2 + len(body)) + body)
    frame = b"\xff\xc0\0\x0b\x08\0\x08\0\x08\1\1\x11\0"
    assert not has_all_scans(head + frame)
    for body in (b"", b"\0\0\0\0", b"\1\2\0\0\x3f\0", b"\1\1\0"):
        with pytest.raises(ValueError, match="start of a scan"):
            has_all_scans(head + frame + b"\xff\xda" + struct.pack(">H", 2 + len(body)) + body)
    assert has_all_scans(head + frame + b"\xff\xda\0\x08\1\1\0\0\x3f\0\x12")


@pytest.mark.parametrize("quality", [75, 100])
@pytest.mark.parametrize("share", [0.5, 0.9])
@pytest.mark.parametrize("fill", [b"\0", b"\xf6", b"hello world\n"])
def test_fill_that_becomes_pixels_without_an_error_is_found(
    quality: int, share: float, fill: bytes, astronaut: Image.Image
) -> None:
    data = encode(astronaut, "JPEG", quality=quality)
    cut = data[: int(share * len(data))] + fill * (500_000 // len(fill))
    assert decode_failure(cut).reason is Reason.TRUNCATED
    whole = data[:-2] + bytes(500_000)
    assert np.array_equal(decode_photo(whole).pixels, decode_photo(data).pixels)
    behind = data + fill * 1000  # what stands behind the end is not looked at
    assert np.array_equal(decode_photo(behind).pixels, decode_photo(data).pixels)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_fill_is_not_salvaged(share: float, astronaut: Image.Image) -> None:
    data = encode(astronaut, "JPEG", quality=100)
    at = int(share * len(data))
    result = decode_bytes(NAME, data[:at] + bytes(500_000), salvage=True)
    if share < 0.5:
        assert isinstance(result, Failure)
    else:
        assert isinstance(result, Photo)
        assert result.salvaged
        cut = decode_bytes(NAME, data[:at], salvage=True)
        assert isinstance(cut, Photo)
        assert np.array_equal(result.pixels, cut.pixels)


@pytest.mark.parametrize(
    "odd",
    [
        b"\xff" * 7,
        bytes(7),
        b"garbage",
        b"\xff\x01",
        b"\xff\x02\0\4ab",
        b"\xff\xe0\0\6JFIF",
        b"\xff\xee\0\x08Adobe\0",
        b"\xff\xe1\0\2",
        b"\xff\xe2\0\x12ICC_PROFILE\0\5\1ab",
        b"\xff\xed\0\x10Photoshop 3.0\0",
        b"\xff\xe2\0\x0eMPF\0II*\0\x08\0\0\0",
    ],
)
def test_an_odd_head_is_passed_over(odd: bytes, astronaut: Image.Image) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encode(astronaut, "JPEG", exif=exif)
    at = data.index(b"\xff\xdb")
    whole = decode_photo(data)
    assert np.array_equal(decode_photo(data[:at] + odd + data[at:]).pixels, whole.pixels)
    assert np.array_equal(decode_photo(data[:at] + odd + data[at:-2]).pixels, whole.pixels)
    assert decode_failure(data[:at] + odd + data[at : len(data) // 2]).reason is Reason.TRUNCATED


def test_an_odd_head_does_not_keep_a_photo_from_being_salvaged(astronaut: Image.Image) -> None:
    data = encode(astronaut, "JPEG")
    odd = data[:2] + b"\xff\xee\0\x08Adobe\0" + data[2 : int(0.9 * len(data))]
    result = decode_bytes(NAME, odd, salvage=True)
    assert isinstance(result, Photo)
    assert result.salvaged


@pytest.mark.parametrize(
    ("marker", "name"), [(0xC3, "lossless JPEG"), (0xF7, "JPEG-LS"), (0xC5, "hierarchical JPEG")]
)
@pytest.mark.parametrize("before", [b"", b"\xff\xe8\0\4ab", b"\xff\xfe\0\4ab\xff\xff"])
def test_other_processes_are_named(
    marker: int, name: str, before: bytes, astronaut: Image.Image
) -> None:
    data = encode(astronaut, "JPEG")
    frame = data.index(b"\xff\xc0")
    tables = data[2:frame] if marker != 0xF7 or before else b""
    odd = data[:2] + before + tables + bytes((0xFF, marker)) + data[frame + 2 :]
    result = decode_failure(odd)
    assert result.reason is Reason.UNSUPPORTED
    assert name in result.detail


def test_a_frame_is_read_over_what_is_between_segments() -> None:
    body = struct.pack(">BHHB", 8, 20, 30, 3) + bytes(9)
    frame = b"\xff\xc2" + struct.pack(">H", 2 + len(body)) + body
    found = read_frame(b"\xff\xd8xx\xff\xff\xe0\0\4ab" + frame)
    assert found is not None
    assert (found.width, found.height, found.components) == (30, 20, 3)
    assert found.is_photo
    for cut in (b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xc0\0", b"\xff\xd8" + frame[:7]):
        assert read_frame(cut) is None
