"""A model on one device, run on full batches of a few fixed shapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort

from batch.inference.batcher import Array, Shape
from batch.inference.providers import (
    check_provider_loads,
    check_provider_used,
    open_ort_session,
)
from batch.options import Device, Provider


class DeviceModel:
    """A model on one device; for one thread at a time.

    Each input shape has an ONNX Runtime session of its own, in which every dimension is fixed:
    shapes are not computed at run time, cuDNN searches for its algorithms once and not whenever
    two shapes alternate, and TensorRT builds one engine. The session is opened when the shape is
    first used.

    Args:
        graph: an ONNX file's bytes.
        device: the provider and its options.
        device_id: number of the device that this object uses.
        batch: rows of a full batch.

    Raises:
        ProviderError: the provider does not load.
    """

    def __init__(self, graph: bytes, device: Device, device_id: int, batch: int) -> None:
        self.batch = batch
        self._graph, self._device, self._device_id = graph, device, device_id
        self.inference = check_provider_loads(graph, device, device_id)
        self._bound: dict[Shape, BoundModel] = {}

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The input shapes used so far."""
        return tuple(self._bound)

    def run(self, chunks: Sequence[Array]) -> list[Array]:
        """Run several callers' inputs as one batch.

        Args:
            chunks: each [n, ...], together at most ``batch`` rows; the rest of the batch is
                filled with zeros.

        Returns:
            All outputs, each [sum of n, ...].

        Raises:
            ProviderError: no part of the model runs on the provider.
            Exception: ONNX Runtime rejects the model or the inputs.
        """
        first = chunks[0]
        bound = self._bound.get(first.shape[1:])
        if bound is None:
            bound = self._bound[first.shape[1:]] = self._bind(first)
        return bound.run(chunks)

    def _bind(self, like: Array) -> BoundModel:
        shape = (self.batch, *like.shape[1:])
        dimensions = self.inference.get_inputs()[0].shape
        fixed = {
            name: size
            for name, size in zip(dimensions, shape, strict=False)
            if isinstance(name, str)
        }
        inference = open_ort_session(self._graph, self._device, self._device_id, fixed)
        if self._device.provider is Provider.TENSORRT:
            check_provider_used(inference, self._device.provider)
        memory = "cpu" if self._device.provider is Provider.CPU else "cuda"
        return BoundModel(inference, np.zeros(shape, like.dtype), memory, self._device_id)


class BoundModel:
    """An open model whose input and outputs are bound to memory on its device.

    Every run copies into the same device memory and allocates none. I/O binding:
    https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html

    Args:
        inference: a session whose dimensions are all fixed.
        staging: array [batch, ...] in which a batch is put together.
        memory: kind of the device's memory, ``cpu`` or ``cuda``.
        device_id: number of the device.
    """

    def __init__(
        self, inference: ort.InferenceSession, staging: Array, memory: str, device_id: int
    ) -> None:
        name = inference.get_inputs()[0].name
        self._inference, self._staging, self._used_rows = inference, staging, 0
        # The outputs' sizes are known only after a run.
        samples: list[Array] = inference.run(None, {name: staging})
        if any(len(sample) != len(staging) for sample in samples):
            raise ValueError("an output does not have one row per input")
        self._input = _allocate(staging, memory, device_id)
        self._outputs = [_allocate(sample, memory, device_id) for sample in samples]
        self._binding = inference.io_binding()
        self._binding.bind_ortvalue_input(name, self._input)
        for output, value in zip(inference.get_outputs(), self._outputs, strict=True):
            self._binding.bind_ortvalue_output(output.name, value)

    def run(self, chunks: Sequence[Array]) -> list[Array]:
        """Run one batch; see ``DeviceModel.run``."""
        end = 0
        for chunk in chunks:
            self._staging[end : end + len(chunk)] = chunk
            end += len(chunk)
        self._staging[end : self._used_rows] = 0
        self._used_rows = end
        self._input.update_inplace(self._staging)
        self._binding.synchronize_inputs()
        self._inference.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        # A copy, because the next batch overwrites the memory.
        return [output.numpy()[:end].copy() for output in self._outputs]


def _allocate(like: Array, memory: str, device_id: int) -> ort.OrtValue:
    # The CPU has one memory, with the number 0.
    number = 0 if memory == "cpu" else device_id
    return ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype, memory, number)
