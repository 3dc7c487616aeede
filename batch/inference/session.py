"""Models opened on a device that was proved to work."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from batch.errors import ProviderError
from batch.inference.devices import Array, DeviceModel, DynamicBatcher, Shape
from batch.inference.placement import add_default_device
from batch.inference.providers import (
    PROVIDER_NAMES,
    PROVIDER_REMEDIES,
    describe_ort_error,
    open_ort_session,
    ort,
)
from batch.options import DEFAULT_BATCH_SIZE, Device, Provider

__all__ = ["Array", "Session", "open_session"]


@dataclass(frozen=True)
class Session:
    """An open model, safe to share between threads; ``device`` is where it runs.

    On devices ``batcher`` runs it, at its fastest for inputs of ``shapes``.
    """

    inference: ort.InferenceSession
    device: Device
    shapes: tuple[Shape, ...] = ()
    batcher: DynamicBatcher | None = None

    @property
    def provider(self) -> Provider:
        """What runs the model."""
        return self.device.provider

    def run(self, inputs: Array) -> list[Array]:
        """Run the model on inputs [n, ...] and return all its outputs.

        Raises:
            ProviderError: a device has failed, which no photo is to blame for.
        """
        if self.batcher is not None:
            try:
                return self.batcher.run(inputs)
            except Exception as error:  # of ONNX Runtime's making
                raise ProviderError(
                    f"{self.provider.value} has failed at a batch ({describe_ort_error(error)})",
                    "run the same command again, or use --provider cpu; what is done is kept",
                ) from error
        outputs: list[Array] = self.inference.run(None, {self._input_name: inputs})
        return outputs

    @functools.cached_property
    def _input_name(self) -> str:
        name: str = self.inference.get_inputs()[0].name
        return name

    def choose_shape(self, shape: Shape) -> Shape:
        """Give the shape that an input, without its first dimension, is to be padded to.

        The smallest of the session's shapes that has room for it; its own where there is none.
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
    """Open a model on exactly one provider and run it on each of the warm-ups.

    ``device`` may be a provider alone; that of CUDA and TensorRT is their first device. On devices
    inputs are gathered into batches of ``batch``, and the warm-ups' shapes are those made ready.

    ONNX Runtime falls back to the CPU without a word when a provider does not load, and
    moves single nodes there; both are refused, so that the provider on record is the one
    that ran.

    Raises:
        ProviderError: the provider is not in this build, does not load, or fails to run.
    """
    device = add_default_device(device)
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
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ProviderError(
            f"the model does not run on {provider.value} ({describe_ort_error(error)})",
            PROVIDER_REMEDIES[provider],
        ) from error
    return session


def _open_on_devices(
    graph: bytes, device: Device, warm_ups: Sequence[Array], batch: int
) -> Session:
    models = [DeviceModel(graph, device, number, batch) for number in device.devices]
    for model in models:
        for warm_up in warm_ups:
            model.run([warm_up[:batch]])
    first = models[0]
    gathering = DynamicBatcher([model.run for model in models], batch)
    return Session(first.inference, device, first.shapes, gathering)
