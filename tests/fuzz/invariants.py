"""What must hold for any bytes whatever that are decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from batch.options import MAX_SIDE
from batch.path_text import printable_text
from batch.records import Failure, Photo, Reason, Stage
from batch.vision.decode import decode_bytes
from batch.vision.diagnosis import DETAIL_LENGTH
from tests.fuzz.cases import Case

# Pixels that a fuzzed photo may take: a bomb is refused as at the usual limit, only sooner, and
# what passes takes no minutes.
MAX_PIXELS = 4_000_000


def check(case: Case) -> str:
    """Decode a case and tell in a word how it came out, which is the same every time."""
    path = Path(case.file_name)
    result = decode_bytes(path, case.data, MAX_PIXELS)
    again = decode_bytes(path, case.data, MAX_PIXELS)
    assert result.path == path
    if isinstance(result, Failure):
        assert again == result, "another answer at the second time"
        check_failure(result)
        rest = decode_bytes(path, case.data, MAX_PIXELS, salvage=True)
        if isinstance(rest, Failure):
            assert rest.reason is result.reason, "another failure, for having tried to salvage"
            assert rest.detail.startswith(result.detail)
            return result.reason.value
        assert result.reason is Reason.TRUNCATED
        assert rest.salvaged == result.detail
        check_photo(rest)
        return "salvaged"
    assert isinstance(again, Photo), again
    assert np.array_equal(again.pixels, result.pixels), "other pixels at the second time"
    check_photo(result)
    return "photo"


def check_photo(photo: Photo) -> None:
    """Look whether a photo is as the rest of the program expects it."""
    pixels = photo.pixels
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 1 <= min(pixels.shape[:2]) <= max(pixels.shape[:2]) <= MAX_SIDE
    assert pixels.flags.c_contiguous
    assert photo.width >= pixels.shape[1]
    assert photo.height >= pixels.shape[0]
    # Boxes are scaled by the one and the other, so they must be turned alike.
    assert (photo.width >= photo.height) == (pixels.shape[1] >= pixels.shape[0]) or (
        abs(pixels.shape[1] - pixels.shape[0]) <= 1
    )


def check_failure(failure: Failure) -> None:
    """Look whether a failure is one short line without anything that steers a terminal."""
    assert failure.stage is Stage.DECODE
    assert failure.reason is not Reason.INTERNAL
    assert failure.detail
    assert failure.detail.isprintable()
    assert printable_text(failure.detail).replace("\\\\", "\\") == failure.detail
    assert len(failure.detail) <= max(DETAIL_LENGTH, 200)
    assert " object at 0x" not in failure.detail
