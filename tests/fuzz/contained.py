"""Broken photos as a run decodes them: in a worker, a process with limits, that survives or not."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from batch.options import FileLimits
from batch.records import Failure, Photo, Reason
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask
from tests.fuzz.cases import Case
from tests.fuzz.invariants import MAX_PIXELS, check, check_failure, check_photo
from tests.fuzz.place import write_case
from tests.fuzz.seeds import make_seeds

TIMEOUT = 10  # seconds
NEIGHBOURS = 50  # so often a sound photo is decoded by the same worker
IN_PROCESS = 3  # so often a photo is decoded here as well, which shows whether answers repeat
# Reasons that tell of a worker that was lost, which costs one photo and no run.
CONTAINED = frozenset((Reason.CRASHED, Reason.TIMEOUT))


@functools.cache
def _workers() -> WorkerPool:
    return WorkerPool(WorkerTask(FileLimits(TIMEOUT, MAX_PIXELS)))


def check_contained(case: Case) -> str:
    """Decode a case in a worker, and some also here; tell in a word how it came out."""
    number = int(case.name.split("-")[0])
    if number % NEIGHBOURS == 0:
        assert _digest(_sound()) == _expected(), "a sound photo has other pixels"
    if number % IN_PROCESS == 0:
        return check(case)
    return _word(_decode(write_case(case.file_name.split("-", 1)[1], case.data)))


def _decode(path: Path) -> Photo | Failure:
    worked = _workers().process(WorkerRequest(path))
    path.unlink()
    content = worked.content
    assert isinstance(content, Photo | Failure)
    return content


def _word(content: Photo | Failure) -> str:
    if isinstance(content, Failure):
        if content.reason in CONTAINED:
            return f"contained: {content.reason.value}"
        check_failure(content)
        return content.reason.value
    check_photo(content)
    return "photo"


def _sound() -> Photo:
    photo = _decode(write_case("sound.jpg", make_seeds()["jpeg-exif"]))
    assert isinstance(photo, Photo)
    return photo


@functools.cache
def _expected() -> str:
    return _digest(_sound())


def _digest(photo: Photo) -> str:
    return hashlib.sha256(photo.pixels.tobytes()).hexdigest()
