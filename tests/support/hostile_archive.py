"""A program in place of the one that reads archives: it does what the archive's name says."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import PurePath

from batch.discovery import archive_child
from batch.discovery.archive import Archive, open_archive
from batch.discovery.archive_protocol import (
    FRAME_HEADER,
    MAX_FRAME_BYTES,
    FrameKind,
    MemberRecord,
    encode,
    encode_name,
    pack_frame,
)
from batch.records import Reason


def _eat() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(64 * 1024**2))


def main(connection: int, same: int, *limits: int) -> None:
    """Serve as the real program does, but for archives that are called like a deed."""

    def say(frame: bytes) -> Callable[[], object]:
        return lambda: socket.socket(fileno=os.dup(connection)).sendall(frame)

    many = [MemberRecord(encode_name("a.jpg"), 1, "", Reason.CORRUPT)] * 2
    deeds: dict[str, Callable[[], object]] = {
        "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "exit": lambda: os._exit(3),
        "hang": lambda: time.sleep(600),
        "eat": _eat,
        "long": say(FRAME_HEADER.pack(FrameKind.DATA, MAX_FRAME_BYTES + 1)),
        "odd": say(pack_frame(FrameKind.REQUEST)),
        "unknown": say(b"\xff" * FRAME_HEADER.size),
        "junk": say(pack_frame(FrameKind.MEMBERS, b"\xc1")),
        "negative": say(pack_frame(FrameKind.MEMBERS, encode([(b"a.jpg", -1, "")]))),
        "huge": say(pack_frame(FrameKind.MEMBERS, encode([(b"a.jpg", 2**63, "")]))),
        "two": say(pack_frame(FrameKind.MEMBERS, encode(many))),
        "more": say(pack_frame(FrameKind.DATA, b"x" * 1000)),
        "senseless": say(pack_frame(FrameKind.PROBLEM, encode(("bored", "x")))),
    }

    def open_or_do(path: str, tick: Callable[[], None]) -> Archive:
        deed = deeds.get(PurePath(path).stem)
        if deed:
            deed()
        return open_archive(path, tick)

    archive_child.open_archive = open_or_do  # type: ignore[assignment, attr-defined]
    archive_child.main(connection, same, *limits)
