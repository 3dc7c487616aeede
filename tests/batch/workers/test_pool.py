"""A file that crashes, hangs or eats memory costs a row: real processes, signals and files."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.location import Location
from batch.options import FileLimits
from batch.records import Failure, FileState, Photo, Reason, Stage
from batch.timings import DECODE
from batch.vision.decode import decode
from batch.vision.read_file import read_file_with_state
from batch.workers.child import compute_memory_limit
from batch.workers.pool import WorkerPool
from batch.workers.process import OOM_SCORE
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask
from tests.support.bombs import bombs
from tests.support.hostile_photos import (
    HOSTILE,
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

linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")


@pytest.fixture(scope="module")
def decoders() -> Iterator[WorkerPool]:
    with WorkerPool(WorkerTask(FileLimits())) as decoders:
        yield decoders


def unknown(path: Location, state: FileState) -> None:
    """Know no row of any file."""


def _question(path: Path) -> WorkerRequest:
    return WorkerRequest(path, digest=True, may_be_known=True)


class TestSoundFiles:
    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
    def test_the_very_same_pixels(
        self, form: str, decoders: WorkerPool, tmp_path: Path, astronaut: Image.Image
    ) -> None:
        path = tmp_path / "photo"
        for side in (1, 350, 1300):
            astronaut.resize((side, side // 2 + 1)).save(path, form)
            here, there = decode(path), decoders.process(WorkerRequest(path)).content
            assert isinstance(here, Photo)
            assert isinstance(there, Photo)
            assert (there.path, there.width, there.height) == (path, here.width, here.height)
            assert np.array_equal(there.pixels, here.pixels)
            assert there.pixels.dtype == np.uint8
            assert not there.pixels.flags.writeable
            assert there.pixels.flags.c_contiguous

    def test_sixteen_bits_a_pixel(self, decoders: WorkerPool, tmp_path: Path) -> None:
        ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        Image.fromarray(ramp).save(tmp_path / "grey.png")
        photo = decoders.process(WorkerRequest(tmp_path / "grey.png")).content
        assert isinstance(photo, Photo)
        assert (photo.pixels == (ramp >> 8)[..., None]).all()

    def test_heic(self, decoders: WorkerPool, tmp_path: Path, astronaut: Image.Image) -> None:
        pytest.importorskip("pillow_heif").register_heif_opener()
        astronaut.save(tmp_path / "photo.heic")
        here, there = (
            decode(tmp_path / "photo.heic"),
            decoders.process(WorkerRequest(tmp_path / "photo.heic")),
        )
        assert isinstance(here, Photo)
        assert isinstance(there.content, Photo)
        assert np.array_equal(there.content.pixels, here.pixels)

    def test_a_photo_is_not_changed_by_the_next_one(self, decoders: WorkerPool, deed: Deed) -> None:
        first = decoders.process(WorkerRequest(deed(""))).content
        assert isinstance(first, Photo)
        before = first.pixels.copy()
        white = deed("white")
        Image.new("RGB", (64, 48), "white").save(white)
        decoders.process(WorkerRequest(white))
        assert np.array_equal(first.pixels, before)

    def test_the_state_of_the_file(self, decoders: WorkerPool, deed: Deed) -> None:
        path = deed("")
        os.utime(path, ns=(0, 1_600_000_000_123_456_789))
        read = read_file_with_state(path)
        assert not isinstance(read, Failure)
        data, state = read
        change = path.stat().st_ctime_ns, path.stat().st_ino
        assert state == FileState(len(data), 1_600_000_000_123_456_789, None, None, *change)
        plain, digested = (
            decoders.process(WorkerRequest(path)),
            decoders.process(_question(path), unknown),
        )
        assert plain.state == state
        assert digested.state == replace(state, digest=hashlib.sha256(data).digest())
        assert 0 < digested.read_seconds < 10

    def test_a_name_may_be_any_bytes_and_relative(
        self, deed: Deed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        sound = deed("").read_bytes()
        with WorkerPool(WorkerTask(FileLimits())) as decoders:
            for name in (b"\n", b"--", b"caf\xe9", "☺".encode(), b"x" * 255):
                try:
                    Path(os.fsdecode(name)).write_bytes(sound)
                except OSError:  # macOS has only names in UTF-8
                    continue
                assert is_decoded(decoders.process(WorkerRequest(Path(os.fsdecode(name)))))
            too_long = get_failure(decoders.process(WorkerRequest(Path("x" * 100_000))))
        assert (too_long.stage, too_long.reason) == (Stage.READ, Reason.UNREADABLE)


class TestBadFiles:
    def test_what_can_not_be_read(self, decoders: WorkerPool, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "empty").touch()
        reasons = {
            name: get_failure(decoders.process(WorkerRequest(tmp_path / name))).reason
            for name in ("pipe", "empty", "nothing")
        }
        assert reasons == {
            "pipe": Reason.NOT_A_FILE,
            "empty": Reason.EMPTY,
            "nothing": Reason.VANISHED,
        }
        assert (
            get_failure(decoders.process(WorkerRequest(Path("/dev/zero")))).reason
            is Reason.NOT_A_FILE
        )

    def test_the_limits_are_the_given_ones(self, hostile: WorkerPool, tmp_path: Path) -> None:
        path = tmp_path / "photo.png"
        Image.new("RGB", (1001, 1000)).save(path)
        failure = get_failure(hostile.process(WorkerRequest(path)))
        assert failure.reason is Reason.TOO_LARGE
        assert "more than --max-pixels 1,000,000" in failure.detail
        path.write_bytes(bytes(1_000_001))
        failure = get_failure(hostile.process(WorkerRequest(path)))
        assert failure.reason is Reason.TOO_LARGE
        assert "1,000,001 bytes, more than --max-file-size 1,000,000" in failure.detail

    @pytest.mark.parametrize("name", bombs())
    def test_bombs(self, name: str, decoders: WorkerPool, tmp_path: Path) -> None:
        path = tmp_path / name
        path.write_bytes(bombs()[name])
        started = time.monotonic()
        failure = get_failure(decoders.process(WorkerRequest(path)))
        assert time.monotonic() - started < 5
        assert failure.reason in (Reason.TOO_LARGE, Reason.CORRUPT, Reason.TRUNCATED)
        assert failure == decode(path)

    @pytest.mark.parametrize(
        ("word", "reason", "detail"),
        [
            ("segfault", Reason.CRASHED, "its worker was killed by SIGSEGV"),
            ("abort", Reason.CRASHED, "its worker was killed by SIGABRT"),
            ("kill", Reason.CRASHED, "killed by SIGKILL, as when memory runs short"),
            ("exit", Reason.CRASHED, "its worker ended with exit status 3"),
            ("talk", Reason.CRASHED, "its worker sent an invalid reply"),
            ("cut", Reason.CRASHED, "its worker sent an invalid reply: 0 bytes of (1280"),
            ("spin", Reason.TIMEOUT, "not read and decoded within --decode-timeout 1s"),
            ("stop", Reason.TIMEOUT, "not read and decoded within --decode-timeout 1s"),
        ],
    )
    def test_one_that_its_process_does_not_survive(
        self, word: str, reason: Reason, detail: str, hostile: WorkerPool, deed: Deed
    ) -> None:
        (before,) = self.processes(hostile, deed)
        started = time.monotonic()
        decoded = hostile.process(WorkerRequest(deed(word)))
        assert time.monotonic() - started < 5
        assert decoded.state is None
        failure = get_failure(decoded)
        assert (failure.path, failure.stage) == (deed(word), Stage.DECODE)
        assert failure.reason is reason
        assert detail in failure.detail
        assert has_process_ended(before)
        assert is_decoded(hostile.process(WorkerRequest(deed(""))))

    @pytest.mark.parametrize(
        ("word", "reason", "detail"),
        [
            ("raise", Reason.INTERNAL, "ZeroDivisionError: division by zero"),
            ("grow", Reason.INTERNAL, "OSError: [Errno 27] File too large"),
            ("eat", Reason.TOO_LARGE, "not enough memory to decode it"),
        ],
    )
    def test_one_that_its_process_survives(
        self, word: str, reason: Reason, detail: str, hostile: WorkerPool, deed: Deed
    ) -> None:
        if word == "eat" and sys.platform != "linux":
            pytest.skip("the system does not keep a process from taking memory")
        before = self.processes(hostile, deed)
        failure = get_failure(hostile.process(WorkerRequest(deed(word))))
        assert (failure.reason, failure.detail) == (reason, detail)
        assert self.processes(hostile, deed) == before

    @pytest.mark.parametrize("size", [0, 200_000])  # decoded before the verdict, and after it
    def test_a_wait_for_the_run_is_not_charged(
        self, size: int, hostile: WorkerPool, deed: Deed
    ) -> None:
        def known(path: Location, state: FileState) -> None:
            time.sleep(TIGHT_LIMITS.decode_timeout + GRACE_SECONDS + 0.7)

        path = deed("")
        path.write_bytes(path.read_bytes() + bytes(size))
        worked = hostile.process(_question(path), known)
        assert is_decoded(worked)
        assert sum(worked.seconds.values()) + worked.read_seconds < 0.7

    def test_a_wait_for_the_run_gives_no_more_time(self, hostile: WorkerPool, deed: Deed) -> None:
        def known(path: Location, state: FileState) -> None:
            time.sleep(0.5)

        path = deed("spin")
        path.write_bytes(path.read_bytes() + bytes(200_000))
        started = time.monotonic()
        worked = hostile.process(_question(path), known)
        assert get_failure(worked).reason is Reason.TIMEOUT
        passed = time.monotonic() - started
        assert TIGHT_LIMITS.decode_timeout + 0.4 < passed < 5
        assert 0.9 * TIGHT_LIMITS.decode_timeout < worked.seconds[DECODE] < passed - 0.4

    def processes(self, decoders: WorkerPool, deed: Deed) -> list[int]:
        assert is_decoded(decoders.process(WorkerRequest(deed(""))))
        return [decoder.pid for decoder in decoders._idle]


class TestProcesses:
    def test_one_that_was_killed_while_it_was_idle_costs_no_row(
        self, hostile: WorkerPool, deed: Deed
    ) -> None:
        assert is_decoded(hostile.process(WorkerRequest(deed(""))))
        pid = hostile._idle[0].pid
        os.kill(pid, signal.SIGKILL)
        wait_for_process_end(pid, 5)
        assert is_decoded(hostile.process(WorkerRequest(deed(""))))

    def test_threads_have_one_each(
        self, decoders: WorkerPool, tmp_path: Path, astronaut: Image.Image
    ) -> None:
        paths = [tmp_path / f"{n}.png" for n in range(24)]
        for n, path in enumerate(paths):
            astronaut.resize((100 + n, 50)).save(path)
        with ThreadPoolExecutor(2) as pool:
            for n, decoded in enumerate(pool.map(decoders.process, map(WorkerRequest, paths * 4))):
                assert isinstance(decoded.content, Photo)
                assert decoded.content.width == 100 + n % 24
                assert decoded.content.path == paths[n % 24]
        assert len(decoders._idle) <= 2

    def test_a_crash_beside_a_sound_photo(self, hostile: WorkerPool, deed: Deed) -> None:
        words = ["wait", "segfault", "", "abort", "", "wait"]
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(hostile.process, [WorkerRequest(deed(word)) for word in words]))
        assert [is_decoded(result) for result in results] == [
            word in ("", "wait") for word in words
        ]

    def test_a_thousand_photos_leave_nothing_behind(self, deed: Deed) -> None:
        sound, crash = deed(""), deed("exit")
        before = open_descriptors()
        with WorkerPool(WorkerTask(TIGHT_LIMITS, HOSTILE)) as decoders:
            for n in range(1000):
                assert is_decoded(
                    decoders.process(WorkerRequest(crash if n % 100 == 99 else sound))
                ) is (n % 100 != 99)
                # The socket and the shared file.
                assert open_descriptors() <= before + 2
            pids = [decoder.pid for decoder in decoders._idle]
        assert open_descriptors() == before
        for pid in pids:
            with pytest.raises(ProcessLookupError):  # a zombie would still have its number
                os.kill(pid, 0)

    def test_one_in_use_while_all_are_closed_ends_afterwards(self, deed: Deed) -> None:
        decoders = WorkerPool(WorkerTask(TIGHT_LIMITS, HOSTILE))
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(decoders.process, WorkerRequest(deed("wait")))
            time.sleep(SLOW / 2)
            decoders.close()
            assert is_decoded(result.result())
        assert not decoders._idle

    @linux
    def test_nothing_is_inherited_and_the_kernel_knows_whom_to_kill(
        self, hostile: WorkerPool, deed: Deed
    ) -> None:
        with deed("").open("rb") as file:
            os.set_inheritable(file.fileno(), True)  # as some libraries do with theirs
            hostile.process(WorkerRequest(deed("")))
        process = Path(f"/proc/{hostile._idle[0].pid}")
        names = {str(link.readlink()).split(":")[0] for link in (process / "fd").iterdir()}
        assert names == {"/dev/null", "/memfd", "socket"}
        score = int(Path("/proc/self/oom_score_adj").read_text())
        assert int((process / "oom_score_adj").read_text()) == min(1000, score + OOM_SCORE)
        limits = (process / "limits").read_text()
        (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
        assert core.split()[4:6] == ["0", "0"]
        assert resource.prlimit(hostile._idle[0].pid, resource.RLIMIT_AS)[
            1
        ] < 2 * compute_memory_limit(TIGHT_LIMITS)

    @pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")
    def test_memory_is_kept_from_photo_to_photo(
        self, tmp_path: Path, astronaut: Image.Image
    ) -> None:
        astronaut.resize((350, 350)).save(tmp_path / "portrait.jpg")
        with WorkerPool(WorkerTask(FileLimits())) as fresh:
            for _ in range(5):
                fresh.process(WorkerRequest(tmp_path / "portrait.jpg"))
            stat = Path(f"/proc/{fresh._idle[0].pid}/stat")
            before = page_faults(stat)
            for _ in range(20):
                fresh.process(WorkerRequest(tmp_path / "portrait.jpg"))
            # Its pixels alone take 120 pages.
            assert page_faults(stat) - before < 20 * 30

    @linux
    def test_a_process_needs_neither_numpy_nor_onnx_runtime(
        self, decoders: WorkerPool, deed: Deed
    ) -> None:
        with WorkerPool(WorkerTask(FileLimits())) as fresh:
            assert is_decoded(fresh.process(WorkerRequest(deed(""))))
            maps = Path(f"/proc/{fresh._idle[0].pid}/maps").read_text()
        assert "_imaging" in maps
        assert "onnxruntime" not in maps
        assert "numpy" not in maps


def page_faults(stat: Path) -> int:
    """Count them as proc_pid_stat(5) says: the eighth field after the command in parentheses."""
    return int(stat.read_text().rpartition(")")[2].split()[7])
