"""A folder of a process's own, in memory if the system has such a place, for cases as files."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path

from batch.path_text import printable_text

MEMORY = Path("/dev/shm")
MAX_MESSAGE_CHARACTERS = 3000  # characters of a message


@functools.cache
def get_case_folder() -> Path:
    """Give this process's folder, which is removed as it ends."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else None
    path = Path(tempfile.mkdtemp(prefix="fuzz-", dir=parent))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def write_case(name: str, data: bytes) -> Path:
    """Write a case as a file under a name that is used again and again."""
    path = get_case_folder() / name
    path.write_bytes(data)
    return path


def check_message(error: BaseException) -> None:
    """Look whether a refusal is one line that steers no terminal, and not without end."""
    text = str(error)
    assert text, f"{type(error).__name__} without a word"
    assert len(text) < MAX_MESSAGE_CHARACTERS, f"a message of {len(text)} characters: {text[:200]}"


def check_line(text: str) -> None:
    """Look whether a text is one line without anything that steers a terminal."""
    assert printable_text(text).replace("\\\\", "\\") == text, f"not one line: {text[:300]!r}"
