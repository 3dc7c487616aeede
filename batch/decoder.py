"""One process that decodes photos, seen from the run: see ``decoder_program.py`` for its side."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import ExitStack, suppress
from pathlib import Path

import numpy as np

from batch.decoder_process import PROGRAM, end_of, not_started, shared_file, start
from batch.decoder_protocol import ANSWER, BadAnswer, Picture, pack_question, unpack_answer
from batch.file_limits import FileLimits
from batch.limits import duration_text
from batch.records import Decoded, Failure, Photo, Reason

START_TIMEOUT = 60.0  # seconds, for a machine that is busy with much else
DYING = 2.0  # seconds for a process to be gone; a disk that hangs can hold it longer
# The time limit is waited for in so many parts: where the whole run is stopped and goes on, as
# by Ctrl-Z, the time between takes one of them and not the time of the photo in hand.
PARTS = 50


class Lost(Exception):
    """The process is gone, and the photo that it had in hand is not decoded."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Decoder:
    """A process that reads and decodes one photo at a time.

    ``program`` is the module whose ``main`` it runs.

    Raises:
        DecoderError: it does not start.
    """

    def __init__(self, limits: FileLimits, program: str = PROGRAM) -> None:
        self._limits = limits
        with ExitStack() as undo:
            try:
                self._connection, theirs = map(undo.enter_context, socket.socketpair())
                self._pixels = undo.enter_context(shared_file())
                self._process = start(program, theirs.fileno(), self._pixels.fileno(), limits)
            except OSError as error:
                raise not_started(error.strerror or str(error)) from error
            theirs.close()
            undo.callback(self.kill)
            self._wait_until_ready()
            undo.pop_all()
        self._connection.settimeout(limits.decode_timeout / PARTS)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def decode(self, path: Path, digest: bool, salvage: bool) -> Decoded:
        """Have a file read and decoded, see ``Decoders.decode``.

        Raises:
            Lost: the process crashed, or was killed since its time was over.
        """
        try:
            self._connection.sendall(pack_question(os.fsencode(path), digest, salvage))
            answer = unpack_answer(path, self._received(ANSWER.size), digest)
            found = answer.content
            content = found if isinstance(found, Failure) else self._photo(path, found)
            return Decoded(content, answer.state, answer.read_seconds)
        except ConnectionError as error:
            raise self._lost() from error
        except TimeoutError as error:
            raise self._overdue() from error
        except BadAnswer as error:
            raise Lost(Reason.CRASHED, f"its decoder gave a senseless answer: {error}") from error

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
        self._pixels.close()

    def _wait_until_ready(self) -> None:
        """Take the process's first line: empty, or what keeps it from starting."""
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
            raise not_started(line.decode(errors="replace").strip())

    def _received(self, size: int) -> bytes:
        data = b""
        for _ in range(PARTS):
            with suppress(TimeoutError):
                part = self._connection.recv(size - len(data))
                if not part:
                    raise ConnectionResetError
                data += part
                if len(data) == size:
                    return data
        raise TimeoutError

    def _photo(self, path: Path, picture: Picture) -> Photo:
        # Read and not mapped: a file that the other side has cut short kills who has mapped it.
        shape = (picture.rows, picture.columns, 3)
        data = os.pread(self._pixels.fileno(), picture.rows * picture.columns * 3, 0)
        if len(data) < picture.rows * picture.columns * 3:
            raise BadAnswer(f"{len(data)} bytes of {shape}")
        pixels = np.frombuffer(data, np.uint8).reshape(shape)
        return Photo(path, pixels, picture.width, picture.height, picture.salvaged)

    def _lost(self) -> Lost:
        try:
            code = self._process.wait(DYING)
        except subprocess.TimeoutExpired:
            return Lost(Reason.CRASHED, "its decoder hung up")
        if code == -signal.SIGALRM:
            return self._overdue()
        return Lost(Reason.CRASHED, f"its decoder {end_of(code)}")

    def _overdue(self) -> Lost:
        limit = duration_text(self._limits.decode_timeout)
        return Lost(Reason.TIMEOUT, f"not read and decoded within --decode-timeout {limit}")
