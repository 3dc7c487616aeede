from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from batch.errors import ExitCode, ProviderError
from batch.options import Provider
from batch.session import choose_provider, open_session
from tests.conftest import REPOSITORY
from tests.tiny_models import SIDE, bright_model

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
def test_cuda_by_name_is_cuda_or_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ProviderError, match="cuda") as caught:
        choose_provider(Provider.CUDA, GRAPH, PICTURE)
    assert caught.value.exit_code is ExitCode.FAILED
    assert "--provider cpu" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().out == "", "standard output belongs to the report"


@needs_no_cuda
def test_auto_takes_the_cpu_and_says_why() -> None:
    provider, why = choose_provider(Provider.AUTO, GRAPH, PICTURE)
    assert provider is Provider.CPU
    assert "cuda" in why


def test_cpu_by_name_asks_nothing_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort, "InferenceSession", None)
    assert choose_provider(Provider.CPU, GRAPH, PICTURE) == (Provider.CPU, "")


def test_a_model_that_does_not_run_is_found_at_the_start() -> None:
    wrong = np.zeros((1, SIDE, SIDE, 3), dtype=np.uint8)
    with pytest.raises(ProviderError, match="does not run on cpu"):
        open_session(GRAPH, Provider.CPU, wrong)


def test_nothing_is_reported_to_the_makers_of_onnx_runtime(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    code = "from batch import Options; from batch.pipeline import Pipeline; Pipeline(Options())"
    subprocess.run([sys.executable, "-c", code], env=env, cwd=tmp_path, check=True)
    assert not list(tmp_path.rglob("*.db"))
