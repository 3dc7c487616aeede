"""Broken photos: decoded in a worker, as a run does, and some also in this process.

A worker has limits and may be lost, which costs one photo and does not end the run.
"""

from __future__ import annotations

import functools
import hashlib
import random
from pathlib import Path

import numpy as np

from batch.options import MAX_SIDE, FileLimits
from batch.path_text import printable_text
from batch.records import Failure, Photo, Reason, Stage
from batch.vision.decode import decode_bytes
from batch.vision.diagnosis import DETAIL_LENGTH
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask
from tests.fuzz.cases import MAX_CASE_BYTES, Case, write_case
from tests.fuzz.mutations import MUTATIONS, repair_checksums, splice
from tests.fuzz.seeds import make_seeds

# A lower limit than in a run, so that large pictures are refused or decoded quickly.
MAX_PIXELS = 4_000_000
TIMEOUT = 10  # seconds
SOUND_INTERVAL = 50  # cases between two sound photos in the same worker
IN_PROCESS_INTERVAL = 3  # cases between two that this process decodes, which shows repeatability
# Reasons of a lost worker.
CONTAINED = frozenset((Reason.CRASHED, Reason.TIMEOUT))


def make(seed: int, number: int) -> Case:
    """Make a broken photo; the same seed and number give the same bytes with the same releases."""
    rng = random.Random(f"{seed} {number}")
    names = list(make_seeds())
    # Each photo in turn, so that even a short run covers all formats.
    name = names[number % len(names)]
    data, done = make_seeds()[name], []
    if rng.random() < 0.1:
        other = rng.choice(names)
        data = splice(data, make_seeds()[other], rng)
        done.append(f"splice_{other.replace('-', '_')}")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        mutation = rng.choice(MUTATIONS)
        if data:
            data = mutation(data, rng)[:MAX_CASE_BYTES]
            done.append(mutation.__name__)
    if rng.random() < 0.7:
        data = repair_checksums(data)
    return Case(f"{number:06}-{name}-{done[-1]}", data)


def check(case: Case) -> str:
    """Decode a case and return the outcome in a word."""
    number = int(case.name.split("-")[0])
    if number % SOUND_INTERVAL == 0:
        assert _decode_sound_photo() == _expected_sound_photo(), "a sound photo has other pixels"
    if number % IN_PROCESS_INTERVAL == 0:
        return check_in_process(case)
    content = _decode_in_worker(write_case(case.file_name.split("-", 1)[1], case.data))
    if isinstance(content, Photo):
        check_photo(content)
        return "photo"
    if content.reason in CONTAINED:
        return f"contained: {content.reason.value}"
    check_failure(content)
    return content.reason.value


def check_in_process(case: Case) -> str:
    """Decode a case twice in this process and return the outcome in a word."""
    path = Path(case.file_name)
    result = decode_bytes(path, case.data, MAX_PIXELS)
    again = decode_bytes(path, case.data, MAX_PIXELS)
    assert result.path == path
    if isinstance(result, Failure):
        assert again == result, "another result the second time"
        check_failure(result)
        rest = decode_bytes(path, case.data, MAX_PIXELS, salvage=True)
        if isinstance(rest, Failure):
            assert rest.reason is result.reason, "another failure after a try to salvage"
            assert rest.detail.startswith(result.detail)
            return result.reason.value
        assert result.reason is Reason.TRUNCATED
        assert rest.salvaged == result.detail
        check_photo(rest)
        return "salvaged"
    assert isinstance(again, Photo), again
    assert np.array_equal(again.pixels, result.pixels), "other pixels the second time"
    check_photo(result)
    return "photo"


def check_photo(photo: Photo) -> None:
    """Assert that a photo is what the rest of the program expects."""
    pixels = photo.pixels
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert 1 <= min(pixels.shape[:2]) <= max(pixels.shape[:2]) <= MAX_SIDE
    assert pixels.flags.c_contiguous
    assert photo.width >= pixels.shape[1]
    assert photo.height >= pixels.shape[0]
    # Boxes are scaled from the pixels to the photo, so both must have the same orientation.
    assert (photo.width >= photo.height) == (pixels.shape[1] >= pixels.shape[0]) or (
        abs(pixels.shape[1] - pixels.shape[0]) <= 1
    )


def check_failure(failure: Failure) -> None:
    """Assert that the detail of a failure is one short line without control characters."""
    assert failure.stage is Stage.DECODE
    assert failure.reason is not Reason.INTERNAL
    assert failure.detail
    assert failure.detail.isprintable()
    assert printable_text(failure.detail).replace("\\\\", "\\") == failure.detail
    assert len(failure.detail) <= max(DETAIL_LENGTH, 200)
    assert " object at 0x" not in failure.detail


@functools.cache
def _workers() -> WorkerPool:
    return WorkerPool(WorkerTask(FileLimits(TIMEOUT, MAX_PIXELS)))


def _decode_in_worker(path: Path) -> Photo | Failure:
    content = _workers().process(WorkerRequest(path)).content
    path.unlink()
    assert isinstance(content, Photo | Failure)
    return content


def _decode_sound_photo() -> str:
    """Decode a sound photo in the worker and return the digest of its pixels."""
    photo = _decode_in_worker(write_case("sound.jpg", make_seeds()["jpeg-exif"]))
    assert isinstance(photo, Photo)
    return hashlib.sha256(photo.pixels.tobytes()).hexdigest()


@functools.cache
def _expected_sound_photo() -> str:
    return _decode_sound_photo()
