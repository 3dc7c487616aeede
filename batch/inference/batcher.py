"""Dynamic batching: inputs of many threads share the batches that devices run."""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.parallel import make_thread_error

Array = npt.NDArray[Any]
# Shape of an input or output without its first dimension, the batch.
Shape = tuple[int, ...]

# Runs chunks [n, ...] as one batch; each output is [sum of n, ...].
RunBatch = Callable[[Sequence[Array]], list[Array]]

# Seconds that an input waits for others to share its batch. A partly filled batch costs as much as
# a full one, and decoding a photo takes longer than this.
MAX_WAIT_SECONDS = 0.002


class DynamicBatcher:
    """Collects inputs of many threads in one queue; one thread per device runs them in batches.

    ``run`` blocks until its outputs are ready. Only inputs of the same shape and type share a
    batch, and sharing changes no output. The threads end with ``close``, or when the batcher is
    garbage collected.

    Args:
        devices: one function per device.
        batch: maximum number of rows in a batch.
        longest_wait: seconds that an input waits for others.
    """

    def __init__(
        self, devices: Sequence[RunBatch], batch: int, longest_wait: float = MAX_WAIT_SECONDS
    ) -> None:
        self._batch = batch
        self._queue = _BatchQueue(batch, longest_wait)
        threads = [
            threading.Thread(
                # Not a method: it would keep this object alive as long as its threads.
                target=_run_batches,
                args=(self._queue, device),
                name=f"device {number}",
                # At exit, Python waits for other threads before it runs any finalizer.
                daemon=True,
            )
            for number, device in enumerate(devices)
        ]
        for thread in threads:
            try:
                thread.start()
            except RuntimeError as error:
                raise make_thread_error(error) from error
        self.close = weakref.finalize(self, _close, self._queue, threads)

    def run(self, inputs: Array) -> list[Array]:
        """Run inputs [n, ...] and return all outputs, each [n, ...].

        Raises:
            RuntimeError: the batcher is closed.
            Exception: the batch failed; every caller that shared it gets the same exception.
        """
        starts = range(0, max(len(inputs), 1), self._batch)
        chunks = [_Chunk(inputs[at : at + self._batch]) for at in starts]
        for chunk in chunks:
            self._queue.put(chunk)
        results = [chunk.result.result() for chunk in chunks]
        if len(results) == 1:
            return results[0]
        return [np.concatenate(outputs) for outputs in zip(*results, strict=True)]


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Inputs of one caller, at most a batch, and the future of their outputs."""

    inputs: Array
    result: Future[list[Array]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class _BatchQueue:
    """Waiting chunks by shape and type; batches leave in the order of their oldest chunk."""

    def __init__(self, batch: int, longest_wait: float) -> None:
        self._batch, self._longest_wait = batch, longest_wait
        self._changed = threading.Condition()
        self._waiting: dict[tuple[Shape, np.dtype[Any]], deque[_Chunk]] = {}
        self._closed = False

    def put(self, chunk: _Chunk) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            key = chunk.inputs.shape[1:], chunk.inputs.dtype
            chunks = self._waiting.setdefault(key, deque())
            chunks.append(chunk)
            # A device waits for a first chunk or for a full batch: other chunks need not wake it.
            if len(chunks) == 1 or self._is_full(chunks):
                self._changed.notify()

    def take(self) -> list[_Chunk]:
        """Wait for a batch: a full one, or one whose oldest chunk has waited long enough.

        Returns:
            The chunks of the batch; an empty list if the queue is closed and empty.
        """
        with self._changed:
            while True:
                chunks = self._find_next()
                if chunks is None:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                patience = chunks[0].since + self._longest_wait - time.monotonic()
                if patience <= 0 or self._closed or self._is_full(chunks):
                    return self._take_batch(chunks)
                self._changed.wait(patience)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _find_next(self) -> deque[_Chunk] | None:
        """Find the chunks of a full batch, else those that include the oldest chunk."""
        groups = [chunks for chunks in self._waiting.values() if chunks]
        return min(
            groups, key=lambda chunks: (not self._is_full(chunks), chunks[0].since), default=None
        )

    def _is_full(self, chunks: deque[_Chunk]) -> bool:
        return sum(len(chunk.inputs) for chunk in chunks) >= self._batch

    def _take_batch(self, chunks: deque[_Chunk]) -> list[_Chunk]:
        """Take as many chunks as fit into one batch, oldest first."""
        batch: list[_Chunk] = []
        rows = 0
        while chunks and (not batch or rows + len(chunks[0].inputs) <= self._batch):
            batch.append(chunks.popleft())
            rows += len(batch[-1].inputs)
        if any(self._waiting.values()):
            self._changed.notify()  # wake another device for the rest
        return batch


def _run_batches(queue: _BatchQueue, run: RunBatch) -> None:
    """Run batches until the queue is closed and empty; errors go to the callers."""
    while batch := queue.take():
        try:
            outputs = run([chunk.inputs for chunk in batch])
            ends = np.cumsum([len(chunk.inputs) for chunk in batch])[:-1]
            results = zip(*(np.split(output, ends) for output in outputs), strict=True)
            for chunk, result in zip(batch, results, strict=True):
                chunk.result.set_result(list(result))
        except Exception as error:
            for chunk in batch:
                if not chunk.result.done():
                    chunk.result.set_exception(error)


def _close(queue: _BatchQueue, threads: Sequence[threading.Thread]) -> None:
    queue.close()
    # If the last reference is dropped on one of these threads, it can't wait for itself.
    if threading.current_thread() not in threads:
        for thread in threads:
            thread.join()
