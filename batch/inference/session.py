"""Sessions: models opened on a device, with the provider verified."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnxruntime as ort

from batch.errors import ProviderError
from batch.inference.batcher import Array, DynamicBatcher, Shape
from batch.inference.device_model import DeviceModel
from batch.inference.providers import (
    PROVIDER_NAMES,
    PROVIDER_REMEDIES,
    describe_ort_error,
    open_ort_session,
)
from batch.options import DEFAULT_BATCH_SIZE, Device, Provider


@dataclass(frozen=True)
class Session:
    """An open model; safe to share between threads.

    Attributes:
        inference: the ONNX Runtime session.
        device: where the model really runs.
        shapes: on devices, the input shapes that are set up; others have to be set up first.
        batcher: on devices, runs the model; None on the CPU.
    """

    inference: ort.InferenceSession
    device: Device
    shapes: tuple[Shape, ...] = ()
    batcher: DynamicBatcher | None = None

    @property
    def provider(self) -> Provider:
        """The provider that runs the model."""
        return self.device.provider

    def run(self, inputs: Array) -> list[Array]:
        """Run the model on inputs [n, ...] and return all its outputs.

        Raises:
            ProviderError: a device failed, which is not the photo's fault.
        """
        if self.batcher is not None:
            try:
                return self.batcher.run(inputs)
            except Exception as error:  # ONNX Runtime's exceptions have no common base class
                raise ProviderError(
                    f"{self.provider.value} failed on a batch ({describe_ort_error(error)})",
                    "run the same command again, or use --provider cpu; finished photos are kept",
                ) from error
        outputs: list[Array] = self.inference.run(None, {self._input_name: inputs})
        return outputs

    @functools.cached_property
    def _input_name(self) -> str:
        name: str = self.inference.get_inputs()[0].name
        return name

    def choose_shape(self, shape: Shape) -> Shape:
        """Choose the shape that an input is to be padded to.

        Returns:
            The smallest of ``shapes`` that the input fits into; ``shape`` itself if there is none.
        """
        fitting = [
            fixed
            for fixed in self.shapes
            if all(room >= size for room, size in zip(fixed, shape, strict=True))
        ]
        return min(fitting, key=math.prod, default=shape)


def open_session(
    graph: bytes, device: Device | Provider, *warm_ups: Array, batch: int = DEFAULT_BATCH_SIZE
) -> Session:
    """Open a model on exactly one provider and run it once on each warm-up input.

    ONNX Runtime silently falls back to the CPU if a provider does not load, and moves single
    nodes there. Both are refused, so that the recorded provider is the one that ran.

    Args:
        graph: an ONNX file's bytes.
        device: a provider alone stands for its first device.
        warm_ups: inputs [n, ...]; on devices, their shapes are made ready.
        batch: on devices, rows of a batch.

    Raises:
        ProviderError: the provider is not in this build, does not load, or fails to run.
    """
    if isinstance(device, Provider):
        device = Device(device)
    device = device.with_default_device()
    provider = device.provider
    if PROVIDER_NAMES[provider] not in ort.get_available_providers():
        raise ProviderError(
            f"{provider.value} is not in the installed ONNX Runtime", PROVIDER_REMEDIES[provider]
        )
    try:
        if device.devices:
            return _open_on_devices(graph, device, warm_ups, batch)
        session = Session(open_ort_session(graph, device), device)
        for warm_up in warm_ups:
            session.run(warm_up)
    except ProviderError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise ProviderError(
            f"the model does not run on {provider.value} ({describe_ort_error(error)})",
            PROVIDER_REMEDIES[provider],
        ) from error
    return session


def _open_on_devices(
    graph: bytes, device: Device, warm_ups: Sequence[Array], batch: int
) -> Session:
    models = [DeviceModel(graph, device, device_id, batch) for device_id in device.devices]
    for model in models:
        for warm_up in warm_ups:
            model.run([warm_up[:batch]])
    first = models[0]
    batcher = DynamicBatcher([model.run for model in models], batch)
    return Session(first.inference, device, first.shapes, batcher)
