"""A program in place of the one that reads archives: it does what the archive's name says."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import PurePath

from batch.discovery import archive_child as archive_program
from batch.discovery.archive import Archive, open_archive
from batch.discovery.archive_protocol import HEAD, MAX_FRAME, Kind, Listed, encode, name_bytes, pack
from batch.records import Reason


def _eat() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(64 * 1024**2))


def main(connection: int, same: int, *limits: int) -> None:
    """Serve as the real program does, but for archives that are called like a deed."""

    def say(frame: bytes) -> Callable[[], object]:
        return lambda: socket.socket(fileno=os.dup(connection)).sendall(frame)

    many = [Listed(name_bytes("a.jpg"), 1, "", Reason.CORRUPT)] * 2
    deeds: dict[str, Callable[[], object]] = {
        "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "exit": lambda: os._exit(3),
        "hang": lambda: time.sleep(600),
        "eat": _eat,
        "long": say(HEAD.pack(Kind.DATA, MAX_FRAME + 1)),
        "odd": say(pack(Kind.ASK)),
        "unknown": say(b"\xff" * HEAD.size),
        "junk": say(pack(Kind.MEMBERS, b"\xc1")),
        "negative": say(pack(Kind.MEMBERS, encode([(b"a.jpg", -1, "")]))),
        "huge": say(pack(Kind.MEMBERS, encode([(b"a.jpg", 2**63, "")]))),
        "two": say(pack(Kind.MEMBERS, encode(many))),
        "more": say(pack(Kind.DATA, b"x" * 1000)),
        "senseless": say(pack(Kind.PROBLEM, encode(("bored", "x")))),
    }

    def open_or_do(path: str, tick: Callable[[], None]) -> Archive:
        deed = deeds.get(PurePath(path).stem)
        if deed:
            deed()
        return open_archive(path, tick)

    archive_program.open_archive = open_or_do  # type: ignore[assignment, attr-defined]
    archive_program.main(connection, same, *limits)
