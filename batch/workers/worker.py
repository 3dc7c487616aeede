"""One worker, a process, seen from the run: see ``program.py`` for its side."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from batch.limits import duration_text
from batch.location import Location
from batch.options import FileLimits
from batch.records import Failure, FileState, Photo, Reason, Row, Stage, WorkerResult
from batch.row_json import MAX_ROW_BYTES
from batch.stopping import StopCheck, never_stop
from batch.timings import DECODE
from batch.workers.process import (
    DECODING_PROGRAM,
    EXIT_TIMEOUT_SECONDS,
    LaunchedWorker,
    create_shared_file,
    describe_exit,
    launch_worker,
    make_start_error,
    make_system_error,
    write_shared,
)
from batch.workers.protocol import (
    MAX_SHARED_BYTES,
    VERDICT_LABEL,
    VERDICT_SKIP,
    InvalidReply,
    SharedPixels,
    WorkerReply,
    WorkerRequest,
    pack_request,
    unpack_checked_row,
    unpack_reply,
    unpack_start_error,
)

# Gives a file the row of another one with the same bytes (their SHA-256), if there is one.
KnownRowLookup = Callable[[Location, FileState], Row | None]

START_TIMEOUT_SECONDS = 60.0  # seconds, for a machine that is busy with much else
# Photos that a worker has in hand and before it: it never waits for the next one, even while the
# run commits its journal.
MAX_IN_FLIGHT = 4
_READ_BYTES = 1 << 18  # bytes
_EXIT_WAIT_SECONDS = 0.5  # seconds from the end of a connection to that of its process
_STOP_CHECK_SECONDS = 0.5  # seconds between two looks whether the start of a process is waited for
# Times that there is nothing to read although the system says so, as out-of-band data make it.
_MAX_IDLE_READS = 100


class WorkerLost(Exception):
    """The process is gone or of no more use, and the photo that it had in hand is not decoded."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class WorkerTask:
    """What a worker is to do: the module whose ``main`` it runs, and within which limits.

    Without a ``plan`` it hands over pixels. With one, an open file that the program reads, it hands
    over labels, which are out of ``labels``; ``outputs`` are these and the abstain outputs.
    """

    limits: FileLimits
    program: str = DECODING_PROGRAM
    plan: BinaryIO | None = None
    labels: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def in_flight(self) -> int:
        """The most photos in flight: one if their pixels take turns in one place."""
        return MAX_IN_FLIGHT if self.plan else 1


class NumberedRequest(NamedTuple):
    """A question and its number, which the caller chooses."""

    number: int
    request: WorkerRequest


class Worker:
    """A process that reads, decodes and perhaps labels photos, one after the other.

    It is asked for several at a time, and replies in the same order. Times are those of a
    ``CappedClock``.

    Raises:
        WorkerError: the system refuses to start it.
    """

    def __init__(self, task: WorkerTask, launched: LaunchedWorker | None = None) -> None:
        self._task = task
        with ExitStack() as undo:
            self._pixels = (
                None if task.plan else undo.enter_context(create_shared_file(MAX_SHARED_BYTES))
            )
            file = task.plan or self._pixels
            assert file is not None
            if launched is None:
                launched = launch_worker(task.program, file, task.limits)
                if task.plan:
                    launched.announce_plan()
            self._process, self._connection = launched.process, launched.connection
            undo.pop_all()
        self._connection.setblocking(False)
        self.is_ready = self.has_replied = False
        self._is_gone = False  # of which ``receive`` tells once all is read
        self._idle_reads = 0
        self.in_flight: deque[NumberedRequest] = deque()
        self._received = bytearray()
        self._has_verdict = False  # on the photo in hand
        self._since = 0.0  # when that photo was begun, or the process started
        self._started = self._verdict_seconds = 0.0  # the same by the real clock

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def fileno(self) -> int:
        """Give the descriptor that can be read when the process has something to say."""
        return self._connection.fileno()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def has_room(self, most: int) -> bool:
        """Whether the worker, with so many photos in flight at most, can be asked for another.

        While a verdict is to come nothing else is sent: the two would be mixed up.
        """
        if not self.is_ready or self._is_gone or len(self.in_flight) >= most:
            return False
        if not self.in_flight or not self.in_flight[-1].request.may_be_known:
            return True
        return len(self.in_flight) == 1 and self._has_verdict

    def send_request(self, asked: NumberedRequest, now: float) -> bool:
        """Send a question; False if the process is gone, of which ``receive`` then tells.

        What it has said before is still to be read.

        Raises:
            WorkerError: the photo's data can't be handed over.
        """
        data = asked.request.data
        try:
            self._send(pack_request(asked.request))
            if data is not None:
                with create_shared_file() as file:
                    write_shared(file, data)
                    self._send(b"\0", file.fileno())
        except (ConnectionError, TimeoutError):
            self._is_gone = True
            return False
        except OSError as error:
            raise make_system_error("a photo can't be handed to a worker process", error) from error
        self.in_flight.append(asked)
        if len(self.in_flight) == 1:
            self._begin_next(now)
        return True

    def drop_queued(self) -> None:
        """Forget the questions behind the photo in hand, whose replies nobody waits for."""
        while len(self.in_flight) > 1:
            self.in_flight.pop()

    def receive(
        self, known: KnownRowLookup | None, clock: CappedClock
    ) -> Iterator[tuple[NumberedRequest, WorkerResult]]:
        """Take what the process says now, and give the results that are complete.

        Call it when there is something to read. What ``known`` takes is not charged to the photo.

        Raises:
            Lost: the process crashed or sent an invalid reply, while the first of ``in_flight`` was
                in hand.
            WorkerError, ModelError, ProviderError: it does not start.
        """
        try:
            part = self._read()
        except BlockingIOError:
            self._idle_reads += 1
            if self._idle_reads > _MAX_IDLE_READS:
                raise WorkerLost(
                    Reason.CRASHED, "its worker sent nothing again and again"
                ) from None
            return
        if not part:
            raise self._explain_loss()
        self._idle_reads = 0
        self._received += part
        if not self.is_ready:
            self._check_greeting()
        at = 0
        try:
            while at < len(self._received):
                if not self.in_flight:
                    raise InvalidReply("one too many")
                asked = self.in_flight[0]
                parsed = unpack_reply(asked.request, self._received, at)
                if parsed is None:
                    break
                reply, at = parsed
                worked = self._handle_reply(asked.request, reply, known)
                if worked is None:
                    continue
                self.in_flight.popleft()
                self._begin_next(clock.now)
                self.has_replied = True
                yield asked, worked
        except (ConnectionError, TimeoutError) as error:
            raise self._explain_loss() from error
        except InvalidReply as error:
            raise WorkerLost(
                Reason.CRASHED, f"its worker sent an invalid reply: {error}"
            ) from error
        del self._received[:at]

    def check_timeout(self, now: float) -> None:
        """Make sure that neither the photo in hand nor the start takes too long.

        Raises:
            Lost: the photo does.
            WorkerError: the start does.
        """
        if not self.is_ready:
            if now - self._since > START_TIMEOUT_SECONDS:
                raise make_start_error(f"not within {START_TIMEOUT_SECONDS:.0f} s")
        elif self.in_flight and now - self._since > self._task.limits.decode_timeout:
            raise self._make_timeout()

    def wait_until_ready(self, check: StopCheck = never_stop) -> None:
        """Wait for the process's greeting; ``check`` may end that by an exception.

        Raises:
            WorkerError, ModelError, ProviderError: it does not start.
        """
        clock = CappedClock(START_TIMEOUT_SECONDS)
        while not self.is_ready:
            check()
            clock.tick()
            self.check_timeout(clock.now)
            if not self._wait_for(selectors.EVENT_READ, _STOP_CHECK_SECONDS):
                continue
            part = self._read()
            if not part:
                raise self._explain_failed_start()
            self._received += part
            self._check_greeting()

    def fail_current(self, lost: WorkerLost) -> tuple[NumberedRequest, WorkerResult]:
        """Give the photo in hand, the first of ``in_flight``, the failure of a lost process."""
        asked = self.in_flight.popleft()
        seconds = time.perf_counter() - self._started - self._verdict_seconds
        failure = Failure(asked.request.location, Stage.DECODE, lost.reason, lost.detail)
        return asked, WorkerResult(failure, seconds={DECODE: seconds})

    def disconnect(self) -> None:
        """Tell the process to end, and do not wait for it."""
        self._connection.close()

    def end(self) -> None:
        """Wait for the end of a process that has nothing in hand."""
        self.disconnect()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_TIMEOUT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        # One that a disk holds is buried by `subprocess` when another one starts.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_TIMEOUT_SECONDS)
        self._connection.close()
        if self._pixels:
            self._pixels.close()

    def _read(self) -> bytes:
        """Read what the process has sent; empty if it is gone.

        Raises:
            BlockingIOError: nothing is there yet.
        """
        try:
            return self._connection.recv(_READ_BYTES)
        except ConnectionError:
            return b""

    def _send(self, data: bytes, descriptor: int | None = None) -> None:
        """Send all of the data, the first part of it with a descriptor.

        Raises:
            TimeoutError: the process does not take it within the time of a photo.
            OSError: the system refuses.
        """
        rest = memoryview(data)
        while rest:
            try:
                if descriptor is None:
                    sent = self._connection.send(rest)
                else:
                    sent = socket.send_fds(self._connection, [rest], [descriptor])
                    descriptor = None
            except BlockingIOError:
                if not self._wait_for(selectors.EVENT_WRITE, self._task.limits.decode_timeout):
                    raise TimeoutError from None
            else:
                rest = rest[sent:]

    def _wait_for(self, event: int, seconds: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._connection, event)
            return bool(selector.select(seconds))

    def _begin_next(self, now: float) -> None:
        self._since, self._started = now, time.perf_counter()
        self._has_verdict, self._verdict_seconds = False, 0.0

    def _check_greeting(self) -> None:
        """Take the process's first line: empty, or what keeps it from working."""
        line, end, rest = self._received.partition(b"\n")
        if not end:
            if len(line) > MAX_ROW_BYTES:
                raise make_start_error("it sends a greeting without an end")
            return
        if line:
            why = bytes(line)
            raise unpack_start_error(why) or make_start_error(why.decode(errors="replace").strip())
        self._received, self.is_ready = rest, True

    def _handle_reply(
        self, request: WorkerRequest, reply: WorkerReply, known: KnownRowLookup | None
    ) -> WorkerResult | None:
        """Make the result of a reply; None if a verdict was asked for and the photo goes on."""
        content = reply.content
        if content is None:
            row = self._send_verdict(request, reply, known)
            if row is None:
                return None
            return WorkerResult(row, reply.state, reply.read_seconds, copied=True)
        if isinstance(content, bytes) and self._task.plan:
            labels, outputs = self._task.labels, self._task.outputs
            row = unpack_checked_row(request.location, content, labels, outputs)
            return WorkerResult(row, reply.state, reply.read_seconds, reply.seconds, text=content)
        if isinstance(content, SharedPixels) and self._pixels:
            photo = self._read_photo(request.location, content, self._pixels)
            return WorkerResult(photo, reply.state, reply.read_seconds, reply.seconds)
        if isinstance(content, Failure):
            return WorkerResult(content, reply.state, reply.read_seconds, reply.seconds)
        raise InvalidReply("it is not what was asked for")

    def _send_verdict(
        self, request: WorkerRequest, reply: WorkerReply, known: KnownRowLookup | None
    ) -> Row | None:
        state = reply.state
        if known is None or not request.may_be_known or self._has_verdict:
            raise InvalidReply("a verdict is asked for that is not needed")
        assert state is not None
        started = time.perf_counter()
        row = known(request.location, state)
        self._verdict_seconds = time.perf_counter() - started
        self._has_verdict = True
        self._send(VERDICT_LABEL if row is None else VERDICT_SKIP)
        return row

    def _read_photo(self, path: Location, picture: SharedPixels, shared: BinaryIO) -> Photo:
        # Read and not mapped: a file that the other side has cut short kills who has mapped it.
        shape = (picture.rows, picture.columns, 3)
        data = os.pread(shared.fileno(), picture.rows * picture.columns * 3, 0)
        if len(data) < picture.rows * picture.columns * 3:
            raise InvalidReply(f"{len(data)} bytes of {shape}")
        # Here, as a run on the CPU gets no pixels.
        from PIL import Image

        image = Image.frombytes("RGB", (picture.columns, picture.rows), data)
        return Photo(path, image, picture.width, picture.height, picture.salvaged)

    def _explain_loss(self) -> Exception:
        if not self.is_ready:
            return self._explain_failed_start()
        try:
            code = self._process.wait(_EXIT_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            return WorkerLost(Reason.CRASHED, "its worker hung up")
        if code == -signal.SIGALRM:
            return self._make_timeout()
        return WorkerLost(Reason.CRASHED, f"its worker {describe_exit(code)}")

    def _explain_failed_start(self) -> Exception:
        try:
            return make_start_error(f"it {describe_exit(self._process.wait(EXIT_TIMEOUT_SECONDS))}")
        except subprocess.TimeoutExpired:
            return make_start_error("it hung up")

    def _make_timeout(self) -> WorkerLost:
        limit = duration_text(self._task.limits.decode_timeout)
        return WorkerLost(Reason.TIMEOUT, f"not read and decoded within --decode-timeout {limit}")


class CappedClock:
    """Seconds that pass for a run's workers, of which no more than ``most`` pass at a time.

    So a run that is stopped and goes on, as by Ctrl-Z, takes its photos in hand no more than that.
    """

    def __init__(self, most: float) -> None:
        self.now = 0.0
        self._most = most
        self._last = time.monotonic()

    def tick(self) -> None:
        """Let pass what has passed since the last time."""
        last, self._last = self._last, time.monotonic()
        self.now += min(self._last - last, self._most)
