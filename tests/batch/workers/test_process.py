"""How workers start, and how they handle signals: real processes and signals."""

from __future__ import annotations

import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from batch.errors import WorkerError
from batch.options import FileLimits
from batch.records import Reason
from batch.workers.pool import WorkerPool
from batch.workers.process import GROUP_SIGNALS
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import Worker, WorkerTask
from tests.conftest import REPOSITORY
from tests.support.hostile_photos import (
    TIGHT_LIMITS,
    Deed,
    deed,
    get_failure,
    has_process_ended,
    hostile,
    is_decoded,
    open_descriptors,
    wait_for_process_end,
)
from tests.support.hostile_worker import GRACE_SECONDS, SLOW

__all__ = ["deed", "hostile"]


class TestStart:
    def test_a_program_that_is_missing(self, deed: Deed) -> None:
        with (
            WorkerPool(WorkerTask(FileLimits(), "batch.nowhere")) as decoders,
            pytest.raises(WorkerError, match=r"did not start \(ModuleNotFoundError: .*nowhere"),
        ):
            decoders.process(WorkerRequest(deed("")))

    def test_a_python_that_is_missing(self, deed: Deed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        before = open_descriptors()
        with pytest.raises(WorkerError, match=r"No such file.*check that /nowhere/python runs"):
            Worker(WorkerTask(FileLimits()))
        assert open_descriptors() == before

    def test_a_python_that_ends_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "executable", "/bin/false")
        with (
            WorkerPool(WorkerTask(FileLimits())) as workers,
            pytest.raises(WorkerError, match="it ended with exit status 1"),
        ):
            workers.start()

    @pytest.mark.parametrize("how", ["script", "-c"])
    def test_a_folder_that_shadows_modules(self, how: str, deed: Deed, tmp_path: Path) -> None:
        """A user's script without a ``__main__`` guard, run in the folder of the photos."""
        photo, folder = deed(""), tmp_path / "here"
        folder.mkdir()
        for name in ("PIL", "struct", "socket", "batch", "hashlib", "mmap"):
            (folder / f"{name}.py").write_text("raise SystemExit('shadowed')")
        code = f"""
import sys
sys.path[:] = [{str(REPOSITORY)!r}, *sys.path[1:]]
from pathlib import Path
import PIL.Image
import batch.vision.decode
from batch.workers.worker import WorkerTask
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.options import FileLimits
sys.path.remove({str(REPOSITORY)!r})
if {how == "-c"}:
    sys.path.insert(0, "")
with WorkerPool(WorkerTask(FileLimits())) as decoders:
    print(decoders.process(WorkerRequest(Path({str(photo)!r}))).content.pixels.shape)
"""
        script = tmp_path / "script.py"
        script.write_text(code)
        command = [sys.executable, str(script)] if how == "script" else [sys.executable, "-c", code]
        environment = {name: v for name, v in os.environ.items() if name != "PYTHONPATH"}
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert (ran.stdout, ran.stderr) == ("(48, 64, 3)\n", "")


class TestSignals:
    @pytest.mark.parametrize("number", sorted(GROUP_SIGNALS))
    def test_current_photos_are_finished(
        self, number: signal.Signals, hostile: WorkerPool, deed: Deed
    ) -> None:
        hostile.process(WorkerRequest(deed("")))
        pid = hostile._idle[0].pid
        timer = threading.Timer(SLOW / 2, os.kill, (pid, number))
        timer.start()
        assert is_decoded(hostile.process(WorkerRequest(deed("wait"))))
        assert [decoder.pid for decoder in hostile._idle] == [pid]

    def test_a_start_is_not_disturbed(self, deed: Deed) -> None:
        ran = script(
            """
            signal.signal(signal.SIGINT, lambda *_: None)
            for delay in (0, 5, 10, 20, 40, 80):
                threading.Timer(delay / 1000, os.killpg, (0, signal.SIGINT)).start()
                with WorkerPool(WorkerTask(TIGHT_LIMITS, HOSTILE)) as decoders:
                    print(decoders.process(WorkerRequest(photo)).content.pixels.shape, flush=True)
            """,
            deed(""),
        )
        stdout, stderr = ran.communicate(timeout=30)
        assert (stdout, stderr) == ("(48, 64, 3)\n" * 6, "")

    def test_an_interrupt_by_python_gives_no_photo_to_the_next(
        self, hostile: WorkerPool, deed: Deed
    ) -> None:
        def interrupt(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        hostile.process(WorkerRequest(deed("")))
        pid = hostile._idle[0].pid
        before = signal.signal(signal.SIGUSR1, interrupt)
        timer = threading.Timer(SLOW / 2, os.kill, (os.getpid(), signal.SIGUSR1))
        try:
            timer.start()
            with pytest.raises(KeyboardInterrupt):
                hostile.process(WorkerRequest(deed("wait")))
        finally:
            timer.join()
            signal.signal(signal.SIGUSR1, before)
        assert has_process_ended(pid)
        vanished = get_failure(hostile.process(WorkerRequest(Path("nowhere"))))
        assert vanished.reason is Reason.VANISHED

    def test_the_time_for_which_a_run_is_stopped_does_not_count(self, deed: Deed) -> None:
        ran = script(
            "print(decoders.process(WorkerRequest(photo)).content.pixels.shape)", deed("wait")
        )
        assert ran.stdout is not None
        pid = int(ran.stdout.readline())
        time.sleep(SLOW / 2)
        os.killpg(ran.pid, signal.SIGSTOP)
        time.sleep(1.2 * TIGHT_LIMITS.decode_timeout)
        os.killpg(ran.pid, signal.SIGCONT)
        stdout, stderr = ran.communicate(timeout=30)
        assert (stdout, stderr) == ("(48, 64, 3)\n", "")
        assert has_process_ended(pid)

    @pytest.mark.parametrize("word", ["", "spin"])
    def test_a_run_that_is_killed_leaves_no_process_behind(self, word: str, deed: Deed) -> None:
        ran = script(
            "decoders.process(WorkerRequest(photo)); print('done', flush=True); signal.pause()",
            deed(word),
        )
        assert ran.stdout is not None
        pid = int(ran.stdout.readline())
        if word:
            time.sleep(0.2)
        else:
            assert ran.stdout.readline() == "done\n"
        ran.kill()
        ran.communicate()
        wait_for_process_end(pid, TIGHT_LIMITS.decode_timeout + GRACE_SECONDS + 2)


def script(code: str, photo: Path) -> subprocess.Popen[str]:
    """Run lines of Python after a start that prints the process ID of the worker."""
    start = f"""
import os, signal, threading
from pathlib import Path
from batch.workers.worker import WorkerTask
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from tests.support.hostile_photos import HOSTILE, TIGHT_LIMITS
photo = Path({str(photo)!r})
"""
    if "with WorkerPool" not in code:
        start += """
decoders = WorkerPool(WorkerTask(TIGHT_LIMITS, HOSTILE))
decoders.start()
print(decoders._idle[0].pid, flush=True)
"""
        code += "\ndecoders.close()"
    return subprocess.Popen(
        [sys.executable, "-c", start + inspect.cleandoc(code)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
