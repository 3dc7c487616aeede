"""The archive process: reads archives on request; ``archive_reader.py`` is the run's side.

``zipfile``, ``tarfile`` and ``zlib`` trust the sizes in an archive, so a crafted one may use
unlimited memory and time. The process limits both, and only that archive fails. It is not a
sandbox: those libraries are memory-safe, and the process may open files and stores.
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

# Memory besides what the process needs to start: enough for the index of a zip with some hundred
# thousand members, or for a store's client.
MAX_MEMORY_BYTES = 512 * 1024**2
MAX_WRITTEN_BYTES = 16 * 1024**2  # of a file: clients of stores may save a token
# Added to the run's time-out: the process ends itself only if the run is gone.
GRACE_SECONDS = 5
# Limits of a frame that lists members, so that it is below MAX_FRAME_BYTES.
MEMBERS_PER_FRAME = 512
NAME_BYTES_PER_FRAME = 1024**2
_BUSY_INTERVAL_SECONDS = 1.0
_MAX_REQUEST_BYTES = 128 * 1024  # two paths


def main(connection: int, _: int, timeout: int, *__: int) -> None:
    """Serve requests until the run hangs up.

    Args:
        connection: the descriptor of a socket.
        timeout: the run's time-out in seconds.
    """
    limit_process(MAX_MEMORY_BYTES, MAX_WRITTEN_BYTES)
    # A lost connection means that the run is gone.
    with socket.socket(fileno=connection) as client, suppress(ConnectionError):
        client.sendall(READY)
        _Server(client, timeout + GRACE_SECONDS).serve()


class _Server:
    """Replies to requests, and keeps the last archive open."""

    def __init__(self, client: socket.socket, seconds: int) -> None:
        self._client = client
        self._seconds = seconds
        self._path: str | None = None
        self._archive: Archive | None = None
        self._last_busy = 0.0
        self._unsent = b""  # the last frame, sent with the next one to save a system call

    def serve(self) -> None:
        """Serve requests one by one, until the run hangs up."""
        while request := self._receive_request():
            signal.alarm(self._seconds)
            problem = self._handle(request)
            end = (
                pack_frame(FrameKind.PROBLEM, encode(problem))
                if problem
                else pack_frame(FrameKind.END)
            )
            self._send(self._unsent + end)
            self._unsent = b""
            signal.alarm(0)
            if problem and problem.process_ends:
                return

    def _receive_request(self) -> ArchiveRequest | None:
        data = self._client.recv(_MAX_REQUEST_BYTES)  # usually the whole request
        while (
            data
            and len(data)
            < FRAME_HEADER.size + FRAME_HEADER.unpack_from(data.ljust(FRAME_HEADER.size, b"\0"))[1]
        ):
            part = self._client.recv(_MAX_REQUEST_BYTES)
            data = data + part if part else b""
        return decode_request(data[FRAME_HEADER.size :]) if data else None

    def _send(self, data: bytes) -> None:
        signal.alarm(0)  # the run may read slowly
        try:
            self._client.sendall(data)
        except ConnectionError:  # the run is gone; not an error of a store
            raise SystemExit from None
        signal.alarm(self._seconds)

    def _report_busy(self) -> None:
        if monotonic() - self._last_busy > _BUSY_INTERVAL_SECONDS:
            self._last_busy = monotonic()
            self._send(pack_frame(FrameKind.BUSY))

    def _handle(self, request: ArchiveRequest) -> ArchiveProblem | None:
        """Send a reply except for its last frame; return the problem, if any."""
        try:
            self._send_reply(request)
        except ArchiveError as error:
            return ArchiveProblem(error.reason, str(error)[:MAX_TEXT_CHARS])
        except MemoryError:
            detail = "not enough memory to read it in its archive"
            return ArchiveProblem(Reason.TOO_LARGE, detail, process_ends=True)
        except BatchLabelError as error:
            problem, remedy = error.problem[:MAX_TEXT_CHARS], error.remedy[:MAX_TEXT_CHARS]
            return ArchiveProblem(Reason.UNREADABLE, problem, remedy=remedy)
        except NotRegularFile as error:
            return ArchiveProblem(Reason.NOT_A_FILE, error_text(error))
        except Exception as error:  # the stores' exceptions share no base class
            return ArchiveProblem(
                classify_read_error(error),
                error_text(error)[:MAX_TEXT_CHARS],
                is_transient=is_transient(error),
            )
        return None

    def _send_reply(self, request: ArchiveRequest) -> None:
        is_listing = request.kind is RequestKind.LIST
        archive = self._open(hide_secrets(decode_name(request.path)), again=is_listing)
        if is_listing:
            for members in _batch_members(archive.members(self._report_busy)):
                self._send(pack_frame(FrameKind.MEMBERS, encode(members)))
            return
        member = archive.find(decode_name(request.name))
        if request.kind is RequestKind.FIND:
            self._send(pack_frame(FrameKind.MEMBERS, encode([_to_record(member)])))
            return
        if member.detail:
            raise ArchiveError(member.detail, member.reason)
        for data in archive.read(member, request.max_bytes):
            if self._unsent:
                self._send(self._unsent)
            self._unsent = pack_frame(FrameKind.DATA, data)

    def _open(self, path: str, again: bool) -> Archive:
        if self._archive is None or self._path != path or again:
            if self._archive is not None:
                self._archive.close()
            self._archive = None
            self._archive = open_archive(path, self._report_busy)
            self._path = path
        return self._archive


def _batch_members(members: Iterator[Member]) -> Iterator[list[MemberRecord]]:
    """Group members into frames; those before the damage of an archive come before its error."""
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
    detail = member.detail if name == member.name else "its name is too long"
    return MemberRecord(
        encode_name(name), member.size, detail[:MAX_TEXT_CHARS], member.reason, member.is_skipped
    )
