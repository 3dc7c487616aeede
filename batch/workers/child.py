"""The program of a worker process that reads and decodes photos.

``protocol.py`` describes the messages. The process may be killed at any moment, by a malicious file
or by the run, so it writes nothing to disk. ``labelling_child.py`` adds the models, in a module of
its own because it imports ONNX Runtime, which decoding does not need.
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

# Memory besides that of the photo: libraries that are loaded late, and their threads.
HEADROOM_BYTES = 256 * 1024**2
# A file up to this size is decoded while the run looks for a known row: both take equally long.
SMALL_FILE_BYTES = 128 * 1024
# Seconds beyond ``decode_timeout`` after which SIGALRM ends the process, if the run has not.
GRACE_SECONDS = 5
# Builds the reply payload from a decoded photo.
PayloadBuilder = Callable[[Location, DecodedImage], DecodedImage | TimedRow]


def main(connection: int, pixels: int, *limits: int) -> None:
    """Decode photos into shared memory until the run closes the connection.

    Args:
        connection: descriptor of the socket to the run.
        pixels: descriptor of the shared file for pixels, of ``MAX_SHARED_BYTES``.
        limits: the fields of ``FileLimits``, in order.
    """
    with mmap.mmap(pixels, MAX_SHARED_BYTES) as shared:

        def share_pixels(_: Location, photo: DecodedImage) -> DecodedImage:
            data = photo.image.tobytes()
            shared[: len(data)] = data
            return photo

        serve(connection, lambda: share_pixels, FileLimits(*limits))


def serve(connection: int, open_builder: Callable[[], PayloadBuilder], limits: FileLimits) -> None:
    """Send the greeting, then serve requests until the run closes the connection.

    Args:
        connection: descriptor of the socket to the run.
        open_builder: makes the payload builder. If it raises a ``BatchLabelError``, that is sent as
            the greeting.
        limits: limits on memory, file size and time.
    """
    with (
        socket.socket(fileno=connection) as run_socket,
        suppress(BrokenPipeError, ConnectionResetError),  # the run is gone
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
    """Return the bytes of memory that decoding may add to those of the started process."""
    return limits.max_pixels * MAX_BYTES_PER_PIXEL + limits.max_file_size + HEADROOM_BYTES


def serve_requests(
    run_socket: socket.socket, build_payload: PayloadBuilder, limits: FileLimits
) -> None:
    """Serve requests one by one until the run closes the connection."""
    while head := _receive_bytes(run_socket, REQUEST_HEADER.size):
        length, *flags = REQUEST_HEADER.unpack(head)
        path = parse_location(os.fsdecode(_receive_bytes(run_socket, length)))
        request = WorkerRequest(path, None, *flags)
        signal.alarm(limits.decode_timeout + GRACE_SECONDS)
        try:
            _serve_request(run_socket, request, build_payload, limits)
        except MemoryError:
            _send_failure(run_socket, path, Reason.TOO_LARGE, "not enough memory to decode it")
        except ConnectionError:
            raise
        except Exception as error:  # a photo must not end the run
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
    """Receive the bytes of a file that the run has fetched."""
    _, descriptors, _, _ = socket.recv_fds(run_socket, 1, 1)
    with os.fdopen(descriptors[0], "rb") as file:
        file.seek(0)  # the run shares the position, and has written to the end
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
            # Errors are ignored: if the photo is to be labelled, it is decoded again below.
            with suppress(Exception), decoding.of(DECODE):
                photo = decode_image(path, data, limits.max_pixels, salvage, in_detail)
        # Pause the alarm: waiting for the verdict does not count towards the photo's time limit.
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        verdict = _receive_bytes(run_socket, 1)
        signal.setitimer(signal.ITIMER_REAL, left)
        if verdict != VERDICT_LABEL:
            return
    if photo is None:
        with decoding.of(DECODE):
            photo = decode_image(path, data, limits.max_pixels, salvage, in_detail)
    if isinstance(photo, DecodedImage) and not request.with_location:
        capture = replace(photo.capture, latitude=None, longitude=None)
        photo = replace(photo, capture=capture)
    content = photo if isinstance(photo, Failure) else build_payload(path, photo)
    decode_seconds = decoding.seconds().get(DECODE, 0.0)
    run_socket.sendall(pack_reply(content, state, seconds, decode_seconds))
