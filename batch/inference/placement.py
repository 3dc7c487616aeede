"""Where a run's models are to be opened, found out before anything heavy is loaded."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from batch.errors import ProviderError
from batch.options import Place, Provider

if TYPE_CHECKING:
    from batch.inference.devices import Array

# NVIDIA's driver, without which there is no CUDA, whatever else is installed.
DRIVERS = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}


def choose_place(wanted: Place, graph: bytes, warm_up: Array) -> tuple[Place, str]:
    """Find out where ``auto`` runs and, where that is not CUDA, say why.

    ``graph`` (an ONNX file's bytes) is opened and run once on ``warm_up`` to know. A provider
    that was asked for by name is taken at its word: what is opened on it is proved then.
    """
    if wanted.provider is not Provider.AUTO:
        return with_devices(wanted), ""
    if not has_driver():
        return Place(Provider.CPU), "no NVIDIA driver is installed, so cuda can't run"
    # Here, as it loads ONNX Runtime, which a run on the CPU leaves to its workers.
    from batch.inference.session import open_session

    cuda = with_devices(replace(wanted, provider=Provider.CUDA))
    try:
        open_session(graph, cuda, warm_up, batch=len(warm_up))
    except ProviderError as error:
        return Place(Provider.CPU), error.problem
    return cuda, ""


def has_driver() -> bool:
    """Whether NVIDIA's driver can be loaded."""
    try:
        ctypes.CDLL(DRIVERS[sys.platform])
    except (KeyError, OSError):
        return False
    return True


def with_devices(place: Place | Provider) -> Place:
    """Give a place its first device where it needs one and names none."""
    if isinstance(place, Provider):
        place = Place(place)
    if place.provider is Provider.CPU or place.devices:
        return place
    return replace(place, devices=(0,))
