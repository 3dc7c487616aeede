"""Broken lists of paths, one per line or separated by NUL, and lists in an object store."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Sequence
from pathlib import Path

from batch.discovery.discover import Discovery
from batch.errors import InputError
from batch.found import FoundFile
from batch.location import is_url
from batch.options import Search
from tests.fuzz.cases import Case, check_line, check_message, get_case_folder, make_broken_case
from tests.fuzz.seeds import make_seeds
from tests.fuzz.text_mutations import BYTES, LINES

NAMES = (b"one.jpg", b"two words.jpg", b"gr\xc3\xb6\xc3\x9fe.jpg", b"sub/three.jpg", b"gone.jpg",
         b"not\xff.jpg", b"sub")  # fmt: skip
FIRST, LAST = b"first.jpg", b"last.jpg"
REMOTE = "memory://fuzz/list.txt"


@functools.cache
def make_sound_files() -> dict[str, bytes]:
    """Make lists of files, most of which exist."""
    return {
        "lines": b"\n".join((*NAMES, b"")),
        "windows": b"\r\n".join((*NAMES, b"")),
        "nul": b"\0".join((*NAMES, b"new\nline.jpg")),
        "remote": b"\n".join((b"a.jpg", b"memory://fuzz/b.jpg", b"sub", b"c d.jpg", b"gone.jpg")),
    }


def make(seed: int, number: int) -> Case:
    """Make a broken list from a seed and a number."""
    return make_broken_case(seed, number, make_sound_files(), (*BYTES, *LINES, *LINES))


def check(case: Case) -> str:
    """Discover the files of a broken list; the sound entries around it must be found."""
    _write_files()
    if case.name.split("-")[1] == "remote":
        return _check_remote(case.data)
    # One NUL in a list makes NUL the separator of all its entries.
    between = b"\0" if b"\0" in case.data else b"\n"
    data = between.join((FIRST, case.data, LAST))
    if _leaves_folder(data.split(between)):
        return "skipped"
    found = list(Discovery(["-"], Search(), listing=io.BytesIO(data)))
    assert found[0].path == FIRST.decode()
    assert found[0].failure is None
    # A broken entry may name the folder, so that the file is found with another path.
    assert any(Path(file.path).name == LAST.decode() and not file.failure for file in found)
    return _word(found)


def _check_remote(data: bytes) -> str:
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe_file("/fuzz/list.txt", data)
    lines = [line.strip() for line in data.splitlines()]
    if any(is_url(os.fsdecode(line)) and not line.startswith(b"memory://") for line in lines):
        return "skipped"  # it may name a real server
    try:
        found = list(Discovery([REMOTE], Search()))
    except InputError as error:
        check_message(error)
        return type(error).__name__
    return _word(found)


def _word(found: Sequence[FoundFile]) -> str:
    for file in found:
        if file.failure:
            detail = file.failure.detail
            check_line(detail)
            assert len(detail) < 1000 + 10 * len(file.path), f"{len(detail)} characters"
    failed = sum(file.failure is not None for file in found)
    return "all found" if not failed else "some found" if failed < len(found) else "none found"


def _leaves_folder(entries: Sequence[bytes]) -> bool:
    """Tell whether an entry is a URL, or a folder outside of the case folder."""
    inside = os.path.realpath(get_case_folder())
    for entry in entries:
        name = os.fsdecode(entry).removesuffix("\r")
        if is_url(name):
            return True
        try:
            if Path(name).is_dir() and not os.path.realpath(name).startswith(inside):
                return True
        except (OSError, ValueError):  # not a valid file name
            continue
    return False


@functools.cache
def _write_files() -> None:
    """Write the files that lists name, and change to their folder."""
    import fsspec

    photo = make_seeds()["jpeg-grey"]
    for name in (*NAMES[:4], FIRST, LAST, b"new\nline.jpg", b"not\xff.jpg"):
        path = get_case_folder() / Path(os.fsdecode(name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(photo)
    os.chdir(get_case_folder())
    store = fsspec.filesystem("memory")
    for remote in ("a.jpg", "b.jpg", "c d.jpg", "sub/d.jpg"):
        store.pipe_file(f"/fuzz/{remote}", photo)
