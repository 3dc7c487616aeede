"""A model on one device, run on full batches of a few fixed shapes.

I/O binding: https://onnxruntime.ai/docs/performance/tune-performance/iobinding.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.inference.providers import open_inference, prove_loaded, prove_taken
from batch.inference.runtime import ort
from batch.options import Place, Provider

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

    def __init__(self, graph: bytes, place: Place, device: int, batch: int) -> None:
        self.batch = batch
        self._graph, self._place, self._device = graph, place, device
        self.inference = prove_loaded(graph, place, device)
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
        inference = open_inference(self._graph, self._place, self._device, fixed)
        if self._place.provider is Provider.TENSORRT:
            prove_taken(inference, self._place.provider)
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
        self._input = _memory(staging, kind, device)
        self._outputs = [_memory(sample, kind, device) for sample in samples]
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


def _memory(like: Array, kind: str, device: int) -> ort.OrtValue:
    # On the CPU there is one memory, whatever the devices of a place are called.
    number = 0 if kind == "cpu" else device
    return ort.OrtValue.ortvalue_from_shape_and_type(like.shape, like.dtype, kind, number)
