"""What a worker runs, a process of its own: see ``worker.py`` for the run's side.

It may be killed at any moment, by a file or by the run, so it owns nothing that lasts. Here it
hands over a photo's pixels; ``labelling_program.py`` goes on and hands over its label.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from batch.errors import BatchLabelError
from batch.location import Location, location_of
from batch.options import FileLimits
from batch.records import Failure, FileState, Reason, Stage
from batch.timings import DECODE, Timings
from batch.vision.decode import Upright, decode_upright
from batch.vision.read_file import read_with_state
from batch.workers.process import guard
from batch.workers.protocol import (
    GO_ON,
    PIXEL_BYTES,
    QUESTION,
    Label,
    Question,
    pack_refusal,
    pack_reply,
)

# What lossless WebP, the hungriest format, takes while it is decoded: 18 bytes, measured.
BYTES_A_PIXEL = 20
# For what does not grow with the picture: libraries that are loaded late, and their threads.
HEADROOM = 256 * 1024**2
# Bytes of a file that is decoded while the run looks whether it knows it: as quickly done as asked.
SMALL = 128 * 1024
# Seconds after which it ends by itself: later than the run, if there is still one, ends it.
GRACE = 5
# Makes of a decoded photo what an answer holds.
Handing = Callable[[Location, Upright], Upright | Label]


def main(connection: int, pixels: int, *limits: int) -> None:
    """Answer questions until nobody is left to ask.

    ``connection`` and ``pixels`` are descriptors, of a socket and of a file of
    ``PIXEL_BYTES``; ``limits`` are those of ``FileLimits``, in its order.
    """
    with mmap.mmap(pixels, PIXEL_BYTES) as shared:

        def hand_over(_: Location, photo: Upright) -> Upright:
            data = photo.image.tobytes()
            shared[: len(data)] = data
            return photo

        serve(connection, lambda: hand_over, FileLimits(*limits))


def serve(connection: int, opened: Callable[[], Handing], limits: FileLimits) -> None:
    """Get ready and say so, or what keeps it from that; then answer questions until the end.

    ``opened`` makes the function that turns a decoded photo into the rest of an answer.
    """
    with (
        socket.socket(fileno=connection) as asker,
        # The run may be gone, and then nobody needs the answer.
        suppress(BrokenPipeError, ConnectionResetError),
    ):
        try:
            handing = opened()
        except BatchLabelError as error:
            asker.sendall(pack_refusal(error))
            return
        guard(allowance(limits), PIXEL_BYTES)
        asker.sendall(b"\n")
        answer_all(asker, handing, limits)


def allowance(limits: FileLimits) -> int:
    """Bytes that decoding a file may take, besides what the process takes to start."""
    return limits.max_pixels * BYTES_A_PIXEL + limits.max_file_size + HEADROOM


def answer_all(asker: socket.socket, handing: Handing, limits: FileLimits) -> None:
    """Answer one question after the other, until the other side hangs up."""
    while head := _receive(asker, QUESTION.size):
        length, digest, may_be_known, salvage, in_detail = QUESTION.unpack(head)
        path = location_of(os.fsdecode(_receive(asker, length)))
        question = Question(path, None, digest, may_be_known, salvage, in_detail)
        signal.alarm(limits.decode_timeout + GRACE)
        try:
            _answer(asker, question, handing, limits)
        except MemoryError:
            _fail(asker, path, Reason.TOO_LARGE, "not enough memory to decode it")
        except ConnectionError:
            raise
        except Exception as error:  # one photo must not end a run, whatever is wrong with it
            _fail(asker, path, Reason.INTERNAL, f"{type(error).__name__}: {error}")
        signal.alarm(0)


def _receive(asker: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = asker.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data


def _receive_file(asker: socket.socket) -> tuple[bytes, FileState]:
    """Take the bytes of a file that the run has fetched."""
    _, descriptors, _, _ = socket.recv_fds(asker, 1, 1)
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)  # where the run, which wrote it, left off is the end
        data = file.read()
    return data, FileState(len(data))


def _fail(asker: socket.socket, path: Location, reason: Reason, detail: str) -> None:
    asker.sendall(pack_reply(Failure(path, Stage.DECODE, reason, detail), None))


def _answer(asker: socket.socket, question: Question, handing: Handing, limits: FileLimits) -> None:
    path, salvage, in_detail = question.location, question.salvage, question.in_detail
    started = time.perf_counter()
    if isinstance(path, Path):
        read = read_with_state(path, limits.max_file_size)
    else:
        read = _receive_file(asker)
    if isinstance(read, Failure):
        asker.sendall(pack_reply(read, None, time.perf_counter() - started))
        return
    data, state = read
    if question.digest:
        state = replace(state, digest=hashlib.sha256(data).digest())
    seconds = time.perf_counter() - started
    decoding = Timings()
    photo = None
    if question.may_be_known:
        asker.sendall(pack_reply(None, state, seconds))
        if len(data) <= SMALL:
            # What goes wrong goes wrong again below, once it is known that it matters.
            with suppress(Exception), decoding.of(DECODE):
                photo = decode_upright(path, data, limits.max_pixels, salvage, in_detail)
        # The photo is not to blame for what the run takes to find out whether it is known.
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        verdict = _receive(asker, 1)
        signal.setitimer(signal.ITIMER_REAL, left)
        if verdict != GO_ON:
            return
    if photo is None:
        with decoding.of(DECODE):
            photo = decode_upright(path, data, limits.max_pixels, salvage, in_detail)
    content = photo if isinstance(photo, Failure) else handing(path, photo)
    decode_seconds = decoding.seconds().get(DECODE, 0.0)
    asker.sendall(pack_reply(content, state, seconds, decode_seconds))
