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
    HEAD,
    MAX_WORDS,
    READY,
    Ask,
    Kind,
    Listed,
    Problem,
    Task,
    decode_ask,
    encode,
    name_bytes,
    name_text,
    pack,
)
from batch.errors import BatchLabelError
from batch.files.regular_file import NotRegular
from batch.found import cut_path
from batch.location import hide_secrets
from batch.records import Reason
from batch.stores.requests import is_passing
from batch.stores.store import said
from batch.workers.process import guard

# Bytes that an archive may take, besides what the process takes to start: the index of a zip with
# some hundred thousand members, or what a store's client holds.
MEMORY = 512 * 1024**2
LARGEST_FILE = 16 * 1024**2  # bytes that are written: clients of stores may keep a token
# Seconds after which it ends by itself: later than the run, if there is still one, ends it.
GRACE = 5
# Members that are told at a time, and the bytes of their names: a frame holds as many.
MEMBERS = 512
NAMES = 1024**2
_BUSY_EVERY = 1.0  # seconds
_MOST_OF_A_QUESTION = 128 * 1024  # bytes: two paths


def main(connection: int, _: int, timeout: int, *__: int) -> None:
    """Answer questions until nobody is left to ask; ``connection`` is a socket's descriptor."""
    guard(MEMORY, LARGEST_FILE)
    # The run may be gone, and then nobody needs the answer.
    with socket.socket(fileno=connection) as asker, suppress(ConnectionError):
        asker.sendall(READY)
        _Server(asker, timeout + GRACE).serve()


class _Server:
    """Answers questions about archives, and keeps the last one open."""

    def __init__(self, asker: socket.socket, seconds: int) -> None:
        self._asker = asker
        self._seconds = seconds
        self._path: str | None = None
        self._archive: Archive | None = None
        self._told = 0.0
        self._waiting = b""  # a frame that goes with the next one, as each costs a system call

    def serve(self) -> None:
        """Answer one question after the other, until the other side hangs up."""
        while ask := self._next():
            signal.alarm(self._seconds)
            problem = self._answer(ask)
            end = pack(Kind.PROBLEM, encode(problem)) if problem else pack(Kind.END)
            self._send(self._waiting + end)
            self._waiting = b""
            signal.alarm(0)
            if problem and problem.dying:
                return

    def _next(self) -> Ask | None:
        data = self._asker.recv(_MOST_OF_A_QUESTION)  # mostly all of it
        while data and len(data) < HEAD.size + HEAD.unpack_from(data.ljust(HEAD.size, b"\0"))[1]:
            part = self._asker.recv(_MOST_OF_A_QUESTION)
            data = data + part if part else b""
        return decode_ask(data[HEAD.size :]) if data else None

    def _send(self, data: bytes) -> None:
        # The run may take its time, as it has photos to label.
        signal.alarm(0)
        try:
            self._asker.sendall(data)
        except ConnectionError:  # unlike a store's own
            raise SystemExit from None
        signal.alarm(self._seconds)

    def _tick(self) -> None:
        if monotonic() - self._told > _BUSY_EVERY:
            self._told = monotonic()
            self._send(pack(Kind.BUSY))

    def _answer(self, ask: Ask) -> Problem | None:
        """Answer a question, or say what keeps from it."""
        try:
            self._tell(ask)
        except ArchiveError as error:
            return Problem(error.reason, str(error)[:MAX_WORDS])
        except MemoryError:
            detail = "not enough memory to read it in its archive"
            return Problem(Reason.TOO_LARGE, detail, dying=True)
        except BatchLabelError as error:
            words = (error.problem[:MAX_WORDS], error.remedy[:MAX_WORDS])
            return Problem(Reason.UNREADABLE, words[0], remedy=words[1])
        except NotRegular as error:
            return Problem(Reason.NOT_A_FILE, said(error))
        except Exception as error:  # stores raise what they like
            gone = isinstance(error, FileNotFoundError)
            reason = Reason.VANISHED if gone else Reason.UNREADABLE
            return Problem(reason, said(error)[:MAX_WORDS], passing=is_passing(error))
        return None

    def _tell(self, ask: Ask) -> None:
        archive = self._open(hide_secrets(name_text(ask.path)), again=ask.task is Task.LIST)
        if ask.task is Task.LIST:
            for members in _batches(archive.members(self._tick)):
                self._send(pack(Kind.MEMBERS, encode(members)))
            return
        member = archive.find(name_text(ask.name))
        if ask.task is Task.FIND:
            self._send(pack(Kind.MEMBERS, encode([_listed(member)])))
            return
        if member.why:
            raise ArchiveError(member.why, member.reason)
        for data in archive.read(member, ask.most):
            if self._waiting:
                self._send(self._waiting)
            self._waiting = pack(Kind.DATA, data)

    def _open(self, path: str, again: bool) -> Archive:
        if self._archive is None or self._path != path or again:
            if self._archive is not None:
                self._archive.close()
            self._archive = None
            self._archive = open_archive(path, self._tick)
            self._path = path
        return self._archive


def _batches(members: Iterator[Member]) -> Iterator[list[Listed]]:
    """Give members some at a time; those before a damage come before it is raised."""
    batch: list[Listed] = []
    names = 0
    try:
        for member in members:
            batch.append(_listed(member))
            names += len(batch[-1].name)
            if len(batch) == MEMBERS or names > NAMES:
                yield batch
                batch, names = [], 0
    except ArchiveError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def _listed(member: Member) -> Listed:
    name = cut_path(member.name)
    why = member.why if name == member.name else "its name is too long"
    return Listed(name_bytes(name), member.size, why[:MAX_WORDS], member.reason, member.left_out)
