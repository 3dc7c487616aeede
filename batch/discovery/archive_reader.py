"""Reads archives in separate processes, which a crafted archive may exhaust or crash.

``archive_child.py`` is what such a process runs.
"""

from __future__ import annotations

import signal
import socket
import struct
import subprocess
from collections import OrderedDict
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from threading import Condition, Lock

import msgspec

from batch.discovery.archive import ArchiveError, Member
from batch.discovery.archive_protocol import (
    FRAME_HEADER,
    MAX_FRAME_BYTES,
    READY,
    ArchiveRequest,
    FrameKind,
    RequestKind,
    decode_members,
    decode_name,
    decode_problem,
    encode,
    encode_name,
    pack_frame,
)
from batch.errors import UsageError, WorkerError
from batch.location import restore_secrets
from batch.options import FileLimits
from batch.path_text import printable_text
from batch.records import Reason
from batch.stopping import StopCheck, never_stop
from batch.stores.requests import pause
from batch.workers.process import (
    MAX_START_ATTEMPTS,
    RETRY_SECONDS,
    describe_exit,
    make_start_error,
    start_process,
)

ARCHIVE_PROGRAM = "batch.discovery.archive_child"
ARCHIVE_TIMEOUT_SECONDS = 120  # without a frame; longer than the time-outs of stores
START_TIMEOUT_SECONDS = 60
KILL_TIMEOUT_SECONDS = 2.0
MAX_OPEN_ARCHIVES = 4
# Waits are split into polls, between which `check` is called. So a run that was suspended by Ctrl-Z
# loses only one poll of a time-out.
_POLL_SECONDS = 0.1
_READ_AHEAD_BYTES = 1024**2
_REPLY_KINDS = {int(kind): kind for kind in FrameKind if kind is not FrameKind.REQUEST}


class TransientStoreError(OSError):
    """A store failed to serve an archive; a retry may help."""


class ArchiveReader:
    """Reads archives through one process, one request at a time.

    The process is started for the first request, and restarted for the request after a crash.

    Args:
        check: called during each wait; raises an exception to end it.
        program: the module that the process runs.
        timeout: seconds without a frame after which an archive fails.
    """

    def __init__(
        self,
        check: StopCheck = never_stop,
        program: str = ARCHIVE_PROGRAM,
        timeout: int = ARCHIVE_TIMEOUT_SECONDS,
    ) -> None:
        self.check = check
        self._program = program
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._buffer, self._at = b"", 0

    def members(self, path: str) -> Generator[Member, None, None]:
        """Iterate over the files in an archive, in the order of their bytes in it.

        Raises:
            ArchiveError: it can't be read, or is damaged after the members that were yielded.
            TransientStoreError: its store failed; a retry may help.
            BatchLabelError: the run can't go on.
        """
        request = ArchiveRequest(RequestKind.LIST, _encode_path(path))
        with closing(self._request(request)) as frames:
            for kind, content in frames:
                yield from self._parse_members(kind, content)

    def find(self, path: str, name: str) -> Member:
        """Find one member of an archive; raises as ``members`` does."""
        request = ArchiveRequest(RequestKind.FIND, _encode_path(path), encode_name(name))
        with closing(self._request(request)) as frames:
            found = [member for frame in frames for member in self._parse_members(*frame)]
        if len(found) != 1:
            raise self._make_invalid_reply_error(f"{len(found)} members instead of one")
        return found[0]

    def read(self, path: str, name: str, max_bytes: int) -> bytes:
        """Read at most ``max_bytes`` bytes of a member; raises as ``members`` does."""
        data = bytearray()
        names = _encode_path(path), encode_name(name)
        request = ArchiveRequest(RequestKind.READ, *names, max_bytes)
        with closing(self._request(request)) as frames:
            for kind, content in frames:
                if kind is not FrameKind.DATA or len(data) + len(content) > max_bytes:
                    raise self._make_invalid_reply_error("more bytes than requested")
                data += content
        return bytes(data)

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            self._process.kill()
            # If it hangs in a disk access, `subprocess` reaps it when the next one starts.
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(KILL_TIMEOUT_SECONDS)
            self._process = None
        self._buffer, self._at = b"", 0

    def _parse_members(self, kind: FrameKind, content: bytes) -> Iterator[Member]:
        if kind is not FrameKind.MEMBERS:
            raise self._make_invalid_reply_error(f"a frame of kind {kind}")
        try:
            listed = decode_members(content)
        except msgspec.MsgspecError as error:
            raise self._make_invalid_reply_error(str(error)) from error
        for member in listed:
            name = decode_name(member.name)
            yield Member(name, member.size, member.detail, member.reason, member.is_skipped)

    def _request(self, request: ArchiveRequest) -> Generator[tuple[FrameKind, bytes], None, None]:
        """Send a request and yield the frames of its reply; end the process if it is incomplete."""
        is_complete = False
        try:
            self._send(pack_frame(FrameKind.REQUEST, encode(request)))
            while True:
                kind, content = self._read_frame()
                if kind is FrameKind.END:
                    is_complete = True
                    return
                if kind is FrameKind.PROBLEM:
                    error, is_complete = self._to_error(content)
                    raise error
                if kind is not FrameKind.BUSY:
                    yield kind, content
        except TimeoutError as error:
            detail = f"nothing of its archive was read for {self._timeout} s"
            raise ArchiveError(detail, Reason.TIMEOUT) from error
        except ConnectionError as error:
            raise self._make_lost_error() from error
        finally:
            if not is_complete:
                self.close()

    def _to_error(self, content: bytes) -> tuple[Exception, bool]:
        """Return the exception for a problem frame, and whether the process can go on."""
        try:
            problem = decode_problem(content)
        except msgspec.MsgspecError as error:
            return self._make_invalid_reply_error(str(error)), False
        if problem.remedy:
            return UsageError(_to_line(problem.detail), _to_line(problem.remedy)), True
        if problem.is_transient:
            return TransientStoreError(_to_line(problem.detail)), True
        return ArchiveError(problem.detail, problem.reason), not problem.process_ends

    def _read_frame(self) -> tuple[FrameKind, bytes]:
        self._fill_buffer(FRAME_HEADER.size)
        kind, length = FRAME_HEADER.unpack_from(self._buffer, self._at)
        if kind not in _REPLY_KINDS:
            raise self._make_invalid_reply_error(f"a frame of kind {kind}")
        if length > MAX_FRAME_BYTES:
            raise self._make_invalid_reply_error(f"a frame of {length:,} bytes")
        self._fill_buffer(FRAME_HEADER.size + length)
        start = self._at + FRAME_HEADER.size
        self._at = start + length
        return _REPLY_KINDS[kind], self._buffer[start : self._at]

    def _fill_buffer(self, size: int, seconds: float | None = None) -> None:
        """Receive until ``size`` unread bytes are in the buffer."""
        polls = 0
        while len(self._buffer) - self._at < size:
            assert self._connection is not None
            try:
                data = self._connection.recv(_READ_AHEAD_BYTES)
            except BlockingIOError as error:  # no bytes within one poll
                polls += 1
                if polls * _POLL_SECONDS >= (seconds or self._timeout):
                    raise TimeoutError from error
            else:
                if not data:
                    raise ConnectionResetError
                self._buffer, self._at = self._buffer[self._at :] + data, 0
            self.check()

    def _send(self, request: bytes) -> None:
        """Send a request, to a new process if there is none or the last one has died."""
        if self._connection is not None:
            with suppress(ConnectionError):
                self._connection.sendall(request)
                return
            self.close()
        for attempt in range(1, MAX_START_ATTEMPTS + 1):
            try:
                connection = self._start()
                break
            except WorkerError:  # for example killed because the machine is out of memory
                self.close()
                if attempt == MAX_START_ATTEMPTS:
                    raise
                pause(RETRY_SECONDS, self.check)
        connection.sendall(request)

    def _start(self) -> socket.socket:
        try:
            ours, theirs = socket.socketpair()
            self._connection = ours
            with theirs:
                limits = FileLimits(decode_timeout=self._timeout)
                self._process = start_process(
                    self._program, theirs.fileno(), theirs.fileno(), limits
                )
        except OSError as error:
            raise make_start_error(error.strerror or str(error)) from error
        # The system's time-out, as Python's costs a second system call.
        poll = struct.pack("@ll", 0, int(_POLL_SECONDS * 1_000_000))
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, poll)
        try:
            self._fill_buffer(len(READY), START_TIMEOUT_SECONDS)
            while not self._buffer.endswith(b"\n"):
                self._fill_buffer(len(self._buffer) + 1, START_TIMEOUT_SECONDS)
        except TimeoutError as error:
            raise make_start_error(f"no reply within {START_TIMEOUT_SECONDS} s") from error
        except ConnectionError as error:
            raise make_start_error(f"it {self._describe_end()}") from error
        line, self._buffer = self._buffer, b""
        if line != READY:
            raise make_start_error(printable_text(line.decode(errors="replace").strip()))
        return ours

    def _make_lost_error(self) -> ArchiveError:
        end = self._describe_end()
        if self._process is not None and self._process.poll() == -signal.SIGALRM:
            return ArchiveError(f"not read within {self._timeout} s", Reason.TIMEOUT)
        return ArchiveError(f"the process that read its archive {end}", Reason.CRASHED)

    def _describe_end(self) -> str:
        if self._process is None:
            return "is gone"
        try:
            return describe_exit(self._process.wait(KILL_TIMEOUT_SECONDS))
        except subprocess.TimeoutExpired:
            return "closed its connection"

    def _make_invalid_reply_error(self, detail: str) -> ArchiveError:
        self.close()
        return ArchiveError(
            f"the process that read its archive sent an invalid reply: {detail}", Reason.CRASHED
        )


class ArchiveReaderPool:
    """Reads members of several archives in parallel; safe to share between threads.

    Each of the last ``MAX_OPEN_ARCHIVES`` archives is held open by a process of its own.
    """

    def __init__(self) -> None:
        self._changed = Condition()
        self._open: OrderedDict[str, _SharedReader] = OrderedDict()

    def read(self, path: str, name: str, max_bytes: int, check: StopCheck = never_stop) -> bytes:
        """Read a member as ``ArchiveReader.read`` does; ``check`` may end the wait."""
        shared = self._acquire_reader(path, check)
        try:
            while not shared.lock.acquire(timeout=_POLL_SECONDS):
                check()
            try:
                shared.reader.check = check
                return shared.reader.read(path, name, max_bytes)
            finally:
                shared.lock.release()
        finally:
            with self._changed:
                shared.users -= 1
                self._changed.notify_all()

    def _acquire_reader(self, path: str, check: StopCheck) -> _SharedReader:
        """Return the reader of an archive, or an idle one."""
        with self._changed:
            while (shared := self._open.pop(path, None) or self._find_idle()) is None:
                check()
                self._changed.wait(_POLL_SECONDS)
            self._open[path] = shared  # the most recent
            shared.users += 1
            return shared

    def _find_idle(self) -> _SharedReader | None:
        if len(self._open) < MAX_OPEN_ARCHIVES:
            return _SharedReader(ArchiveReader())
        path = next((path for path, shared in self._open.items() if not shared.users), None)
        return None if path is None else self._open.pop(path)

    def close(self) -> None:
        """End all processes."""
        with self._changed:
            while self._open:
                self._open.popitem()[1].reader.close()


class _SharedReader:
    """A reader, the number of threads that use it or wait for it, and their lock."""

    def __init__(self, reader: ArchiveReader) -> None:
        self.reader = reader
        self.lock = Lock()
        self.users = 0


def _encode_path(archive: str) -> bytes:
    return encode_name(restore_secrets(archive))  # the process does not know the secrets


def _to_line(text: str) -> str:
    return text if text.isprintable() else printable_text(text)
