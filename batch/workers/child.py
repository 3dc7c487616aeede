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
from batch.file_types import MAX_BYTES_PER_PIXEL
from batch.location import Location, parse_location
from batch.options import FileLimits
from batch.records import Failure, FileState, Reason, Stage
from batch.timings import DECODE, Timings
from batch.vision.decode import DecodedImage, decode_image
from batch.vision.read_file import read_file_with_state
from batch.workers.process import limit_process
from batch.workers.protocol import (
    MAX_SHARED_BYTES,
    REQUEST_HEADER,
    VERDICT_LABEL,
    TimedRow,
    WorkerRequest,
    pack_reply,
    pack_start_error,
)

# For what does not grow with the picture: libraries that are loaded late, and their threads.
HEADROOM_BYTES = 256 * 1024**2
# Bytes of a file that is decoded while the run looks whether it knows it: as quickly done as asked.
SMALL_FILE_BYTES = 128 * 1024
# Seconds after which it ends by itself: later than the run, if there is still one, ends it.
GRACE_SECONDS = 5
# Makes of a decoded photo what an answer holds.
PayloadBuilder = Callable[[Location, DecodedImage], DecodedImage | TimedRow]


def main(connection: int, pixels: int, *limits: int) -> None:
    """Answer questions until nobody is left to ask.

    ``connection`` and ``pixels`` are descriptors, of a socket and of a file of
    ``MAX_SHARED_BYTES``; ``limits`` are those of ``FileLimits``, in its order.
    """
    with mmap.mmap(pixels, MAX_SHARED_BYTES) as shared:

        def hand_over(_: Location, photo: DecodedImage) -> DecodedImage:
            data = photo.image.tobytes()
            shared[: len(data)] = data
            return photo

        serve(connection, lambda: hand_over, FileLimits(*limits))


def serve(connection: int, open_builder: Callable[[], PayloadBuilder], limits: FileLimits) -> None:
    """Get ready and say so, or what keeps it from that; then answer questions until the end.

    ``open_builder`` makes the function that turns a decoded photo into the rest of an answer.
    """
    with (
        socket.socket(fileno=connection) as run_socket,
        # The run may be gone, and then nobody needs the answer.
        suppress(BrokenPipeError, ConnectionResetError),
    ):
        try:
            build_payload = open_builder()
        except BatchLabelError as error:
            run_socket.sendall(pack_start_error(error))
            return
        limit_process(compute_memory_limit(limits), MAX_SHARED_BYTES)
        run_socket.sendall(b"\n")
        serve_requests(run_socket, build_payload, limits)


def compute_memory_limit(limits: FileLimits) -> int:
    """Bytes that decoding a file may take, besides what the process takes to start."""
    return limits.max_pixels * MAX_BYTES_PER_PIXEL + limits.max_file_size + HEADROOM_BYTES


def serve_requests(
    run_socket: socket.socket, build_payload: PayloadBuilder, limits: FileLimits
) -> None:
    """Answer one question after the other, until the other side hangs up."""
    while head := _receive_bytes(run_socket, REQUEST_HEADER.size):
        length, digest, may_be_known, salvage, in_detail = REQUEST_HEADER.unpack(head)
        path = parse_location(os.fsdecode(_receive_bytes(run_socket, length)))
        request = WorkerRequest(path, None, digest, may_be_known, salvage, in_detail)
        signal.alarm(limits.decode_timeout + GRACE_SECONDS)
        try:
            _serve_request(run_socket, request, build_payload, limits)
        except MemoryError:
            _send_failure(run_socket, path, Reason.TOO_LARGE, "not enough memory to decode it")
        except ConnectionError:
            raise
        except Exception as error:  # one photo must not end a run, whatever is wrong with it
            _send_failure(run_socket, path, Reason.INTERNAL, f"{type(error).__name__}: {error}")
        signal.alarm(0)


def _receive_bytes(run_socket: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = run_socket.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data


def _receive_file(run_socket: socket.socket) -> tuple[bytes, FileState]:
    """Take the bytes of a file that the run has fetched."""
    _, descriptors, _, _ = socket.recv_fds(run_socket, 1, 1)
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)  # where the run, which wrote it, left off is the end
        data = file.read()
    return data, FileState(len(data))


def _send_failure(run_socket: socket.socket, path: Location, reason: Reason, detail: str) -> None:
    run_socket.sendall(pack_reply(Failure(path, Stage.DECODE, reason, detail), None))


def _serve_request(
    run_socket: socket.socket,
    request: WorkerRequest,
    build_payload: PayloadBuilder,
    limits: FileLimits,
) -> None:
    path, salvage, in_detail = request.location, request.salvage, request.in_detail
    started = time.perf_counter()
    if isinstance(path, Path):
        read = read_file_with_state(path, limits.max_file_size)
    else:
        read = _receive_file(run_socket)
    if isinstance(read, Failure):
        run_socket.sendall(pack_reply(read, None, time.perf_counter() - started))
        return
    data, state = read
    if request.digest:
        state = replace(state, digest=hashlib.sha256(data).digest())
    seconds = time.perf_counter() - started
    decoding = Timings()
    photo = None
    if request.may_be_known:
        run_socket.sendall(pack_reply(None, state, seconds))
        if len(data) <= SMALL_FILE_BYTES:
            # What goes wrong goes wrong again below, once it is known that it matters.
            with suppress(Exception), decoding.of(DECODE):
                photo = decode_image(path, data, limits.max_pixels, salvage, in_detail)
        # The photo is not to blame for what the run takes to find out whether it is known.
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        verdict = _receive_bytes(run_socket, 1)
        signal.setitimer(signal.ITIMER_REAL, left)
        if verdict != VERDICT_LABEL:
            return
    if photo is None:
        with decoding.of(DECODE):
            photo = decode_image(path, data, limits.max_pixels, salvage, in_detail)
    content = photo if isinstance(photo, Failure) else build_payload(path, photo)
    decode_seconds = decoding.seconds().get(DECODE, 0.0)
    run_socket.sendall(pack_reply(content, state, seconds, decode_seconds))
