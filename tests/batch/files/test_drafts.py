"""Only drafts that are proven to be abandoned are removed."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from batch.files import drafts
from batch.files.drafts import (
    CONTENT,
    MARKER,
    DraftFolder,
    draft_pattern,
    draft_stem,
    make_draft_name,
    open_draft,
    remove_abandoned,
    remove_contents,
)
from tests.conftest import REPOSITORY

STEM = ".results.csv"
NAMES = draft_pattern(STEM)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")

# Processes that are killed as they work on a draft.
KILLED = """
import os, signal, sys
from pathlib import Path
from batch.files.drafts import DraftFolder, open_draft
parent, stem = Path(sys.argv[1]), sys.argv[2]
path, stream = open_draft(parent, stem)
stream.write(b"half")
folder = DraftFolder.make(parent, stem)
(folder.content / "half").touch()
os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def clean(folder: Path, stem: str = STEM) -> None:
    """Clean up abandoned drafts, as a process does before it makes its own."""
    remove_abandoned(folder, draft_pattern(stem))
    for left in DraftFolder.take_over_abandoned(folder, stem):
        left.remove(remove_contents)


def leave(folder: Path, stem: str = STEM) -> tuple[Path, Path]:
    """Kill a process that has a draft file and a draft folder; return both."""
    command = [sys.executable, "-c", KILLED, str(folder), stem]
    before = names(folder)
    assert subprocess.run(command, cwd=REPOSITORY).returncode == -signal.SIGKILL
    made = [folder / name for name in names(folder) - before]
    one, other = sorted(made, key=lambda path: path.is_dir())
    return one, other


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    leave(tmp_path)
    assert len(names(tmp_path)) == 2
    clean(tmp_path)
    assert not names(tmp_path)


def test_a_draft_in_use_stays_even_in_the_same_process(tmp_path: Path) -> None:
    path, stream = open_draft(tmp_path, STEM)
    folder = DraftFolder.make(tmp_path, STEM)
    clean(tmp_path)
    assert names(tmp_path) == {path.name, folder.path.name}
    stream.close()
    folder.remove(remove_contents)
    clean(tmp_path)
    assert not names(tmp_path)


def test_a_process_id_does_not_prove_a_draft_abandoned(tmp_path: Path) -> None:
    """Processes of two containers that share a folder may have the same ID."""
    apart = ["unshare", "--pid", "--fork", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"]).returncode:
        pytest.skip("this user can make no container")
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from batch.files.drafts import open_draft\n"
        "draft = open_draft(Path(sys.argv[1]), sys.argv[2])\n"
        "print(os.getpid(), flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [*apart, sys.executable, "-c", code, str(tmp_path), STEM],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        held = names(tmp_path)
        clean(tmp_path)
        assert names(tmp_path) == held
        assert len(held) == 1
        process.kill()
        process.stdout.read()  # until the process that was apart has ended
    clean(tmp_path)
    assert not names(tmp_path)


def with_other_names(draft: Path) -> None:
    token = draft.name.split("-")[-1][:-4]
    others = (
        f".results.csv.batch-label-{token[1:]}.tmp",
        f".results.csv.batch-label-{token}0.tmp",
        f".results.csv.batch-label-{token}.tmp.gz",
        f".results.csv.batch-label-{'g' * 32}.tmp",
        f"results.csv.batch-label-{token}.tmp",
        f".resultsXcsv.batch-label-{token}.tmp",
        f".other.csv.batch-label-{token}.tmp",
        ".results.csv.1234.tmp",
    )
    for name in others[draft.is_dir() :: 2]:  # some are files, the others folders
        (shutil.copytree if draft.is_dir() else shutil.copyfile)(draft, draft.with_name(name))
    shutil.rmtree(draft) if draft.is_dir() else draft.unlink()


def given_away(draft: Path) -> None:
    os.chown(draft, 12345, 12345)


def replaced_by_a_link(draft: Path) -> None:
    elsewhere = draft.with_name(f"mine-{draft.is_dir()}")
    draft.rename(elsewhere)
    draft.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "spoil",
    [with_other_names, pytest.param(given_away, marks=needs_root), replaced_by_a_link],
)
def test_a_draft_without_one_of_the_proofs_stays(
    tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    for draft in leave(tmp_path):
        spoil(draft)
    before = names(tmp_path)
    clean(tmp_path)
    assert names(tmp_path) == before


def test_a_pipe_of_a_draft_s_name_stays_and_is_not_waited_for(tmp_path: Path) -> None:
    file, folder = leave(tmp_path)
    file.unlink()
    os.mkfifo(file)
    (folder / MARKER).unlink()
    os.mkfifo(folder / MARKER)
    clean(tmp_path)
    assert names(tmp_path) == {file.name, folder.name}


def without_marker(folder: Path) -> None:
    (folder / MARKER).unlink()


def with_other_text(folder: Path) -> None:
    with (folder / MARKER).open("ab") as file:
        file.write(b".")


def with_half_of_the_text(folder: Path) -> None:
    os.truncate(folder / MARKER, 20)


def with_another_s_marker(folder: Path) -> None:
    other = DraftFolder.make(folder.parent, STEM)
    (folder / MARKER).write_bytes((other.path / MARKER).read_bytes())
    other.remove(remove_contents)


def with_a_link_to_the_marker(folder: Path) -> None:
    (folder / MARKER).rename(folder / "other")
    (folder / MARKER).symlink_to("other")


@pytest.mark.parametrize(
    "spoil",
    [without_marker, with_other_text, with_half_of_the_text, with_another_s_marker,
     with_a_link_to_the_marker],
)  # fmt: skip
def test_a_folder_with_another_marker_stays(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    _, folder = leave(tmp_path)
    spoil(folder)
    before = {path: path.stat().st_size for path in folder.rglob("*")}
    clean(tmp_path)
    assert {path: path.stat().st_size for path in folder.rglob("*")} == before


def test_links_in_a_folder_are_removed_and_not_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "photo.jpg").touch()
    _, folder = leave(tmp_path)
    (folder / "link").symlink_to(mine)
    (folder / CONTENT / "link").symlink_to(mine)
    (folder / CONTENT / "photo").symlink_to(mine / "photo.jpg")
    clean(tmp_path)
    assert names(tmp_path) == {"mine"}
    assert names(mine) == {"photo.jpg"}


def test_a_folder_without_a_complete_marker_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may clean up after any step of the creation of a folder."""
    cleaned: list[str] = []

    def between(step: str) -> None:
        cleaned.append(step)
        thread = threading.Thread(target=clean, args=(tmp_path,))
        thread.start()
        thread.join(10)
        assert not thread.is_alive()

    for module, name in ((os, "mkdir"), (os, "open"), (os, "write"), (fcntl, "flock")):
        after = _after(getattr(module, name), partial(between, name))
        monkeypatch.setattr(module, name, after)
    folder = DraftFolder.make(tmp_path, STEM)
    monkeypatch.undo()
    assert {"mkdir", "open", "flock", "write"} <= set(cleaned)
    assert names(folder.path) == {MARKER, CONTENT}
    folder.remove(remove_contents)
    assert not names(tmp_path)


def _after(function: Callable[..., object], then: Callable[[], None]) -> Callable[..., object]:
    """Wrap a function to call ``then`` after each of its calls by the main thread."""

    def call(*args: object, **kwargs: object) -> object:
        result = function(*args, **kwargs)
        if threading.current_thread() is threading.main_thread():
            then()
        return result

    return call


def test_a_draft_removed_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, taken = fcntl.flock, list[bool]()

    def flock(descriptor: int, how: int) -> None:
        if not taken:
            taken.append(True)
            clean(tmp_path)
            assert not names(tmp_path)
        lock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    path, stream = open_draft(tmp_path, STEM)
    assert names(tmp_path) == {path.name}
    stream.close()


@pytest.mark.parametrize("letter", ["a", "ä", "\U0001f642", os.fsdecode(b"\xff")])
def test_the_name_of_a_draft_fits_file_systems(tmp_path: Path, letter: str) -> None:
    target = tmp_path / (letter * (255 // len(os.fsencode(letter))))
    name = make_draft_name(draft_stem(target))
    assert len(os.fsencode(name)) <= 255
    assert draft_pattern(draft_stem(target)).fullmatch(name)
    path, stream = open_draft(tmp_path, draft_stem(target))
    path.replace(target)
    stream.close()


def test_names_are_unguessable() -> None:
    assert make_draft_name(STEM) != make_draft_name(STEM)
    assert len(make_draft_name("")) - len(".batch-label-.tmp") == 2 * drafts.TOKEN_BYTES
    assert (
        draft_pattern("a.csv").fullmatch(f"aXcsv.batch-label-{secrets.token_hex(16)}.tmp") is None
    )
