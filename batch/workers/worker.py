"""The run's side of one worker process: sends requests, checks replies, enforces the time limit.

``protocol.py`` describes the conversation, ``child.py`` is the process's side.
"""

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

from batch.limits import format_duration
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

# Returns the known row of a file with the same bytes (by SHA-256), for this path; None without one.
KnownRowLookup = Callable[[Location, FileState], Row | None]

START_TIMEOUT_SECONDS = 60.0  # enough for a busy machine
# Requests that a labelling worker holds, so that it never waits for the next one, even while the
# run commits its journal.
MAX_IN_FLIGHT = 4
_READ_BYTES = 1 << 18
_EXIT_WAIT_SECONDS = 0.5  # from a closed connection to the exit of its process
_STOP_CHECK_SECONDS = 0.5  # between checks for a stop while a process starts
# Reads in a row that find nothing although the socket is readable, as with out-of-band data.
_MAX_IDLE_READS = 100


class WorkerLost(Exception):
    """The worker process crashed, timed out or sent an invalid reply; its current photo fails."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class WorkerTask:
    """The program and limits of a worker.

    Attributes:
        limits: limits on a file's size, pixels and decoding time.
        program: the module with the worker's ``main``.
        plan: open file with a ``LabellingPlan``; None for a worker that only decodes.
        labels: the models' labels, if the worker labels.
        outputs: the labels, then the abstain outputs.
    """

    limits: FileLimits
    program: str = DECODING_PROGRAM
    plan: BinaryIO | None = None
    labels: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def in_flight(self) -> int:
        """Most requests that a worker holds: one if it returns pixels in its shared file."""
        return MAX_IN_FLIGHT if self.plan else 1


class NumberedRequest(NamedTuple):
    """A request and the number that its caller gave it."""

    number: int
    request: WorkerRequest


class Worker:
    """A process that reads and decodes photos, and labels them if its task has a plan.

    It replies to its requests in order. Times are seconds of a ``CappedClock``.

    Args:
        task: the program and limits of the worker.
        launched: a process of this task that was started early.

    Raises:
        WorkerError: the process can't be started.
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
        self._is_gone = False  # ``receive`` reports the loss after it has read all replies
        self._idle_reads = 0
        self.in_flight: deque[NumberedRequest] = deque()  # the current photo first
        self._received = bytearray()
        self._has_verdict = False  # whether the verdict on the current photo was sent
        self._since = 0.0  # when the current photo or the process was started
        self._started = self._verdict_seconds = 0.0  # the same by ``perf_counter``

    @property
    def pid(self) -> int:
        """The process ID."""
        return self._process.pid

    def fileno(self) -> int:
        """Return the descriptor of the socket, for selectors."""
        return self._connection.fileno()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def has_room(self, most: int) -> bool:
        """Whether the worker can take another request without holding more than ``most``.

        It can't while a verdict is due: it would read the request as the verdict.
        """
        if not self.is_ready or self._is_gone or len(self.in_flight) >= most:
            return False
        if not self.in_flight or not self.in_flight[-1].request.may_be_known:
            return True
        return len(self.in_flight) == 1 and self._has_verdict

    def send_request(self, numbered: NumberedRequest, now: float) -> bool:
        """Send a request.

        Returns:
            False if the process is gone: ``receive`` yields its last replies, then reports it.

        Raises:
            WorkerError: the photo's data can't be shared.
        """
        data = numbered.request.data
        try:
            self._send(pack_request(numbered.request))
            if data is not None:
                with create_shared_file() as file:
                    write_shared(file, data)
                    self._send(b"\0", file.fileno())
        except (ConnectionError, TimeoutError):
            self._is_gone = True
            return False
        except OSError as error:
            raise make_system_error("a photo can't be sent to a worker process", error) from error
        self.in_flight.append(numbered)
        if len(self.in_flight) == 1:
            self._begin_next(now)
        return True

    def drop_queued(self) -> None:
        """Forget all requests but the current one; their replies are not wanted."""
        while len(self.in_flight) > 1:
            self.in_flight.pop()

    def receive(
        self, find_known: KnownRowLookup | None, clock: CappedClock
    ) -> Iterator[tuple[NumberedRequest, WorkerResult]]:
        """Read what the process has sent, and yield the complete results.

        Call it when the socket is readable. The time of ``find_known`` does not count towards the
        photo's time limit.

        Raises:
            WorkerLost: the process crashed or sent an invalid reply; the current photo is the first
                of ``in_flight``.
            WorkerError, ModelError, ProviderError: the process did not start.
        """
        try:
            part = self._read()
        except BlockingIOError:
            self._idle_reads += 1
            if self._idle_reads > _MAX_IDLE_READS:
                raise WorkerLost(Reason.CRASHED, "its worker sent out-of-band data") from None
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
                    raise InvalidReply("a reply without a request")
                numbered = self.in_flight[0]
                parsed = unpack_reply(numbered.request, self._received, at)
                if parsed is None:
                    break
                reply, at = parsed
                result = self._handle_reply(numbered.request, reply, find_known)
                if result is None:
                    continue
                self.in_flight.popleft()
                self._begin_next(clock.now)
                self.has_replied = True
                yield numbered, result
        except (ConnectionError, TimeoutError) as error:
            raise self._explain_loss() from error
        except InvalidReply as error:
            raise WorkerLost(
                Reason.CRASHED, f"its worker sent an invalid reply: {error}"
            ) from error
        del self._received[:at]

    def check_timeout(self, now: float) -> None:
        """Check the time of the current photo, or of the start.

        Raises:
            WorkerLost: the photo takes longer than ``--decode-timeout``.
            WorkerError: the start takes longer than ``START_TIMEOUT_SECONDS``.
        """
        if not self.is_ready:
            if now - self._since > START_TIMEOUT_SECONDS:
                raise make_start_error(f"no greeting within {START_TIMEOUT_SECONDS:.0f} s")
        elif self.in_flight and now - self._since > self._task.limits.decode_timeout:
            raise self._make_timeout()

    def wait_until_ready(self, check: StopCheck = never_stop) -> None:
        """Wait for the greeting; ``check`` may raise an exception to stop waiting.

        Raises:
            WorkerError, ModelError, ProviderError: the process did not start.
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
        """Remove the current photo from ``in_flight`` and give it the failure of a lost process."""
        numbered = self.in_flight.popleft()
        seconds = time.perf_counter() - self._started - self._verdict_seconds
        failure = Failure(numbered.request.location, Stage.DECODE, lost.reason, lost.detail)
        return numbered, WorkerResult(failure, seconds={DECODE: seconds})

    def disconnect(self) -> None:
        """Tell the process to exit, without waiting for it."""
        self._connection.close()

    def end(self) -> None:
        """Tell an idle process to exit, and wait for it."""
        self.disconnect()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_TIMEOUT_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        # A process hung in disk I/O is reaped when `subprocess` starts another one.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_TIMEOUT_SECONDS)
        self._connection.close()
        if self._pixels:
            self._pixels.close()

    def _read(self) -> bytes:
        """Read from the socket; empty if the process is gone.

        Raises:
            BlockingIOError: the process has sent nothing yet.
        """
        try:
            return self._connection.recv(_READ_BYTES)
        except ConnectionError:
            return b""

    def _send(self, data: bytes, descriptor: int | None = None) -> None:
        """Send all of the data, with a descriptor if one is given.

        Raises:
            TimeoutError: the process does not read it within ``--decode-timeout``.
            OSError: sending failed.
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
        """Read the greeting: an empty line, or a line with the error."""
        line, end, rest = self._received.partition(b"\n")
        if not end:
            if len(line) > MAX_ROW_BYTES:
                raise make_start_error("its greeting is too long")
            return
        if line:
            why = bytes(line)
            raise unpack_start_error(why) or make_start_error(why.decode(errors="replace").strip())
        self._received, self.is_ready = rest, True

    def _handle_reply(
        self, request: WorkerRequest, reply: WorkerReply, find_known: KnownRowLookup | None
    ) -> WorkerResult | None:
        """Convert a reply to a result; None if it requested a verdict, which was to label."""
        content = reply.content
        if content is None:
            row = self._send_verdict(request, reply, find_known)
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
        raise InvalidReply("a row instead of pixels, or pixels instead of a row")

    def _send_verdict(
        self, request: WorkerRequest, reply: WorkerReply, find_known: KnownRowLookup | None
    ) -> Row | None:
        state = reply.state
        if find_known is None or not request.may_be_known or self._has_verdict:
            raise InvalidReply("it asks for a verdict that is not due")
        assert state is not None
        started = time.perf_counter()
        row = find_known(request.location, state)
        self._verdict_seconds = time.perf_counter() - started
        self._has_verdict = True
        self._send(VERDICT_LABEL if row is None else VERDICT_SKIP)
        return row

    def _read_photo(self, path: Location, picture: SharedPixels, shared: BinaryIO) -> Photo:
        # Read, not mapped: access to a mapped file that the worker has truncated raises SIGBUS.
        shape = (picture.rows, picture.columns, 3)
        data = os.pread(shared.fileno(), picture.rows * picture.columns * 3, 0)
        if len(data) < picture.rows * picture.columns * 3:
            raise InvalidReply(f"{len(data)} bytes of {shape}")
        from PIL import Image  # imported late: a run on the CPU reads no pixels

        image = Image.frombytes("RGB", (picture.columns, picture.rows), data)
        size = picture.width, picture.height
        return Photo(path, image, *size, picture.salvaged, picture.capture)

    def _explain_loss(self) -> Exception:
        if not self.is_ready:
            return self._explain_failed_start()
        try:
            code = self._process.wait(_EXIT_WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            return WorkerLost(Reason.CRASHED, "its worker closed the connection")
        if code == -signal.SIGALRM:
            return self._make_timeout()
        return WorkerLost(Reason.CRASHED, f"its worker {describe_exit(code)}")

    def _explain_failed_start(self) -> Exception:
        try:
            return make_start_error(f"it {describe_exit(self._process.wait(EXIT_TIMEOUT_SECONDS))}")
        except subprocess.TimeoutExpired:
            return make_start_error("it closed the connection")

    def _make_timeout(self) -> WorkerLost:
        limit = format_duration(self._task.limits.decode_timeout)
        return WorkerLost(Reason.TIMEOUT, f"not read and decoded within --decode-timeout {limit}")


class CappedClock:
    """A clock that advances by at most ``most`` seconds per tick.

    A pause of the run, such as Ctrl-Z, therefore does not use up time limits.
    """

    def __init__(self, most: float) -> None:
        self.now = 0.0
        self._most = most
        self._last = time.monotonic()

    def tick(self) -> None:
        """Advance by the time since the last tick."""
        last, self._last = self._last, time.monotonic()
        self.now += min(self._last - last, self._most)
