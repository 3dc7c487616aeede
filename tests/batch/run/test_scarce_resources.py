"""Threads, processes and shared memory: if they run short, the run ends with a remedy."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import ExitCode, WorkerError
from batch.location import Url
from batch.options import FileLimits
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask
from tests.conftest import REPOSITORY, Command

# What a process does before it is batch-label, with the spoiled system of a test.
NO_THREADS = """
import threading
def refuse(*_):
    raise RuntimeError("can't start new thread")
threading._start_new_thread = refuse
"""
NO_MEMORY = """
import os
def refuse(*_):
    raise OSError({0}, os.strerror({0}))
os.memfd_create = refuse
"""
COUNT_THREADS = """
import atexit, os
atexit.register(lambda: os.write(2, b"threads: %d" % len(os.listdir("/proc/self/task"))))
"""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "white").save(path)
    return path


def spoiled(folder: Path, spoil: str, *args: str) -> subprocess.CompletedProcess[str]:
    program = f"{spoil}\nfrom batch.cli.main import main\nmain()"
    environment = {name: value for name, value in os.environ.items() if "OPENBLAS" not in name}
    ran = subprocess.run(
        [sys.executable, "-c", program, *args],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(REPOSITORY)},
        text=True,
        capture_output=True,
        timeout=120,
    )
    assert "Traceback" not in ran.stderr, ran.stderr
    return ran


def test_threads_that_can_t_be_started(photo: Path) -> None:
    ran = spoiled(photo.parent, NO_THREADS, "a.png", "-q", "-o", "r.csv")
    assert ran.returncode == ExitCode.OK  # this machine's files need none
    (photo.parent / "r.csv").unlink()
    with zipfile.ZipFile(photo.parent / "a.zip", "w") as archive:
        archive.write(photo, "a.png")
    ran = spoiled(photo.parent, NO_THREADS, "a.zip", "-q", "-o", "r.csv")
    assert ran.returncode == ExitCode.FAILED
    assert "a thread can't be started (can't start new thread); allow more processes" in ran.stderr
    assert not (photo.parent / "r.csv").exists()


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.EMFILE, "raise the limit on open files (ulimit -n)"),
        (errno.ENOMEM, "free some memory"),
        (errno.EFBIG, "raise the limit on the size of files (ulimit -f)"),
    ],
)
def test_memory_that_can_t_be_shared(number: int, remedy: str, photo: Path) -> None:
    ran = spoiled(photo.parent, NO_MEMORY.format(number), "a.png", "-q", "-o", "r.csv")
    assert ran.returncode == ExitCode.FAILED
    said = f"no memory can be shared with a worker process ({os.strerror(number)}); {remedy}"
    assert said in ran.stderr


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_a_system_without_files_in_memory_has_temporary_ones(number: int, photo: Path) -> None:
    ran = spoiled(photo.parent, NO_MEMORY.format(number), "a.png", "-q", "-o", "r.csv")
    assert ran.returncode == ExitCode.OK, ran.stderr


def test_a_limit_on_the_size_of_files_is_named(command: Command, photo: Path) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    ran = command("a.png", "-q", "-o", "-", preexec_fn=limit)
    assert ran.returncode == ExitCode.FAILED
    assert "(File too large); raise the limit on the size of files (ulimit -f)" in ran.stderr


@pytest.mark.parametrize("refusal", [errno.EMFILE, errno.ENOMEM])
def test_a_photo_that_can_t_be_sent_ends_the_run(
    refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(refusal, os.strerror(refusal))

    with WorkerPool(WorkerTask(FileLimits())) as workers:
        workers.start()
        monkeypatch.setattr(os, "memfd_create", refuse)
        with pytest.raises(WorkerError, match="no memory can be shared"):
            workers.process(WorkerRequest(Url("s3://bucket/a.png"), data=b"bytes"))


def test_processes_that_can_t_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with WorkerPool(WorkerTask(FileLimits())) as workers:
        with pytest.raises(WorkerError, match=r"did not start .* allow more processes") as caught:
            workers.start()
        assert "--workers" in caught.value.remedy


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_numpy_starts_no_thread_for_each_core(tmp_path: Path) -> None:
    """OpenBLAS sends the process a SIGINT if it can't start a thread."""
    assert "threads: 1" in spoiled(tmp_path, COUNT_THREADS, "model").stderr
