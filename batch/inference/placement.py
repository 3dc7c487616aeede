"""Choice of the device that runs a model, made before any heavy package is imported."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from batch.errors import ProviderError
from batch.options import Device, Provider

if TYPE_CHECKING:
    from batch.inference.batcher import Array

# NVIDIA's driver library, which CUDA needs.
DRIVER_LIBRARIES = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


def choose_device(wanted: Device, graph: bytes, warm_up: Array) -> tuple[Device, str]:
    """Choose the device of a run: for ``auto`` CUDA if it works, else the CPU.

    A provider given by name is returned unchecked: opening a model on it checks it.

    Args:
        wanted: what the options ask for.
        graph: an ONNX file's bytes; for ``auto`` it is opened and run once on CUDA.
        warm_up: the input of that run, [n, ...].

    Returns:
        The device, and the reason why ``auto`` does not use CUDA ("" otherwise).
    """
    if wanted.provider is not Provider.AUTO:
        return wanted.with_default_device(), ""
    if not has_nvidia_driver():
        return Device(Provider.CPU), "no NVIDIA driver is installed, so cuda can't run"
    # Imported late: it loads ONNX Runtime, which the main process of a run on the CPU never uses.
    from batch.inference.session import open_session

    cuda = replace(wanted, provider=Provider.CUDA).with_default_device()
    try:
        open_session(graph, cuda, warm_up, batch=len(warm_up))
    except ProviderError as error:
        return Device(Provider.CPU), error.problem
    return cuda, ""


def has_nvidia_driver() -> bool:
    """Return whether NVIDIA's driver library can be loaded."""
    try:
        ctypes.CDLL(DRIVER_LIBRARIES[sys.platform])
    except (KeyError, OSError):
        return False
    return True
