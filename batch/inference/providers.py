"""ONNX Runtime, loaded with its reports turned off; everything else imports it from here."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort

from batch.errors import ProviderError
from batch.options import Device, Provider

# From release 1.29 on, ONNX Runtime reports to its makers over the network and keeps a database
# of it in the user's home. Photos and models are nobody's business. Once it is loaded is too late
# to say so, for an event has gone out by then.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


__all__ = ["ort"]


# == ONNX Runtime's execution providers: their names, options and libraries.

# ONNX Runtime's levels. Sessions log fatal errors only: what goes wrong reaches the user as
# an exception with a remedy.
LOG_WARNING, LOG_FATAL = 2, 4

PROVIDER_NAMES = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.TENSORRT: "TensorrtExecutionProvider",
}
PROVIDER_REMEDIES = {
    Provider.CPU: "try another model",
    Provider.CUDA: "install `batch-label[cuda]` and an NVIDIA driver for CUDA 13, or use "
    "--provider cpu",
    Provider.TENSORRT: "install `batch-label[tensorrt]` and an NVIDIA driver for CUDA 13, or use "
    "--provider cuda",
}
# The package that brings TensorRT, and those of its libraries that ONNX Runtime is linked to.
TENSORRT_PACKAGE = "tensorrt_libs"
TENSORRT_LIBRARIES = ("libnvinfer.so.*", "libnvonnxparser.so.*")
# ONNX Runtime's words for a failure may begin with the place in its source.
SOURCE_POSITION = re.compile(r"^\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])")


def open_ort_session(
    graph: bytes,
    place: Device,
    device: int = 0,
    fixed: Mapping[str, int] | None = None,
    strict: bool = True,
) -> ort.InferenceSession:
    """Open a model (an ONNX file's bytes) on one device of a place.

    ``fixed`` gives sizes to dimensions that the file leaves open. A strict session leaves no part
    of the graph to the CPU, if it is not the place.

    Raises:
        ProviderError: the folder for TensorRT's engines can't be made.
        Exception: ONNX Runtime can't open the model; its errors share no class of their own.
    """
    options = ort.SessionOptions()
    options.log_severity_level = LOG_FATAL
    # Photos are worked on side by side, so one thread a session call is the fastest use of
    # the cores, and sums come out the same however many there are.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if place.provider is not Provider.CPU:
        # Integer weights are then turned into floats as the file is opened: the integer kernels
        # are the CPU's alone, and elsewhere each conversion would be a node of its own.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if strict:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if place.provider is Provider.TENSORRT:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    fixed = fixed or {}
    for name, size in fixed.items():
        options.add_free_dimension_override_by_name(name, size)
    providers = _configure_providers(graph, place, device, fixed)
    return ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)


def check_provider_loads(graph: bytes, place: Device, device: int) -> ort.InferenceSession:
    """Open a model to see whether the place's provider loads at all on a device.

    Raises:
        ProviderError: it does not.
    """
    provider, why = place.provider, ""
    load_libraries(provider)
    with _silence_ort_log():
        try:
            # Without a folder for engines: none is built until a batch is run.
            probe = replace(place, engine_cache=None)
            inference = open_ort_session(graph, probe, device, strict=False)
            if inference.get_providers()[0] == PROVIDER_NAMES[provider]:
                return inference
        except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
            why = f" ({describe_ort_error(error)})"
    raise ProviderError(
        f"{provider.value} does not load on device {device}{why}", PROVIDER_REMEDIES[provider]
    )


def check_provider_used(inference: ort.InferenceSession, provider: Provider) -> None:
    """Make sure that a provider which may leave parts of a graph to another took one itself.

    Raises:
        ProviderError: it took none.
    """
    parts = inference.get_provider_graph_assignment_info()
    if not any(part.ep_name == PROVIDER_NAMES[provider] for part in parts):
        raise ProviderError(
            f"{provider.value} takes no part of the model", PROVIDER_REMEDIES[provider]
        )


def load_libraries(provider: Provider) -> None:
    """Let ONNX Runtime find what pip installed of CUDA, cuDNN and TensorRT, if anything."""
    if provider is Provider.CPU:
        return
    # It reports what it misses by printing, and stdout belongs to the report.
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    if provider is Provider.TENSORRT:
        spec = importlib.util.find_spec(TENSORRT_PACKAGE)
        for folder in (spec and spec.submodule_search_locations) or ():
            for pattern in TENSORRT_LIBRARIES:
                for library in Path(folder).glob(pattern):
                    # What can't be loaded shows when the provider is.
                    with contextlib.suppress(OSError):
                        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def describe_ort_error(error: Exception) -> str:
    """Give the first line of what ONNX Runtime says, or what kind of error it is."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SOURCE_POSITION.sub("", first).rstrip(".")


def _configure_providers(
    graph: bytes, place: Device, device: int, fixed: Mapping[str, int]
) -> list[tuple[str, dict[str, str]]]:
    if place.provider is Provider.CPU:
        return [(PROVIDER_NAMES[Provider.CPU], {})]
    cuda = {
        "device_id": str(device),
        "cudnn_conv_algo_search": place.search.value.upper(),
        # Shapes are fixed, so what the first batch takes is what all take: doubling the arena, as
        # is usual, would only keep memory from the other models.
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 keeps 10 bits of a float's 23, and answers are to be those of the CPU.
        "use_tf32": "0",
    }
    both = [(PROVIDER_NAMES[Provider.CUDA], cuda)]
    if place.provider is Provider.CUDA:
        return both
    # What TensorRT does not take, CUDA may; the CPU is shut out by the session.
    return [
        (PROVIDER_NAMES[Provider.TENSORRT], _configure_tensorrt(graph, place, device, fixed)),
        *both,
    ]


def _configure_tensorrt(
    graph: bytes, place: Device, device: int, fixed: Mapping[str, int]
) -> dict[str, str]:
    options = {"device_id": str(device)}
    if place.engine_cache is None:
        return options
    # ONNX Runtime calls an engine after the names in a graph, not its weights, so that a model
    # trained anew would be given the old one's: every file and shape has a folder of its own.
    key = hashlib.sha256(graph + repr(sorted(fixed.items())).encode())
    engines = place.engine_cache / key.hexdigest()[:32]
    try:
        engines.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProviderError(
            f"TensorRT's engines can't be kept in {place.engine_cache} ({error.strerror})",
            "name another folder with --engine-cache",
        ) from error
    return options | {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(place.engine_cache),
    }


@contextlib.contextmanager
def _silence_ort_log() -> Iterator[None]:
    """Keep ONNX Runtime from logging a page about each library that it misses."""
    ort.set_default_logger_severity(LOG_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(LOG_WARNING)
