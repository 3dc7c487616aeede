"""What is recorded of the machine and of what is installed."""

from __future__ import annotations

import platform
from importlib.metadata import version

import pytest

from batch.recording import run_record as host
from batch.recording.run_record import describe_host, find_versions


def test_the_versions_are_those_installed() -> None:
    versions = find_versions()
    assert set(versions) == {"batch-label", "python", "onnxruntime", "pillow", "numpy"}
    assert versions["numpy"] == version("numpy")
    assert versions["pillow"] == version("pillow")
    assert versions["onnxruntime"] is not None


def test_what_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_ONNX_RUNTIMES", ("no-such-package",))
    assert find_versions()["onnxruntime"] is None


def test_the_host_is_this_one() -> None:
    record = describe_host(cores=3)
    assert record.name == platform.node()
    assert platform.system() in record.system
    assert record.cores == 3
