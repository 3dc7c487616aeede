"""ONNX Runtime sessions on a provider that was proved to run."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

# From release 1.29 on, ONNX Runtime reports to its makers over the network and keeps a database
# of it in the user's home. Photos and models are nobody's business. Once it is loaded is too late
# to say so, for an event has gone out by then.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from batch.errors import ProviderError
from batch.options import Provider

Array = npt.NDArray[Any]
# ONNX Runtime's levels. Sessions log fatal errors only: what goes wrong reaches the user as
# an exception with a remedy.
LOG_WARNING, LOG_FATAL = 2, 4


NAMES = {Provider.CPU: "CPUExecutionProvider", Provider.CUDA: "CUDAExecutionProvider"}
CUDA_REMEDY = "install `batch-label[cuda]` and an NVIDIA driver for CUDA 13, or use --provider cpu"


@dataclass(frozen=True)
class Session:
    """An open model: ``provider`` is the one that really runs it."""

    inference: ort.InferenceSession
    provider: Provider

    def run(self, inputs: Array) -> list[Array]:
        """Run the model on one batch and return all its outputs."""
        name = self.inference.get_inputs()[0].name
        outputs: list[Array] = self.inference.run(None, {name: inputs})
        return outputs


def choose_provider(wanted: Provider, graph: bytes, warm_up: Array) -> tuple[Provider, str]:
    """Find the provider that will run and, where it is not CUDA by choice, say why.

    ``graph`` (an ONNX file's bytes) is opened and run once on ``warm_up`` to know.

    Raises:
        ProviderError: ``wanted`` is CUDA and it does not work.
    """
    if wanted is Provider.CPU:
        return Provider.CPU, ""
    try:
        open_session(graph, Provider.CUDA, warm_up)
    except ProviderError as error:
        if wanted is Provider.CUDA:
            raise
        return Provider.CPU, error.problem
    return Provider.CUDA, ""


def open_session(graph: bytes, provider: Provider, warm_up: Array) -> Session:
    """Open a model on exactly one provider and run it once.

    ONNX Runtime falls back to the CPU without a word when a provider does not load, and
    moves single nodes there; both are refused, so that the provider on record is the one
    that ran.

    Raises:
        ProviderError: the provider is not in this build, does not load, or fails to run.
    """
    name = NAMES[provider]
    if name not in ort.get_available_providers():
        raise ProviderError(f"{provider.value} is not in the installed ONNX Runtime", CUDA_REMEDY)
    try:
        if provider is not Provider.CPU:
            _prove_loaded(graph, provider)
        inference = _open(graph, provider, strict=True)
        session = Session(inference, provider)
        session.run(warm_up)
    except ProviderError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        raise ProviderError(
            f"the model does not run on {provider.value} ({first_line(error)})",
            CUDA_REMEDY if provider is Provider.CUDA else "try another model",
        ) from error
    return session


def available_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prove_loaded(graph: bytes, provider: Provider) -> None:
    _load_cuda_libraries()
    with _silenced():
        loaded = _open(graph, provider, strict=False).get_providers()
    if loaded[0] != NAMES[provider]:
        raise ProviderError(f"{provider.value} does not load", CUDA_REMEDY)


def _open(graph: bytes, provider: Provider, strict: bool) -> ort.InferenceSession:
    """Open a session; a strict one may leave no part of the graph to another provider."""
    options = ort.SessionOptions()
    options.log_severity_level = LOG_FATAL
    # Photos are worked on side by side, so one thread a session call is the fastest use of
    # the cores, and sums come out the same however many there are.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    if provider is not Provider.CPU:
        # Integer weights are then turned into floats as the file is opened: the integer kernels
        # are the CPU's alone, and elsewhere each conversion would be a node of its own.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if strict and provider is not Provider.CPU:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    return ort.InferenceSession(graph, options, providers=[NAMES[provider]], enable_fallback=0)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep ONNX Runtime from logging a page about each library that it misses."""
    ort.set_default_logger_severity(LOG_FATAL)
    try:
        yield
    finally:
        ort.set_default_logger_severity(LOG_WARNING)


def _load_cuda_libraries() -> None:
    """Let ONNX Runtime find the CUDA and cuDNN libraries that pip installed, if any."""
    # It reports what it misses by printing, and stdout belongs to the report.
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def first_line(error: Exception) -> str:
    """Give what is worth telling of an error of ONNX Runtime, which may go on for pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
