"""Hostile archive reader: misbehaves as the name of the archive says."""

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


def _exhaust_memory() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(64 * 1024**2))


def main(connection: int, same: int, *limits: int) -> None:
    """Run the real program, except for archives that are named after an action."""

    def send(frame: bytes) -> Callable[[], object]:
        return lambda: socket.socket(fileno=os.dup(connection)).sendall(frame)

    many = [MemberRecord(encode_name("a.jpg"), 1, "", Reason.CORRUPT)] * 2
    actions: dict[str, Callable[[], object]] = {
        "crash": lambda: os.kill(os.getpid(), signal.SIGSEGV),
        "exit": lambda: os._exit(3),
        "hang": lambda: time.sleep(600),
        "eat": _exhaust_memory,
        "long": send(FRAME_HEADER.pack(FrameKind.DATA, MAX_FRAME_BYTES + 1)),
        "odd": send(pack_frame(FrameKind.REQUEST)),
        "unknown": send(b"\xff" * FRAME_HEADER.size),
        "junk": send(pack_frame(FrameKind.MEMBERS, b"\xc1")),
        "negative": send(pack_frame(FrameKind.MEMBERS, encode([(b"a.jpg", -1, "")]))),
        "huge": send(pack_frame(FrameKind.MEMBERS, encode([(b"a.jpg", 2**63, "")]))),
        "two": send(pack_frame(FrameKind.MEMBERS, encode(many))),
        "more": send(pack_frame(FrameKind.DATA, b"x" * 1000)),
        "senseless": send(pack_frame(FrameKind.PROBLEM, encode(("bored", "x")))),
    }

    def open_or_act(path: str, tick: Callable[[], None]) -> Archive:
        action = actions.get(PurePath(path).stem)
        if action:
            action()
        return open_archive(path, tick)

    archive_child.open_archive = open_or_act  # type: ignore[assignment, attr-defined]
    archive_child.main(connection, same, *limits)
