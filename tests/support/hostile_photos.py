"""Photos that make a hostile worker misbehave, and the state of its process.

Test modules import the fixtures: ``from tests.support.hostile_photos import deed, hostile``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from batch.options import FileLimits
from batch.records import Failure, Photo, WorkerResult
from batch.workers.pool import WorkerPool
from batch.workers.worker import WorkerTask

HOSTILE = "tests.support.hostile_worker"
# The shortest timeout, and memory for a small picture only.
TIGHT_LIMITS = FileLimits(decode_timeout=1, max_pixels=1_000_000, max_file_size=1_000_000)

Deed = Callable[[str], Path]


@pytest.fixture
def hostile() -> Iterator[WorkerPool]:
    with WorkerPool(WorkerTask(TIGHT_LIMITS, HOSTILE)) as decoders:
        yield decoders


@pytest.fixture
def deed(tmp_path: Path, astronaut: Image.Image) -> Deed:
    """A function that makes a photo with the name of an action of ``hostile_worker``, or ''."""

    def make(word: str) -> Path:
        path = tmp_path / f"{word}.jpg"
        photo = BytesIO()
        astronaut.resize((64, 48)).save(photo, "JPEG")
        path.write_bytes(word.encode() + b"\n" + photo.getvalue() if word else photo.getvalue())
        return path

    return make


def get_failure(decoded: WorkerResult) -> Failure:
    assert isinstance(decoded.content, Failure), "decoded"
    return decoded.content


def is_decoded(decoded: WorkerResult) -> bool:
    return isinstance(decoded.content, Photo) and decoded.content.pixels.shape == (48, 64, 3)


def has_process_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    if sys.platform != "linux":
        return False
    # A zombie has ended, too; in a container without an init process it may remain for good.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_for_process_end(pid: int, seconds: float) -> None:
    give_up = time.monotonic() + seconds
    while not has_process_ended(pid):
        assert time.monotonic() < give_up, "the process did not end"
        time.sleep(0.02)


def open_descriptors() -> int:
    return len(list(Path("/dev/fd").iterdir()))
