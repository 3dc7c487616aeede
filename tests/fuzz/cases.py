"""Fuzz cases: broken files, the folder that they are written to, and checks of messages."""

from __future__ import annotations

import atexit
import functools
import os
import random
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from batch.path_text import printable_text
from tests.fuzz.mutations import Mutation

MAX_CASE_BYTES = 200_000  # limits repeated mutations that repeat parts of a file
MAX_MESSAGE_CHARACTERS = 3000
SUFFIXES = {"jpeg": ".jpg", "mpo": ".mpo", "tiff": ".tif", "heif": ".heic"}
MEMORY_FOLDER = Path("/dev/shm")


class Case(NamedTuple):
    """A broken file.

    Attributes:
        name: ``number-sound_file-mutation``, unique within a kind of files.
        data: the bytes of the file.
    """

    name: str
    data: bytes

    @property
    def file_name(self) -> str:
        """A file name with the suffix of the format."""
        form = self.name.split("-")[1]
        return self.name + SUFFIXES.get(form, f".{form}")


def make_broken_case(
    seed: int,
    number: int,
    sound: Mapping[str, bytes],
    mutations: Sequence[Mutation],
) -> Case:
    """Break one of several sound files, each in turn, with one to four mutations.

    The same seed and number give the same bytes.

    Args:
        seed: the seed of the run.
        number: the number of the case.
        sound: sound files by name.
        mutations: the mutations to choose from; repeat one to choose it more often.
    """
    names = sorted(sound)
    name = names[number % len(names)]
    rng = random.Random(f"{name} {seed} {number}")
    data, done = sound[name], "none"
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        mutation = rng.choice(mutations)
        if data:
            data = mutation(data, rng)[:MAX_CASE_BYTES]
            done = mutation.__name__
    return Case(f"{number:06}-{name}-{done}", data)


@functools.cache
def get_case_folder() -> Path:
    """Return a folder of this process, in memory if possible; it is removed at exit."""
    parent = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="fuzz-", dir=parent))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def write_case(name: str, data: bytes) -> Path:
    """Write a case to the case folder; a file of the same name is replaced."""
    path = get_case_folder() / name
    path.write_bytes(data)
    return path


def check_message(error: BaseException) -> None:
    """Assert that an error has a message of limited length."""
    text = str(error)
    assert text, f"{type(error).__name__} without a message"
    assert len(text) < MAX_MESSAGE_CHARACTERS, f"a message of {len(text)} characters: {text[:200]}"


def check_line(text: str) -> None:
    """Assert that a text is one line without control characters."""
    assert printable_text(text).replace("\\\\", "\\") == text, f"not one line: {text[:300]!r}"
