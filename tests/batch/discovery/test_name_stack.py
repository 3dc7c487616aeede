"""Names of folders are sorted in bounded memory, for folders of any size and depth."""

from __future__ import annotations

import os
import random
import resource
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest

from batch.discovery import name_stack
from batch.discovery.name_stack import NameStack
from batch.discovery.walk import FolderWalker
from batch.errors import OutputError
from batch.options import Search

# In the order of their bytes: what sorts otherwise as text, before kinds, and what is no UTF-8.
NAMES = [
    *("a\0folder", "a.jpg", "ab\0link", "aé", "b\n.jpg"),
    *(os.fsdecode(b"b\xc3"), "b\uffff", "b\U0001f600", os.fsdecode(b"b\xff")),
]


@pytest.fixture
def names() -> Iterator[NameStack]:
    with closing(NameStack()) as stack:
        yield stack


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name_stack, "MAX_NAMES_IN_MEMORY", 10)
    monkeypatch.setattr(name_stack, "MAX_RUNS", 3)


def parts(names: Iterable[str]) -> Iterator[list[str]]:
    for name in names:
        yield [name]


def rest(stack: NameStack, number: int = 7) -> list[str]:
    given: list[str] = []
    while some := stack.take(number):
        given += some
    return given


def measure(work: Callable[[], object]) -> int:
    """Return the peak memory of some work in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", [1, 3, 100])
def test_names_are_sorted_by_their_bytes_in_memory_and_on_disk(
    names: NameStack, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_stack, "MAX_NAMES_IN_MEMORY", most)
    mixed = random.Random(1).sample(NAMES, len(NAMES))
    names.push_folder(parts(mixed))
    assert rest(names) == sorted(NAMES, key=os.fsencode) == NAMES


@pytest.mark.usefixtures("little")
def test_folders_of_any_size_are_left_and_returned_to(names: NameStack) -> None:
    chance = random.Random(2)
    inside: list[list[str]] = []
    for _ in range(300):
        if inside and chance.random() < 0.4:
            assert rest(names) == inside.pop()
            names.pop()
        else:
            count = chance.choice((0, 1, 5, 11, 100, 400))
            some = [f"{chance.getrandbits(40):x}" for _ in range(count)]
            names.push_folder(parts(some))
            inside.append(sorted(some))
        if inside:
            number = chance.randrange(4)
            taken, inside[-1][:number] = inside[-1][:number], []
            assert names.take(number) == taken
        held = sum(len(folder.names) for folder in names._folders)
        assert held == names._held <= name_stack.MAX_NAMES_IN_MEMORY
    while inside:
        assert rest(names) == inside.pop()
        names.pop()
    assert names._file is not None
    assert os.fstat(names._file.fileno()).st_size == 0


def test_memory_does_not_grow_with_the_names_of_a_folder(
    names: NameStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_stack, "MAX_NAMES_IN_MEMORY", 1000)

    def sort(count: int) -> None:
        names.push_folder([f"{number:040}"] for number in range(count, 0, -1))
        while names.take(64):
            pass
        names.pop()

    few = measure(lambda: sort(5_000))
    assert measure(lambda: sort(50_000)) < few + 1_000_000  # which takes 5 MB and more


def test_memory_does_not_grow_with_the_depth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_stack, "MAX_NAMES_IN_MEMORY", 200)
    before: list[Path] = []
    after: list[Path] = []
    folder = tmp_path
    for _ in range(10):
        before += [folder / f"a{number:0200}.jpg" for number in range(60)]
        # Behind the folder, so that they wait for all that is in it.
        after = [folder / f"z{number:0200}.jpg" for number in range(200)] + after
        folder /= "d" * 200
        folder.mkdir()
    for path in (*before, *after):
        path.touch()
    descriptors = Path("/proc/self/fd")
    usual = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    explorer = FolderWalker(Search(), lambda path, why: None, None)
    files = explorer.walk([os.fspath(tmp_path)])
    found = [file.path for file in islice(files, len(before) + 1)]
    if usual:
        assert len(list(descriptors.iterdir())) <= usual + 1
    found += [file.path for file in files]
    assert found == list(map(str, before + after))
    inward = islice(explorer.walk([os.fspath(tmp_path)]), len(before))
    held = measure(lambda: deque(inward, maxlen=1))
    assert held < 600_000  # all names and the last files of each folder have three times that


@pytest.mark.usefixtures("little")
def test_a_full_disk_is_a_clear_error(names: NameStack) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(OutputError, match=r"names in a folder can't be used \(File too large"):
            names.push_folder(parts(f"{number:030}" for number in range(100)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
