"""The files that a run writes: beside the report, and nowhere else."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch.errors import ExitCode
from tests.fuzz import photos as fuzzed_photos
from tests.support.runs import REPORT, RunFolder, make_photos

# What a run with all of its options leaves behind.
OWN = {REPORT, f"{REPORT}.run.json", "state.db", "labels.prom"}
OPTIONS = ("-o", f"out/{REPORT}", "--state", "out/state.db", "--metrics-file", "out/labels.prom")


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """A folder of intact and broken photos, and an empty one for the output."""
    photos = make_photos(tmp_path / "photos" / "sub", 3).parent
    for number in range(40):
        made = fuzzed_photos.make(5, number)
        (photos / made.file_name).write_bytes(made.data)
    (tmp_path / "out").mkdir()
    return RunFolder(tmp_path)


def state_of(folder: Path) -> dict[str, tuple[object, ...]]:
    """Digest a folder's content and metadata, except access times."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (content, status.st_mode, status.st_size, status.st_mtime_ns,
                            status.st_ctime_ns, status.st_ino)  # fmt: skip
    return found


def test_a_run_leaves_the_photos_as_they_are(place: RunFolder) -> None:
    before = state_of(place.folder / "photos")
    assert len(before) == 44
    for _ in range(2):
        assert place.run("photos", *OPTIONS).returncode == ExitCode.INCOMPLETE
    assert state_of(place.folder / "photos") == before
    assert {path.name for path in (place.folder / "out").iterdir()} == OWN
    assert {path.name for path in place.folder.iterdir()} == {"photos", "out", "bright.onnx"}


def test_no_system_call_writes_to_other_files(place: RunFolder) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    calls = "open,openat,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir," \
            "truncate,chmod,fchmodat,link,linkat,symlink,symlinkat,mknod,mknodat"  # fmt: skip
    log = place.folder / "trace"
    traced = (strace, "-f", "-s", "4096", "-e", f"trace={calls}", "-o", str(log))
    ran = place.run("photos", *OPTIONS, before=traced, PYTHONDONTWRITEBYTECODE="1")
    if "ptrace" in ran.stderr:
        pytest.skip("this system lets nobody trace")
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    written = changed_paths(log.read_text(errors="replace"))
    inside = {path for path in written if (place.folder / path).parent.name == "out"}
    assert {f"out/.{REPORT}.lock", "out/state.db"} <= {path[path.find("out/") :] for path in inside}
    # The folder itself is opened for a file without a name, to check that it is writable, and a
    # process that decodes offers itself to the kernel for when memory runs short.
    harmless = {"/dev/null", str(place.folder / "out"), "/proc/self/oom_score_adj"}
    assert written - inside <= harmless


def changed_paths(trace: str) -> set[str]:
    """Find the paths that system calls opened for writing, created, renamed or removed."""
    found: set[str] = set()
    for line in join_interrupted_calls(trace):
        call = re.match(r"\d+ +(\w+)\((.*)\) += \d+", line)
        if call is None:  # the system refused, and nothing was changed
            continue
        if not call[1].startswith("open") or re.search("O_WRONLY|O_RDWR|O_CREAT", line):
            found.update(re.findall(r'"((?:[^"\\]|\\.)*)"', call[2]))
    return found


def join_interrupted_calls(trace: str) -> Iterator[str]:
    """Yield a line for each call, also where strace shows that of another thread in between."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        thread = line.partition(" ")[0]
        if line.endswith("<unfinished ...>"):
            begun[thread] = line.removesuffix("<unfinished ...>").rstrip()
        elif resumed := re.match(r"\d+ +<\.\.\. \w+ resumed>(.*)", line):
            yield begun.pop(thread, "") + resumed[1]
        else:
            yield line


def test_calls_that_others_interrupt_are_joined() -> None:
    trace = """\
7 openat(AT_FDCWD, "out/state.db", O_RDWR|O_CREAT <unfinished ...>
8  mkdir("out/a", 0777) = 0
7 <... openat resumed>, 0644) = 5
"""
    assert changed_paths(trace) == {"out/state.db", "out/a"}


@pytest.mark.parametrize("umask", [0o027, 0o077, 0o022])
def test_new_files_have_the_rights_that_the_umask_leaves(place: RunFolder, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert place.run("photos/sub", *OPTIONS).returncode == ExitCode.OK
    finally:
        os.umask(before)
    rights = {path.name: stat.S_IMODE(path.stat().st_mode)
              for path in (place.folder / "out").iterdir()}  # fmt: skip
    assert set(rights) == OWN
    # SQLite creates files with 0644 at most, for any umask.
    assert rights.pop("state.db") == 0o644 & ~umask
    assert set(rights.values()) == {0o666 & ~umask}


def test_files_that_a_run_writes_among_the_photos_are_not_photos(place: RunFolder) -> None:
    rows = []
    for name in ("r.csv", "r.csv", "r.jsonl", "r.parquet", "r.csv"):
        options = ("-o", f"photos/{name}", "--metrics-file", "photos/labels.prom", "--hidden")
        assert place.run("photos", *options).returncode == ExitCode.INCOMPLETE
        rows.append(set(place.rows("photos/r.csv")))
    assert len(rows[0]) == 43
    assert all(found == rows[0] for found in rows)
