"""What a process runs that reads archives: see ``archive_reader.py`` for the run's side.

``zipfile``, ``tarfile`` and ``zlib`` believe what an archive says of itself, and so take any memory
and time. Here both are limited, and an archive that takes more costs itself and not the run. This
is no sandbox: those libraries are memory-safe, so that the process may open files and stores.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic

from batch.discovery.archive import Archive, ArchiveError, Member, open_archive
from batch.discovery.archive_protocol import (
    FRAME_HEADER,
    MAX_TEXT_CHARS,
    READY,
    ArchiveProblem,
    ArchiveRequest,
    FrameKind,
    MemberRecord,
    RequestKind,
    decode_name,
    decode_request,
    encode,
    encode_name,
    pack_frame,
)
from batch.errors import BatchLabelError
from batch.files.regular_file import NotRegularFile
from batch.found import shorten_path
from batch.location import hide_secrets
from batch.os_errors import classify_read_error
from batch.records import Reason
from batch.stores.requests import is_transient
from batch.stores.store import error_text
from batch.workers.process import limit_process

# Bytes that an archive may take, besides what the process takes to start: the index of a zip with
# some hundred thousand members, or what a store's client holds.
MAX_MEMORY_BYTES = 512 * 1024**2
MAX_WRITTEN_BYTES = 16 * 1024**2  # bytes that are written: clients of stores may keep a token
# Seconds after which it ends by itself: later than the run, if there is still one, ends it.
GRACE_SECONDS = 5
# Members that are told at a time, and the bytes of their names: a frame holds as many.
MEMBERS_PER_FRAME = 512
NAME_BYTES_PER_FRAME = 1024**2
_BUSY_INTERVAL_SECONDS = 1.0  # seconds
_MAX_REQUEST_BYTES = 128 * 1024  # bytes: two paths


def main(connection: int, _: int, timeout: int, *__: int) -> None:
    """Answer questions until nobody is left to ask; ``connection`` is a socket's descriptor."""
    limit_process(MAX_MEMORY_BYTES, MAX_WRITTEN_BYTES)
    # The run may be gone, and then nobody needs the answer.
    with socket.socket(fileno=connection) as client, suppress(ConnectionError):
        client.sendall(READY)
        _Server(client, timeout + GRACE_SECONDS).serve()


class _Server:
    """Answers questions about archives, and keeps the last one open."""

    def __init__(self, client: socket.socket, seconds: int) -> None:
        self._client = client
        self._seconds = seconds
        self._path: str | None = None
        self._archive: Archive | None = None
        self._told = 0.0
        self._waiting = b""  # a frame that goes with the next one, as each costs a system call

    def serve(self) -> None:
        """Answer one question after the other, until the other side hangs up."""
        while ask := self._receive_request():
            signal.alarm(self._seconds)
            problem = self._handle(ask)
            end = (
                pack_frame(FrameKind.PROBLEM, encode(problem))
                if problem
                else pack_frame(FrameKind.END)
            )
            self._send(self._waiting + end)
            self._waiting = b""
            signal.alarm(0)
            if problem and problem.process_ends:
                return

    def _receive_request(self) -> ArchiveRequest | None:
        data = self._client.recv(_MAX_REQUEST_BYTES)  # mostly all of it
        while (
            data
            and len(data)
            < FRAME_HEADER.size + FRAME_HEADER.unpack_from(data.ljust(FRAME_HEADER.size, b"\0"))[1]
        ):
            part = self._client.recv(_MAX_REQUEST_BYTES)
            data = data + part if part else b""
        return decode_request(data[FRAME_HEADER.size :]) if data else None

    def _send(self, data: bytes) -> None:
        # The run may take its time, as it has photos to label.
        signal.alarm(0)
        try:
            self._client.sendall(data)
        except ConnectionError:  # unlike a store's own
            raise SystemExit from None
        signal.alarm(self._seconds)

    def _report_busy(self) -> None:
        if monotonic() - self._told > _BUSY_INTERVAL_SECONDS:
            self._told = monotonic()
            self._send(pack_frame(FrameKind.BUSY))

    def _handle(self, ask: ArchiveRequest) -> ArchiveProblem | None:
        """Answer a question, or say what keeps from it."""
        try:
            self._send_reply(ask)
        except ArchiveError as error:
            return ArchiveProblem(error.reason, str(error)[:MAX_TEXT_CHARS])
        except MemoryError:
            detail = "not enough memory to read it in its archive"
            return ArchiveProblem(Reason.TOO_LARGE, detail, process_ends=True)
        except BatchLabelError as error:
            words = (error.problem[:MAX_TEXT_CHARS], error.remedy[:MAX_TEXT_CHARS])
            return ArchiveProblem(Reason.UNREADABLE, words[0], remedy=words[1])
        except NotRegularFile as error:
            return ArchiveProblem(Reason.NOT_A_FILE, error_text(error))
        except Exception as error:  # stores raise what they like
            return ArchiveProblem(
                classify_read_error(error),
                error_text(error)[:MAX_TEXT_CHARS],
                is_transient=is_transient(error),
            )
        return None

    def _send_reply(self, ask: ArchiveRequest) -> None:
        archive = self._open(
            hide_secrets(decode_name(ask.path)), again=ask.task is RequestKind.LIST
        )
        if ask.task is RequestKind.LIST:
            for members in _batch_members(archive.members(self._report_busy)):
                self._send(pack_frame(FrameKind.MEMBERS, encode(members)))
            return
        member = archive.find(decode_name(ask.name))
        if ask.task is RequestKind.FIND:
            self._send(pack_frame(FrameKind.MEMBERS, encode([_to_record(member)])))
            return
        if member.why:
            raise ArchiveError(member.why, member.reason)
        for data in archive.read(member, ask.max_bytes):
            if self._waiting:
                self._send(self._waiting)
            self._waiting = pack_frame(FrameKind.DATA, data)

    def _open(self, path: str, again: bool) -> Archive:
        if self._archive is None or self._path != path or again:
            if self._archive is not None:
                self._archive.close()
            self._archive = None
            self._archive = open_archive(path, self._report_busy)
            self._path = path
        return self._archive


def _batch_members(members: Iterator[Member]) -> Iterator[list[MemberRecord]]:
    """Give members some at a time; those before a damage come before it is raised."""
    batch: list[MemberRecord] = []
    names = 0
    try:
        for member in members:
            batch.append(_to_record(member))
            names += len(batch[-1].name)
            if len(batch) == MEMBERS_PER_FRAME or names > NAME_BYTES_PER_FRAME:
                yield batch
                batch, names = [], 0
    except ArchiveError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _to_record(member: Member) -> MemberRecord:
    name = shorten_path(member.name)
    why = member.why if name == member.name else "its name is too long"
    return MemberRecord(
        encode_name(name), member.size, why[:MAX_TEXT_CHARS], member.reason, member.skipped
    )
