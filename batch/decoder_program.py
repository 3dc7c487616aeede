"""What a process runs that decodes photos for a run: see ``decoder.py`` for the other side.

It may be killed at any moment, by a file or by the run, so it owns nothing that lasts.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import resource
import signal
import socket
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from batch.decode import Upright, decode_upright, read_with_state
from batch.decoder_protocol import PIXEL_BYTES, QUESTION, pack_answer
from batch.file_limits import FileLimits
from batch.records import Failure, Reason, Stage

# What lossless WebP, the hungriest format, takes while it is decoded: 18 bytes, measured.
BYTES_A_PIXEL = 20
# For what does not grow with the picture: libraries that are loaded late, and their threads.
HEADROOM = 256 * 1024**2
# Seconds after which it ends by itself: later than the run, if there is still one, ends it.
GRACE = 5
# Added to how gladly the kernel kills it when memory runs short, in thousandths of that memory.
OOM_SCORE = 500


def main(connection: int, pixels: int, *limits: int) -> None:
    """Answer questions until nobody is left to ask.

    ``connection`` and ``pixels`` are descriptors, of a socket and of a file of
    ``PIXEL_BYTES``; ``limits`` are those of ``FileLimits``, in its order.
    """
    with (
        socket.socket(fileno=connection) as asker,
        mmap.mmap(pixels, PIXEL_BYTES) as shared,
        # The run may be gone, and then nobody needs the answer.
        suppress(BrokenPipeError, ConnectionResetError),
    ):
        given = FileLimits(*limits)
        guard(given)
        asker.sendall(b"\n")
        answer_all(asker, shared, given)


def guard(limits: FileLimits) -> None:
    """Let this process die of a file before anything else does."""
    # Should the run have been started with the alarm blocked or ignored.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_FSIZE, PIXEL_BYTES)
    with suppress(OSError):  # there is no /proc on macOS, nor does it enforce the limit
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + allowance(limits))
    with suppress(OSError):
        score = Path("/proc/self/oom_score_adj")
        score.write_text(str(min(1000, int(score.read_text()) + OOM_SCORE)))


def allowance(limits: FileLimits) -> int:
    """Bytes that decoding a file may take, besides what the process takes to start."""
    return limits.max_pixels * BYTES_A_PIXEL + limits.max_file_size + HEADROOM


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(kind, (most, most))


def answer_all(asker: socket.socket, shared: mmap.mmap, limits: FileLimits) -> None:
    """Answer one question after the other, until the other side hangs up."""
    while question := _received(asker, QUESTION.size):
        length, digest, salvage = QUESTION.unpack(question)
        path = Path(os.fsdecode(_received(asker, length)))
        signal.alarm(limits.decode_timeout + GRACE)
        answer = _answer(path, digest, salvage, shared, limits)
        signal.alarm(0)
        asker.sendall(answer)


def _received(asker: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = asker.recv(size - len(data))
        if not part:
            return b""
        data += part
    return data


def _answer(
    path: Path, digest: bool, salvage: bool, shared: mmap.mmap, limits: FileLimits
) -> bytes:
    try:
        return _photo(path, digest, salvage, shared, limits)
    except MemoryError:
        detail = "not enough memory to decode it"
        return pack_answer(Failure(path, Stage.DECODE, Reason.TOO_LARGE, detail), None)
    except Exception as error:  # one photo must not end a night, whatever is wrong with it
        detail = f"{type(error).__name__}: {error}"
        return pack_answer(Failure(path, Stage.DECODE, Reason.INTERNAL, detail), None)


def _photo(path: Path, digest: bool, salvage: bool, shared: mmap.mmap, limits: FileLimits) -> bytes:
    started = time.perf_counter()
    read = read_with_state(path, limits.max_file_size)
    if isinstance(read, Failure):
        return pack_answer(read, None, time.perf_counter() - started)
    data, state = read
    if digest:
        state = replace(state, digest=hashlib.sha256(data).digest())
    seconds = time.perf_counter() - started
    content = decode_upright(path, data, limits.max_pixels, salvage)
    if isinstance(content, Upright):
        pixels = content.image.tobytes()
        shared[: len(pixels)] = pixels
    return pack_answer(content, state, seconds)
