"""Where a run's models are to be opened, found out before anything heavy is loaded."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from batch.errors import ProviderError
from batch.options import Device, Provider

if TYPE_CHECKING:
    from batch.inference.devices import Array

# NVIDIA's driver, without which there is no CUDA, whatever else is installed.
DRIVER_LIBRARIES = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


def choose_device(wanted: Device, graph: bytes, warm_up: Array) -> tuple[Device, str]:
    """Find out where ``auto`` runs and, where that is not CUDA, say why.

    ``graph`` (an ONNX file's bytes) is opened and run once on ``warm_up`` to know. A provider
    that was asked for by name is taken at its word: what is opened on it is proved then.
    """
    if wanted.provider is not Provider.AUTO:
        return add_default_device(wanted), ""
    if not has_nvidia_driver():
        return Device(Provider.CPU), "no NVIDIA driver is installed, so cuda can't run"
    # Here, as it loads ONNX Runtime, which a run on the CPU leaves to its workers.
    from batch.inference.session import open_session

    cuda = add_default_device(replace(wanted, provider=Provider.CUDA))
    try:
        open_session(graph, cuda, warm_up, batch=len(warm_up))
    except ProviderError as error:
        return Device(Provider.CPU), error.problem
    return cuda, ""


def has_nvidia_driver() -> bool:
    """Whether NVIDIA's driver can be loaded."""
    try:
        ctypes.CDLL(DRIVER_LIBRARIES[sys.platform])
    except (KeyError, OSError):
        return False
    return True


def add_default_device(place: Device | Provider) -> Device:
    """Give a place its first device where it needs one and names none."""
    if isinstance(place, Provider):
        place = Device(place)
    if place.provider is Provider.CPU or place.devices:
        return place
    return replace(place, devices=(0,))
