"""A model on one device, run on full batches of a few fixed shapes.

I/O binding: https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html
"""

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

from batch.inference.providers import (
    check_provider_loads,
    check_provider_used,
    open_ort_session,
    ort,
)
from batch.options import Device, Provider
from batch.parallel import make_thread_error

Array = npt.NDArray[Any]
# Of an input or output without its first dimension, the batch.
Shape = tuple[int, ...]


class DeviceModel:
    """A model (an ONNX file's bytes) on one device; for one thread at a time.

    Each shape has a session of its own, in which every dimension is fixed: nothing is computed
    from shapes, cuDNN searches once and not whenever two shapes take turns, and TensorRT builds
    one engine. A shape costs the opening of a session when it is first seen.

    Raises:
        ProviderError: the place's provider does not load.
    """

    def __init__(self, graph: bytes, place: Device, device: int, batch: int) -> None:
        self.batch = batch
        self._graph, self._place, self._device = graph, place, device
        self.inference = check_provider_loads(graph, place, device)
        self._bound: dict[Shape, BoundModel] = {}

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The inputs' shapes that were seen so far."""
        return tuple(self._bound)

    def run(self, parts: Sequence[Array]) -> list[Array]:
        """Run the inputs of several callers as one batch and return all outputs.

        Shapes: every part is [n, ...], all of them together at most ``batch`` long; what is
        missing to a full batch is zeros. Outputs are as long as the parts.

        Raises:
            ProviderError: no part of the model runs on the provider.
            Exception: ONNX Runtime refuses the model or the inputs.
        """
        first = parts[0]
        bound = self._bound.get(first.shape[1:])
        if bound is None:
            bound = self._bound[first.shape[1:]] = self._bind(first)
        return bound.run(parts)

    def _bind(self, like: Array) -> BoundModel:
        shape = (self.batch, *like.shape[1:])
        dimensions = self.inference.get_inputs()[0].shape
        fixed = {
            name: size
            for name, size in zip(dimensions, shape, strict=False)
            if isinstance(name, str)
        }
        inference = open_ort_session(self._graph, self._place, self._device, fixed)
        if self._place.provider is Provider.TENSORRT:
            check_provider_used(inference, self._place.provider)
        kind = "cpu" if self._place.provider is Provider.CPU else "cuda"
        return BoundModel(inference, np.zeros(shape, like.dtype), kind, self._device)


class BoundModel:
    """An open model whose input and outputs lie where it runs and are bound to it once.

    ``staging`` [batch, ...] is where a batch is put together; ``kind`` is the memory of the device,
    ``cpu`` or ``cuda``. A run copies into the same memory each time and allocates none there.
    """

    def __init__(
        self, inference: ort.InferenceSession, staging: Array, kind: str, device: int
    ) -> None:
        name = inference.get_inputs()[0].name
        self._inference, self._staging, self._used = inference, staging, 0
        # Only a run tells the outputs' sizes.
        samples: list[Array] = inference.run(None, {name: staging})
        if any(len(sample) != len(staging) for sample in samples):
            raise ValueError("an output does not have one row an input")
        self._input = _allocate(staging, kind, device)
        self._outputs = [_allocate(sample, kind, device) for sample in samples]
        self._binding = inference.io_binding()
        self._binding.bind_ortvalue_input(name, self._input)
        for output, memory in zip(inference.get_outputs(), self._outputs, strict=True):
            self._binding.bind_ortvalue_output(output.name, memory)

    def run(self, parts: Sequence[Array]) -> list[Array]:
        """Run one batch: see ``DeviceModel.run``."""
        end = 0
        for part in parts:
            self._staging[end : end + len(part)] = part
            end += len(part)
        self._staging[end : self._used] = 0
        self._used = end
        self._input.update_inplace(self._staging)
        self._binding.synchronize_inputs()
        self._inference.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        # A copy, for the memory is the next batch's.
        return [output.numpy()[:end].copy() for output in self._outputs]


def _allocate(like: Array, kind: str, device: int) -> ort.OrtValue:
    # On the CPU there is one memory, whatever the devices of a place are called.
    number = 0 if kind == "cpu" else device
    return ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype, kind, number)


# == Gathers the inputs of many threads into batches, which a device runs.

# Runs parts [n, ...] as one batch; outputs are [sum of n, ...].
RunBatch = Callable[[Sequence[Array]], list[Array]]

# Seconds that an input waits for others to share its batch. A batch costs the same however full
# it is, and decoding a photo takes longer than this.
MAX_WAIT_SECONDS = 0.002


class DynamicBatcher:
    """Threads that run what other threads hand in, one for each device, from one queue.

    ``run`` blocks until the answer is there. Inputs share a batch of at most ``batch`` rows only
    with others of their shape and type, and whom they share it with changes no answer. It ends
    with ``close``, or when nobody holds it any more.
    """

    def __init__(
        self, devices: Sequence[RunBatch], batch: int, longest_wait: float = MAX_WAIT_SECONDS
    ) -> None:
        self._batch = batch
        self._queue = _BatchQueue(batch, longest_wait)
        threads = [
            threading.Thread(
                # Not a method, which would hold this object for as long as its threads live.
                target=_run_batches,
                args=(self._queue, device),
                name=f"device {number}",
                # Python waits for other threads before it closes anything.
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
            RuntimeError: the gathering is closed.
            Exception: whatever the batch ended with, to each of those that shared it.
        """
        starts = range(0, max(len(inputs), 1), self._batch)
        parts = [_Chunk(inputs[at : at + self._batch]) for at in starts]
        for part in parts:
            self._queue.put(part)
        answers = [part.answer.result() for part in parts]
        if len(answers) == 1:
            return answers[0]
        return [np.concatenate(outputs) for outputs in zip(*answers, strict=True)]


@dataclass(frozen=True, eq=False)
class _Chunk:
    """At most a batch of one caller's inputs."""

    inputs: Array
    answer: Future[list[Array]] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class _BatchQueue:
    """What waits, by shape and type; batches leave it in the order of their oldest part."""

    def __init__(self, batch: int, longest_wait: float) -> None:
        self._batch, self._longest_wait = batch, longest_wait
        self._changed = threading.Condition()
        self._waiting: dict[tuple[tuple[int, ...], np.dtype[Any]], deque[_Chunk]] = {}
        self._closed = False

    def put(self, part: _Chunk) -> None:
        with self._changed:
            if self._closed:
                raise RuntimeError("the gathering is closed")
            parts = self._waiting.setdefault((part.inputs.shape[1:], part.inputs.dtype), deque())
            parts.append(part)
            # Nobody has a use for news in between: a device waits for a first part or a full batch.
            if len(parts) == 1 or self._is_full(parts):
                self._changed.notify()

    def take(self) -> list[_Chunk]:
        """Wait for a batch: a full one, or one whose oldest part has waited long enough.

        Empty once the queue is closed and nothing waits any more.
        """
        with self._changed:
            while True:
                parts = self._find_next()
                if parts is None:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                patience = parts[0].since + self._longest_wait - time.monotonic()
                if patience <= 0 or self._closed or self._is_full(parts):
                    return self._take_batch(parts)
                self._changed.wait(patience)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _find_next(self) -> deque[_Chunk] | None:
        """The parts of a full batch, or else those with the oldest one."""
        kinds = [parts for parts in self._waiting.values() if parts]
        return min(
            kinds, key=lambda parts: (not self._is_full(parts), parts[0].since), default=None
        )

    def _is_full(self, parts: deque[_Chunk]) -> bool:
        return sum(len(part.inputs) for part in parts) >= self._batch

    def _take_batch(self, parts: deque[_Chunk]) -> list[_Chunk]:
        """Take what fits into one batch, in the order in which it came."""
        batch: list[_Chunk] = []
        rows = 0
        while parts and (not batch or rows + len(parts[0].inputs) <= self._batch):
            batch.append(parts.popleft())
            rows += len(batch[-1].inputs)
        if any(self._waiting.values()):
            self._changed.notify()  # another device may look after the rest
        return batch


def _run_batches(queue: _BatchQueue, run: RunBatch) -> None:
    """Run batches until the queue is closed and empty; what goes wrong is its callers' affair."""
    while batch := queue.take():
        try:
            outputs = run([part.inputs for part in batch])
            ends = np.cumsum([len(part.inputs) for part in batch])[:-1]
            answers = zip(*(np.split(output, ends) for output in outputs), strict=True)
            for part, answer in zip(batch, answers, strict=True):
                part.answer.set_result(list(answer))
        except Exception as error:
            for part in batch:
                if not part.answer.done():
                    part.answer.set_exception(error)


def _close(queue: _BatchQueue, threads: Sequence[threading.Thread]) -> None:
    queue.close()
    # Where the last holder goes away on one of these threads, it can't wait for them.
    if threading.current_thread() not in threads:
        for thread in threads:
            thread.join()
