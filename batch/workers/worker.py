"""One worker, a process, seen from the run: see ``program.py`` for its side."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image

from batch.decoding.file_limits import FileLimits
from batch.limits import duration_text
from batch.location import Location
from batch.records import Failure, Photo, Reason, Row, Worked
from batch.workers.process import (
    PROGRAM,
    end_of,
    not_started,
    refused,
    shared_file,
    start,
    write_shared,
)
from batch.workers.protocol import (
    ANSWER,
    GO_ON,
    LEAVE_IT,
    PIXEL_BYTES,
    BadAnswer,
    Picture,
    Said,
    pack_question,
    unpack_answer,
    unpack_refusal,
    unpack_row_of,
)

# Gives a file the row of another one with the same bytes (their SHA-256), if there is one.
Known = Callable[[Location, bytes], Row | None]

START_TIMEOUT = 60.0  # seconds, for a machine that is busy with much else
DYING = 2.0  # seconds for a process to be gone; a disk that hangs can hold it longer
# The time limit is waited for in so many parts: where the whole run is stopped and goes on, as
# by Ctrl-Z, the time between takes one of them and not the time of the photo in hand.
PARTS = 50
LEAST_PART = 1024  # bytes of a long answer that come at once, at least


class Lost(Exception):
    """The process is gone, and the photo that it had in hand is not decoded."""

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


class Worker:
    """A process that reads, decodes and perhaps labels one photo at a time.

    Raises:
        WorkerError: it does not start.
        ModelError, ProviderError: it starts, and its models do not work.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        with ExitStack() as undo:
            try:
                self._connection, theirs = map(undo.enter_context, socket.socketpair())
                self._pixels = None if task.plan else undo.enter_context(shared_file(PIXEL_BYTES))
                file = task.plan or self._pixels
                assert file is not None
                self._process = start(task.program, theirs.fileno(), file.fileno(), task.limits)
            except OSError as error:
                raise refused("a worker process does not start", error) from error
            theirs.close()
            undo.callback(self.kill)
            self._wait_until_ready()
            undo.pop_all()
        self._connection.settimeout(task.limits.decode_timeout / PARTS)
        self._parts = PARTS  # that are left to the photo in hand
        self.verdict_seconds = 0.0  # what the run took to say whether it knows that photo

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def work(
        self,
        path: Location,
        known: Known | None,
        salvage: bool,
        data: bytes | None = None,
        in_detail: bool = False,
    ) -> Worked:
        """Have a file read and decoded, and labelled if that is its task, see ``Workers.work``.

        The time limit is on what the process does. What ``known`` takes is not counted.

        Raises:
            Lost: the process crashed, or was killed since its time was over.
        """
        self._parts, self.verdict_seconds = PARTS, 0.0
        try:
            question = pack_question(os.fsencode(path), known is not None, salvage, in_detail)
            self._connection.sendall(question)
            if data is not None:
                self._hand_over(data)
            said = self._said(path, known is not None, in_detail)
            if said.content is None:
                row = self._known(path, said, known)
                self._connection.sendall(GO_ON if row is None else LEAVE_IT)
                if row is not None:
                    return Worked(row, said.state, said.read_seconds, copied=True)
                said = self._said(path, True, in_detail)
            return self._worked(path, said)
        except ConnectionError as error:
            raise self._lost() from error
        except TimeoutError as error:
            raise self._overdue() from error
        except BadAnswer as error:
            raise Lost(Reason.CRASHED, f"its worker gave a senseless answer: {error}") from error

    def _hand_over(self, data: bytes) -> None:
        with shared_file() as file:
            write_shared(file, data)
            socket.send_fds(self._connection, [b"\0"], [file.fileno()])

    def _said(self, path: Location, digest: bool, in_detail: bool) -> Said:
        return unpack_answer(path, self._received(ANSWER.size), digest, in_detail)

    def _known(self, path: Location, said: Said, known: Known | None) -> Row | None:
        if known is None or said.state is None or said.state.digest is None:
            raise BadAnswer("a verdict is asked for that nobody needs")
        started = time.perf_counter()
        row = known(path, said.state.digest)
        self.verdict_seconds = time.perf_counter() - started
        return row

    def _worked(self, path: Location, said: Said) -> Worked:
        if isinstance(said.content, Failure):
            return Worked(said.content, said.state, said.read_seconds, said.seconds)
        if isinstance(said.content, int) and self._task.plan:
            text = self._received(said.content)
            row = unpack_row_of(path, text, self._task.labels, self._task.outputs)
            return Worked(row, said.state, said.read_seconds, said.seconds)
        if isinstance(said.content, Picture) and self._pixels:
            photo = self._photo(path, said.content, self._pixels)
            return Worked(photo, said.state, said.read_seconds, said.seconds)
        raise BadAnswer("it is not what was asked for")

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

    def _wait_until_ready(self) -> None:
        """Take the process's first line: empty, or what keeps it from working."""
        self._connection.settimeout(START_TIMEOUT)
        line = b""
        try:
            while not line.endswith(b"\n"):
                part = self._connection.recv(1000)
                if not part:
                    raise not_started(f"it {end_of(self._process.wait(DYING))}")
                line += part
        except (TimeoutError, subprocess.TimeoutExpired) as error:
            raise not_started("it says nothing") from error
        if line != b"\n":
            raise unpack_refusal(line) or not_started(line.decode(errors="replace").strip())

    def _received(self, size: int) -> bytes:
        data = b""
        pieces = 1 + size // LEAST_PART
        while self._parts and pieces:
            try:
                part = self._connection.recv(size - len(data))
            except TimeoutError:
                self._parts -= 1
                continue
            if not part:
                raise ConnectionResetError
            data += part
            if len(data) == size:
                return data
            pieces -= 1
        raise TimeoutError

    def _photo(self, path: Location, picture: Picture, shared: BinaryIO) -> Photo:
        # Read and not mapped: a file that the other side has cut short kills who has mapped it.
        shape = (picture.rows, picture.columns, 3)
        data = os.pread(shared.fileno(), picture.rows * picture.columns * 3, 0)
        if len(data) < picture.rows * picture.columns * 3:
            raise BadAnswer(f"{len(data)} bytes of {shape}")
        image = Image.frombytes("RGB", (picture.columns, picture.rows), data)
        return Photo(path, image, picture.width, picture.height, picture.salvaged)

    def _lost(self) -> Lost:
        try:
            code = self._process.wait(DYING)
        except subprocess.TimeoutExpired:
            return Lost(Reason.CRASHED, "its worker hung up")
        if code == -signal.SIGALRM:
            return self._overdue()
        return Lost(Reason.CRASHED, f"its worker {end_of(code)}")

    def _overdue(self) -> Lost:
        limit = duration_text(self._task.limits.decode_timeout)
        return Lost(Reason.TIMEOUT, f"not read and decoded within --decode-timeout {limit}")
