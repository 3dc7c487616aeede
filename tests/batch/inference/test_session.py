from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from batch.errors import ExitCode, ProviderError
from batch.inference.placement import choose_device
from batch.inference.providers import open_ort_session
from batch.inference.session import open_session
from batch.options import Device, Provider
from tests.conftest import REPOSITORY
from tests.support.tiny_models import SIDE, bright_model, bright_spec

GRAPH = bright_model().SerializeToString()
PICTURE = np.full((1, SIDE, SIDE, 1), 255, dtype=np.uint8)


def _cuda_works() -> bool:
    try:
        open_session(GRAPH, Provider.CUDA, PICTURE)
    except ProviderError:
        return False
    return True


needs_no_cuda = pytest.mark.skipif(_cuda_works(), reason="CUDA works on this machine")


def test_the_session_says_which_provider_runs() -> None:
    session = open_session(GRAPH, Provider.CPU, PICTURE)
    assert session.provider is Provider.CPU
    assert session.inference.get_providers() == ["CPUExecutionProvider"]
    np.testing.assert_allclose(session.run(PICTURE)[0], [[1, 0]], atol=1e-6)


@needs_no_cuda
@pytest.mark.parametrize("provider", [Provider.CUDA, Provider.TENSORRT])
def test_a_provider_by_name_has_no_fallback(
    provider: Provider, capfd: pytest.CaptureFixture[str]
) -> None:
    assert choose_device(Device(provider), GRAPH, PICTURE) == (Device(provider, devices=(0,)), "")
    with pytest.raises(ProviderError, match=f"^{provider} (does not load|is not in)") as caught:
        open_session(GRAPH, provider, PICTURE)
    assert caught.value.exit_code is ExitCode.FAILED
    assert f"install `batch-label[{provider}]`" in str(caught.value)
    assert "or use --provider c" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == "", "standard output belongs to the report"


@needs_no_cuda
def test_the_device_that_does_not_work_is_named() -> None:
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        pytest.skip("this ONNX Runtime was built without CUDA")
    with pytest.raises(ProviderError, match="cuda does not load on device 3"):
        open_session(GRAPH, Device(Provider.CUDA, devices=(3,)), PICTURE)


@needs_no_cuda
def test_auto_falls_back_to_the_cpu_with_the_reason() -> None:
    device, why = choose_device(Device(Provider.AUTO, devices=(0, 1)), GRAPH, PICTURE)
    assert device == Device(Provider.CPU)
    assert "cuda" in why


def test_cpu_by_name_does_not_try_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "InferenceSession", None)
    assert choose_device(Device(Provider.CPU), GRAPH, PICTURE) == (Device(Provider.CPU), "")


def test_a_model_that_does_not_run_is_found_at_the_start() -> None:
    wrong = np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)
    with pytest.raises(ProviderError, match="does not run on cpu"):
        open_session(GRAPH, Provider.CPU, wrong)


def test_onnx_runtime_sends_no_telemetry(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    code = (
        "from batch import Options; from batch.engines.local import LocalEngine; "
        "LocalEngine(Options()).close()"
    )
    subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, check=True)
    assert not list(tmp_path.rglob("*.db"))


def test_an_unusable_engine_folder_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    device = Device(Provider.TENSORRT, (0,), tmp_path / "file" / "engines")
    with pytest.raises(ProviderError, match=r"can't be kept in .*file/engines.*--engine-cache"):
        open_ort_session(GRAPH, device)


@needs_no_cuda
def test_engines_of_other_models_and_shapes_have_folders_of_their_own(tmp_path: Path) -> None:
    device = Device(Provider.TENSORRT, (0,), tmp_path)
    trained_anew = bright_model(bright_spec(version="1.0.1")).SerializeToString()
    for graph, batch in ((GRAPH, 1), (GRAPH, 1), (GRAPH, 2), (trained_anew, 2)):
        with pytest.raises(Exception, match=r"TensorRT|Tensorrt"):
            open_ort_session(graph, device, fixed={"n": batch})
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "name",
    [
        "ORT_DISABLE_TELEMETRY",
        "session.disable_quant_qdq",
        "session.disable_cpu_ep_fallback",
        "session.record_ep_graph_assignment_info",
    ],
)
def test_onnx_runtime_knows_the_names_that_are_set(name: str) -> None:
    """It ignores others without a word, and most matter on a GPU only."""
    library = find_spec("onnxruntime.capi.onnxruntime_pybind11_state")
    assert library is not None
    assert library.origin is not None
    assert name.encode() in Path(library.origin).read_bytes()
