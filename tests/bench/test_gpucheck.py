"""The GPU check, run with the CPU as the device, and its errors without a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.batch.inference.test_session import needs_no_cuda
from tests.conftest import REPOSITORY
from tests.support.runs import make_photos


def _check(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.gpucheck", *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def some(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("photos"), 5)


def test_the_cpu_as_device_answers_as_the_cpu(some: Path, tmp_path: Path) -> None:
    ran = _check(
        "--photos", some, "--provider", "cpu", "--devices", "0,1", "--workers", "2",
        "--runs", "1", "--json", tmp_path / "check.json",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "check.json").read_text())
    answers = found["answers"]
    assert (answers["provider"], answers["devices"], answers["photos"]) == ("cpu", [0, 1], 5)
    assert answers["equal_outcomes"] == answers["equal_faces"] == 1
    # The detector pads photos differently on devices, which may move a box slightly.
    assert answers["worst"] < 1e-3
    assert found["decoding"]["rate"] > 0
    assert [run["workers"] for run in found["command"]] == [2]
    assert found["command"][0]["rate"] > 0
    one, other = ({**run, "seconds": 0} for run in found["training"])
    assert one == other
    assert one["device"] == "cpu"
    (way,) = found["search"]
    assert way["batch_ms"] > 0
    assert "5 photos: 100.00% equal outcomes" in ran.stdout


@needs_no_cuda
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_without_a_gpu_it_says_what_to_install(some: Path, provider: str) -> None:
    ran = _check("--photos", some, "--provider", provider)
    assert ran.returncode == 1
    assert f"no check: {provider} does not load" in ran.stderr
    assert f"install `batch-label[{provider}]`" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_without_photos_it_says_so(tmp_path: Path) -> None:
    for source in (tmp_path, tmp_path / "missing.zip"):
        ran = _check("--photos", source, "--provider", "cpu")
        assert ran.returncode == 1
        assert f"no JPEGs in {source}" in ran.stderr
