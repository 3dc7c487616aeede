"""A stopped run waits for no server, and the next run labels the unfinished photos."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.stores import requests as retrying
from batch.stores.requests import MAX_TIMEOUTS, call_store, retry, run_coroutine, wait_for_call
from batch.stores.store import open_store
from tests.support.hostile_server import build_head, send_reply, serve_http, wait_for_close
from tests.support.object_store import Bucket, bucket, run_failing_proxy, s3_server
from tests.support.runs import REPORT, RunFolder, make_photos, wait_for_end

pytest.importorskip("aiohttp")

__all__ = ["bucket", "s3_server"]

PHOTOS = 5
STALLED = "photos/00003.jpg"
# Seconds that a run may take to end: what it has in hand, and the interpreter.
SOON = 10.0
LIMIT = 4  # seconds; a run takes one or two until it asks a server for photos


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    make_photos(tmp_path / "photos", PHOTOS)
    shutil.make_archive(str(tmp_path / "photos"), "zip", tmp_path, "photos")
    names = [f"photos/{number:05}.jpg\n" for number in range(PHOTOS)]
    (tmp_path / "list.txt").write_text("".join(names))
    return RunFolder(tmp_path)


@contextmanager
def serve(
    folder: Path, stalls: Callable[[str, str], bool]
) -> Iterator[tuple[str, threading.Event]]:
    """Serve a folder; stall at some paths once half of the body is sent, and record when."""
    stalled = threading.Event()

    def answer(connection: socket.socket, method: str, path: str) -> None:
        data = (folder / path[1:]).read_bytes()
        if stalls(method, path):
            connection.sendall(build_head(f"Content-Length: {len(data)}"))
            connection.sendall(b"" if method == "HEAD" else data[: len(data) // 2])
            stalled.set()
            wait_for_close(connection)
        if method == "HEAD":
            connection.sendall(build_head(f"Content-Length: {len(data)}"))
        else:
            send_reply(connection, data)

    with serve_http(answer) as server:
        yield server, stalled


# What is asked for, and which request is never answered in full.
STALLS: dict[str, tuple[str, Callable[[str, str], bool]]] = {
    "list": ("list.txt", lambda method, path: path == "/list.txt"),
    "photo": ("list.txt", lambda method, path: method == "GET" and path.endswith(STALLED)),
    "archive": ("photos.zip", lambda method, path: method == "GET"),
}


class TestARunAtAServerThatStalls:
    @pytest.mark.parametrize("what", STALLS)
    def test_ends_by_a_signal(self, place: RunFolder, what: str) -> None:
        name, stalls = STALLS[what]
        with serve(place.folder, stalls) as (server, stalled):
            run = place.start(f"{server}/{name}", "-o", REPORT)
            assert stalled.wait(60)
            started = time.monotonic()
            run.send_signal(signal.SIGTERM)
            assert wait_for_end(run).returncode == ExitCode.TERMINATED
            assert time.monotonic() - started < SOON
        assert not place.report.exists()

    def test_ends_by_a_signal_before_a_server_says_a_word(self, place: RunFolder) -> None:
        asked = threading.Event()

        def answer(connection: socket.socket, method: str, path: str) -> None:
            asked.set()
            wait_for_close(connection)

        with serve_http(answer) as server:
            run = place.start(f"{server}/a.jpg", "-o", REPORT)
            assert asked.wait(60)
            run.send_signal(signal.SIGTERM)
            started = time.monotonic()
            assert wait_for_end(run).returncode == ExitCode.TERMINATED
            assert time.monotonic() - started < SOON

    def test_ends_by_the_time_limit_and_goes_on_next_time(self, place: RunFolder) -> None:
        name, stalls = STALLS["photo"]
        cured = False
        with serve(place.folder, lambda *asked: not cured and stalls(*asked)) as (server, _):
            command = (f"{server}/{name}", "-o", REPORT)
            started = time.monotonic()
            ran = place.run(*command, "--time-limit", f"{LIMIT}s")
            assert time.monotonic() - started < LIMIT + SOON
            assert ran.returncode == ExitCode.TIME_IS_UP, ran.stderr
            assert not place.report.exists()
            record = place.record()
            assert (record["outcome"], record["published"]) == ("time_is_up", False)
            cured = True
            ran = place.run(*command)
            assert ran.returncode == ExitCode.OK, ran.stderr
        assert len(place.rows()) == PHOTOS
        # All but the one that stalled may be done by then.
        assert place.counts()["reused"] < PHOTOS

    def test_streams_what_was_done(self, place: RunFolder) -> None:
        name, stalls = STALLS["photo"]
        with serve(place.folder, stalls) as (server, stalled):
            run = place.start(f"{server}/{name}", "-o", "-")
            assert stalled.wait(60)
            time.sleep(1)  # in which a worker labels those before, as a rule
            run.send_signal(signal.SIGTERM)
            ran = wait_for_end(run)
        assert ran.returncode == ExitCode.TERMINATED, ran.stderr
        assert "photos that were done are written" in ran.stderr
        done = [row.partition(",")[0][-9:] for row in ran.stdout.splitlines()[1:]]
        assert done == [f"{number:05}.jpg" for number in range(3)][: len(done)]


class TestARunAtAStoreThatStalls:
    """Half of the responses are late, by method and path of the request."""

    @contextmanager
    def stalling(
        self, server: str, stalls: Callable[[str, str], bool]
    ) -> Iterator[tuple[str, threading.Event]]:
        stalled, ended = threading.Event(), threading.Event()

        def late(method: str, path: str) -> int | None:
            if stalls(method, path):
                stalled.set()
                ended.wait(60)
                return 500
            return None

        with run_failing_proxy(server, late) as proxy:
            try:
                yield proxy.endpoint, stalled
            finally:
                ended.set()

    @pytest.mark.parametrize(
        ("source", "output", "method", "part"),
        [
            ("{0}photos", REPORT, "GET", "list-type=2"),
            ("{0}photos/0000*.jpg", REPORT, "GET", "list-type=2"),
            ("{0}photos", REPORT, "GET", "00001.jpg"),
            ("photos", "{0}r.csv", "POST", "r.csv?uploads"),  # the check before the run
            ("photos", "{0}r.csv", "PUT", "r.csv"),
            ("photos", "{0}results/", "PUT", "results/"),
        ],
    )
    def test_ends_by_a_signal(
        self, place: RunFolder, bucket: Bucket, source: str, output: str, method: str, part: str
    ) -> None:
        for photo in (place.folder / "photos").iterdir():
            bucket.write(f"photos/{photo.name}", photo.read_bytes())

        def stalls(asked: str, path: str) -> bool:
            return asked == method and part in path and "run.json" not in path

        with self.stalling(bucket.endpoint, stalls) as (endpoint, stalled):
            run = place.start(
                source.format(bucket.url()),
                "-o",
                output.format(bucket.url()),
                AWS_ENDPOINT_URL=endpoint,
            )
            assert stalled.wait(60)
            run.send_signal(signal.SIGTERM)
            started = time.monotonic()
            ran = wait_for_end(run)
            assert ran.returncode == ExitCode.TERMINATED, ran.stderr
            assert time.monotonic() - started < SOON


class Ended(BaseException):
    """Raised by the checks of these tests."""


def end_after(seconds: float) -> Callable[[], None]:
    ends = time.monotonic() + seconds

    def check() -> None:
        if time.monotonic() > ends:
            raise Ended

    return check


def test_a_pause_between_two_attempts_can_be_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 100)

    def call() -> None:
        raise ConnectionResetError

    with pytest.raises(Ended):
        retry(call, end_after(0.2))


def test_what_is_not_answered_in_time_is_asked_few_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.001)
    asked = []

    def answer(connection: socket.socket, method: str, path: str) -> None:
        asked.append(method)
        wait_for_close(connection)

    with serve_http(answer) as server:
        store, path = open_store(f"{server}/a.jpg")
        with pytest.raises(TimeoutError, match="no reply within 0 s"):
            retry(lambda: call_store(store, "info", path, seconds=0.3))
    assert len(asked) == MAX_TIMEOUTS


def test_a_request_that_nobody_waits_for_is_cancelled() -> None:
    cancelled = threading.Event()

    async def wait() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    store, _ = open_store("http://127.0.0.1:9/")
    with pytest.raises(Ended):
        run_coroutine(store, wait(), end_after(0.1))
    assert cancelled.wait(10)


def test_a_call_that_waits_for_a_store_ends_with_its_request() -> None:
    from fsspec.asyn import sync

    ended = threading.Event()

    async def wait() -> None:
        await asyncio.sleep(100)

    store, _ = open_store("http://127.0.0.1:9/")

    def call() -> None:
        sync(store.loop, wait)
        ended.set()

    with pytest.raises(Ended):
        wait_for_call(call, end_after(0.1))
    assert ended.wait(10)
