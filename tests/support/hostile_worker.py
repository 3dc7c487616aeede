"""Hostile worker: misbehaves as image libraries may, as the first line of a file says."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from batch.options import MAX_SIDE
from batch.records import Failure
from batch.vision.decode import DecodedImage, decode_image
from batch.workers import child as worker_program
from batch.workers.protocol import MAX_SHARED_BYTES, REPLY_HEADER, ReplyKind

SLOW = 0.4  # seconds
GRACE_SECONDS = 1  # less than a real worker's, to make tests faster


def _segfault() -> None:
    ctypes.string_at(0)


def _spin() -> None:
    # Runs in C and never handles signals, like a decoder in an endless loop.
    ctypes.PyDLL(None).pause()


def _exhaust_memory() -> None:
    hoard = []
    while True:
        hoard.append(bytearray(64 * 1024**2))


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


ACTIONS: dict[bytes, Callable[[], object]] = {
    b"segfault": _segfault,
    b"abort": os.abort,
    b"kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    b"exit": lambda: os._exit(3),
    b"raise": lambda: 1 / 0,
    b"spin": _spin,
    b"stop": _stop,
    b"eat": _exhaust_memory,
    b"wait": lambda: time.sleep(SLOW),
}


def main(connection: int, pixels: int, *limits: int) -> None:
    def send_invalid_reply() -> None:
        os.write(connection, b"\xff" * REPLY_HEADER.size)

    def grow() -> None:
        os.pwrite(pixels, b"more", MAX_SHARED_BYTES)

    def cut_short() -> None:
        os.ftruncate(pixels, 0)
        whole = (MAX_SIDE, MAX_SIDE, MAX_SIDE, MAX_SIDE)
        read = (True, 1, 1, 1, 1, 1, bytes(32))
        os.write(connection, REPLY_HEADER.pack(ReplyKind.PICTURE, *read, *[0] * 5, *whole, 0))

    actions = ACTIONS | {b"talk": send_invalid_reply, b"grow": grow, b"cut": cut_short}

    def decode_or_act(
        path: Path, data: bytes, max_pixels: int, salvage: bool, in_detail: bool
    ) -> DecodedImage | Failure:
        word, _, rest = data.partition(b"\n")
        if word in actions:
            actions[word]()
        whole = rest if word in actions else data
        return decode_image(path, whole, max_pixels, salvage, in_detail)

    vars(worker_program).update(decode_image=decode_or_act, GRACE_SECONDS=GRACE_SECONDS)
    worker_program.main(connection, pixels, *limits)
