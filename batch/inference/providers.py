"""ONNX Runtime's execution providers: their names, options and libraries."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.util
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import onnxruntime as ort

from batch.errors import ProviderError
from batch.options import Device, Provider

# ONNX Runtime's log levels. Sessions log fatal errors only: other errors reach the user as an
# exception with a remedy.
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
# The package that brings TensorRT, and those of its libraries that ONNX Runtime links to.
TENSORRT_PACKAGE = "tensorrt_libs"
TENSORRT_LIBRARIES = ("libnvinfer.so.*", "libnvonnxparser.so.*")
# ONNX Runtime's error messages may begin with a position in its source code.
SOURCE_POSITION = re.compile(r"^\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])")


def open_ort_session(
    graph: bytes,
    device: Device,
    device_id: int = 0,
    fixed: Mapping[str, int] | None = None,
    strict: bool = True,
) -> ort.InferenceSession:
    """Open a model on one device.

    Args:
        graph: an ONNX file's bytes.
        device: the provider and its options.
        device_id: number of the device.
        fixed: sizes of dimensions that the file leaves open, by name.
        strict: do not let parts of the graph fall back to the CPU.

    Raises:
        ProviderError: the folder for TensorRT's engines can't be created.
        Exception: ONNX Runtime can't open the model; its exceptions have no common base class.
    """
    options = ort.SessionOptions()
    options.log_severity_level = LOG_FATAL
    # Photos run in parallel, so one thread per call uses the cores best, and sums do not depend
    # on the number of cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if device.provider is not Provider.CPU:
        # Converts integer weights to floats when the file is opened: only the CPU has integer
        # kernels, and elsewhere each conversion would be a node of its own.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if strict:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if device.provider is Provider.TENSORRT:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    fixed = fixed or {}
    for name, size in fixed.items():
        options.add_free_dimension_override_by_name(name, size)
    providers = _configure_providers(graph, device, device_id, fixed)
    return ort.InferenceSession(graph, options, providers=providers, enable_fallback=0)


def check_provider_loads(graph: bytes, device: Device, device_id: int) -> ort.InferenceSession:
    """Open a model to check that the provider loads on a device.

    Raises:
        ProviderError: it does not load.
    """
    provider, why = device.provider, ""
    load_libraries(provider)
    with _silence_ort_log():
        try:
            # Without a folder for engines: TensorRT builds them only when a batch is run.
            probe = replace(device, engine_cache=None)
            inference = open_ort_session(graph, probe, device_id, strict=False)
            if inference.get_providers()[0] == PROVIDER_NAMES[provider]:
                return inference
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            why = f" ({describe_ort_error(error)})"
    raise ProviderError(
        f"{provider.value} does not load on device {device_id}{why}", PROVIDER_REMEDIES[provider]
    )


def check_provider_used(inference: ort.InferenceSession, provider: Provider) -> None:
    """Check that a provider runs at least one part of a graph, and not only its fallback.

    Raises:
        ProviderError: it runs none.
    """
    parts = inference.get_provider_graph_assignment_info()
    if not any(part.ep_name == PROVIDER_NAMES[provider] for part in parts):
        raise ProviderError(
            f"{provider.value} runs no part of the model", PROVIDER_REMEDIES[provider]
        )


def load_libraries(provider: Provider) -> None:
    """Load CUDA, cuDNN and TensorRT, if pip installed them, so that ONNX Runtime finds them."""
    if provider is Provider.CPU:
        return
    # It prints what is missing, but stdout is reserved for the report.
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    if provider is Provider.TENSORRT:
        spec = importlib.util.find_spec(TENSORRT_PACKAGE)
        for folder in (spec and spec.submodule_search_locations) or ():
            for pattern in TENSORRT_LIBRARIES:
                for library in Path(folder).glob(pattern):
                    # A library that can't be loaded makes the provider fail later.
                    with contextlib.suppress(OSError):
                        ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


def describe_ort_error(error: Exception) -> str:
    """Return the first line of an ONNX Runtime error, or its type if it has no message."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SOURCE_POSITION.sub("", first).rstrip(".")


def _configure_providers(
    graph: bytes, device: Device, device_id: int, fixed: Mapping[str, int]
) -> list[tuple[str, dict[str, str]]]:
    if device.provider is Provider.CPU:
        return [(PROVIDER_NAMES[Provider.CPU], {})]
    cuda = {
        "device_id": str(device_id),
        "cudnn_conv_algo_search": device.search.value.upper(),
        # Shapes are fixed, so every batch needs as much memory as the first: the default, doubling
        # the arena, would only take memory from the other models.
        "arena_extend_strategy": "kSameAsRequested",
        # TF32 keeps 10 of a float's 23 bits of precision; results should match the CPU's.
        "use_tf32": "0",
    }
    both = [(PROVIDER_NAMES[Provider.CUDA], cuda)]
    if device.provider is Provider.CUDA:
        return both
    # CUDA may run what TensorRT does not support; the session forbids the CPU.
    return [
        (PROVIDER_NAMES[Provider.TENSORRT], _configure_tensorrt(graph, device, device_id, fixed)),
        *both,
    ]


def _configure_tensorrt(
    graph: bytes, device: Device, device_id: int, fixed: Mapping[str, int]
) -> dict[str, str]:
    options = {"device_id": str(device_id)}
    if device.engine_cache is None:
        return options
    # ONNX Runtime names an engine after the names in a graph, not its weights, so a re-trained
    # model would get the old engine. Each file and shape therefore has a folder of its own.
    key = hashlib.sha256(graph + repr(sorted(fixed.items())).encode())
    engines = device.engine_cache / key.hexdigest()[:32]
    try:
        engines.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ProviderError(
            f"TensorRT's engines can't be kept in {device.engine_cache} ({error.strerror})",
            "choose another folder with --engine-cache",
        ) from error
    return options | {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(device.engine_cache),
    }


@contextlib.contextmanager
def _silence_ort_log() -> Iterator[None]:
    """Stop ONNX Runtime from logging a page for each missing library."""
    ort.set_default_logger_severity(LOG_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(LOG_WARNING)
