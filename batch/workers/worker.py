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
from batch.records import Failure, FileState, Photo, Reason, Row, Stage, Worked
from batch.row_json import MAX_ROW
from batch.stopping import Check, never_stop
from batch.timings import DECODE
from batch.workers.process import (
    DYING,
    PROGRAM,
    Launched,
    end_of,
    launch,
    not_started,
    refused,
    shared_file,
    write_shared,
)
from batch.workers.protocol import (
    GO_ON,
    LEAVE_IT,
    PIXEL_BYTES,
    BadReply,
    Picture,
    Question,
    Reply,
    pack_question,
    unpack_refusal,
    unpack_reply,
    unpack_row_of,
)

# Gives a file the row of another one with the same bytes (their SHA-256), if there is one.
Known = Callable[[Location, FileState], Row | None]

START_TIMEOUT = 60.0  # seconds, for a machine that is busy with much else
# Photos that a worker has in hand and before it: it never waits for the next one, even while the
# run commits its journal.
IN_FLIGHT = 4
_READ_SIZE = 1 << 18  # bytes
_ENDING = 0.5  # seconds from the end of a connection to that of its process
_STOP_EVERY = 0.5  # seconds between two looks whether the start of a process is waited for
# Times that there is nothing to read although the system says so, as out-of-band data make it.
_MOST_IDLE_READS = 100


class Lost(Exception):
    """The process is gone or of no more use, and the photo that it had in hand is not decoded."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Task:
    """What a worker is to do: the module whose ``main`` it runs, and within which limits.

    Without a ``plan`` it hands over pixels. With one, an open file that the program reads, it hands
    over labels, which are out of ``labels``; ``outputs`` are these and the abstain outputs.
    """

    limits: FileLimits
    program: str = PROGRAM
    plan: BinaryIO | None = None
    labels: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()

    @property
    def in_flight(self) -> int:
        """The most photos in flight: one if their pixels take turns in one place."""
        return IN_FLIGHT if self.plan else 1


class Asked(NamedTuple):
    """A question and its number, which the caller chooses."""

    number: int
    question: Question


class Worker:
    """A process that reads, decodes and perhaps labels photos, one after the other.

    It is asked for several at a time, and replies in the same order. Times are those of a
    ``Clock``.

    Raises:
        WorkerError: the system refuses to start it.
    """

    def __init__(self, task: Task, launched: Launched | None = None) -> None:
        self._task = task
        with ExitStack() as undo:
            self._pixels = None if task.plan else undo.enter_context(shared_file(PIXEL_BYTES))
            file = task.plan or self._pixels
            assert file is not None
            if launched is None:
                launched = launch(task.program, file, task.limits)
                if task.plan:
                    launched.let_read()
            self._process, self._connection = launched.process, launched.connection
            undo.pop_all()
        self._connection.setblocking(False)
        self.is_ready = self.has_worked = False
        self._is_gone = False  # of which ``receive`` tells once all is read
        self._idle_reads = 0
        self.in_flight: deque[Asked] = deque()
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
        if not self.in_flight or not self.in_flight[-1].question.may_be_known:
            return True
        return len(self.in_flight) == 1 and self._has_verdict

    def ask(self, asked: Asked, now: float) -> bool:
        """Send a question; False if the process is gone, of which ``receive`` then tells.

        What it has said before is still to be read.

        Raises:
            WorkerError: the photo's data can't be handed over.
        """
        data = asked.question.data
        try:
            self._send(pack_question(asked.question))
            if data is not None:
                with shared_file() as file:
                    write_shared(file, data)
                    self._send(b"\0", file.fileno())
        except (ConnectionError, TimeoutError):
            self._is_gone = True
            return False
        except OSError as error:
            raise refused("a photo can't be handed to a worker process", error) from error
        self.in_flight.append(asked)
        if len(self.in_flight) == 1:
            self._begin_next(now)
        return True

    def leave_the_rest(self) -> None:
        """Forget the questions behind the photo in hand, whose replies nobody waits for."""
        while len(self.in_flight) > 1:
            self.in_flight.pop()

    def receive(self, known: Known | None, clock: Clock) -> Iterator[tuple[Asked, Worked]]:
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
            if self._idle_reads > _MOST_IDLE_READS:
                raise Lost(Reason.CRASHED, "its worker sent nothing again and again") from None
            return
        if not part:
            raise self._lost()
        self._idle_reads = 0
        self._received += part
        if not self.is_ready:
            self._check_greeting()
        at = 0
        try:
            while at < len(self._received):
                if not self.in_flight:
                    raise BadReply("one too many")
                asked = self.in_flight[0]
                parsed = unpack_reply(asked.question, self._received, at)
                if parsed is None:
                    break
                reply, at = parsed
                worked = self._work(asked.question, reply, known)
                if worked is None:
                    continue
                self.in_flight.popleft()
                self._begin_next(clock.now)
                self.has_worked = True
                yield asked, worked
        except (ConnectionError, TimeoutError) as error:
            raise self._lost() from error
        except BadReply as error:
            raise Lost(Reason.CRASHED, f"its worker sent an invalid reply: {error}") from error
        del self._received[:at]

    def check_time(self, now: float) -> None:
        """Make sure that neither the photo in hand nor the start takes too long.

        Raises:
            Lost: the photo does.
            WorkerError: the start does.
        """
        if not self.is_ready:
            if now - self._since > START_TIMEOUT:
                raise not_started(f"not within {START_TIMEOUT:.0f} s")
        elif self.in_flight and now - self._since > self._task.limits.decode_timeout:
            raise self._overdue()

    def wait_until_ready(self, check: Check = never_stop) -> None:
        """Wait for the process's greeting; ``check`` may end that by an exception.

        Raises:
            WorkerError, ModelError, ProviderError: it does not start.
        """
        clock = Clock(START_TIMEOUT)
        while not self.is_ready:
            check()
            clock.tick()
            self.check_time(clock.now)
            if not self._wait_for(selectors.EVENT_READ, _STOP_EVERY):
                continue
            part = self._read()
            if not part:
                raise self._not_started()
            self._received += part
            self._check_greeting()

    def fail_in_hand(self, lost: Lost) -> tuple[Asked, Worked]:
        """Give the photo in hand, the first of ``in_flight``, the failure of a lost process."""
        asked = self.in_flight.popleft()
        seconds = time.perf_counter() - self._started - self._verdict_seconds
        failure = Failure(asked.question.location, Stage.DECODE, lost.reason, lost.detail)
        return asked, Worked(failure, seconds={DECODE: seconds})

    def hang_up(self) -> None:
        """Tell the process to end, and do not wait for it."""
        self._connection.close()

    def end(self) -> None:
        """Wait for the end of a process that has nothing in hand."""
        self.hang_up()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(DYING)
        self.kill()

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        # One that a disk holds is buried by `subprocess` when another one starts.
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(DYING)
        self._connection.close()
        if self._pixels:
            self._pixels.close()

    def _read(self) -> bytes:
        """Read what the process has sent; empty if it is gone.

        Raises:
            BlockingIOError: nothing is there yet.
        """
        try:
            return self._connection.recv(_READ_SIZE)
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
            if len(line) > MAX_ROW:
                raise not_started("it sends a greeting without an end")
            return
        if line:
            why = bytes(line)
            raise unpack_refusal(why) or not_started(why.decode(errors="replace").strip())
        self._received, self.is_ready = rest, True

    def _work(self, question: Question, reply: Reply, known: Known | None) -> Worked | None:
        """Make the result of a reply; None if a verdict was asked for and the photo goes on."""
        content = reply.content
        if content is None:
            row = self._give_verdict(question, reply, known)
            if row is None:
                return None
            return Worked(row, reply.state, reply.read_seconds, copied=True)
        if isinstance(content, bytes) and self._task.plan:
            labels, outputs = self._task.labels, self._task.outputs
            row = unpack_row_of(question.location, content, labels, outputs)
            return Worked(row, reply.state, reply.read_seconds, reply.seconds, text=content)
        if isinstance(content, Picture) and self._pixels:
            photo = self._read_photo(question.location, content, self._pixels)
            return Worked(photo, reply.state, reply.read_seconds, reply.seconds)
        if isinstance(content, Failure):
            return Worked(content, reply.state, reply.read_seconds, reply.seconds)
        raise BadReply("it is not what was asked for")

    def _give_verdict(self, question: Question, reply: Reply, known: Known | None) -> Row | None:
        state = reply.state
        if known is None or not question.may_be_known or self._has_verdict:
            raise BadReply("a verdict is asked for that is not needed")
        assert state is not None
        started = time.perf_counter()
        row = known(question.location, state)
        self._verdict_seconds = time.perf_counter() - started
        self._has_verdict = True
        self._send(GO_ON if row is None else LEAVE_IT)
        return row

    def _read_photo(self, path: Location, picture: Picture, shared: BinaryIO) -> Photo:
        # Read and not mapped: a file that the other side has cut short kills who has mapped it.
        shape = (picture.rows, picture.columns, 3)
        data = os.pread(shared.fileno(), picture.rows * picture.columns * 3, 0)
        if len(data) < picture.rows * picture.columns * 3:
            raise BadReply(f"{len(data)} bytes of {shape}")
        # Here, as a run on the CPU gets no pixels.
        from PIL import Image

        image = Image.frombytes("RGB", (picture.columns, picture.rows), data)
        return Photo(path, image, picture.width, picture.height, picture.salvaged)

    def _lost(self) -> Exception:
        if not self.is_ready:
            return self._not_started()
        try:
            code = self._process.wait(_ENDING)
        except subprocess.TimeoutExpired:
            return Lost(Reason.CRASHED, "its worker hung up")
        if code == -signal.SIGALRM:
            return self._overdue()
        return Lost(Reason.CRASHED, f"its worker {end_of(code)}")

    def _not_started(self) -> Exception:
        try:
            return not_started(f"it {end_of(self._process.wait(DYING))}")
        except subprocess.TimeoutExpired:
            return not_started("it hung up")

    def _overdue(self) -> Lost:
        limit = duration_text(self._task.limits.decode_timeout)
        return Lost(Reason.TIMEOUT, f"not read and decoded within --decode-timeout {limit}")


class Clock:
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
