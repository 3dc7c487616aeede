"""What a stranger gets from `pip install .`: the runner and its models, and no PyTorch."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest

from batch.models.shipped import find_models_folder
from tests.conftest import REPOSITORY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built as pip builds it but for the isolation, which needs a network."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_models_and_no_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in find_models_folder().iterdir():
        assert f"batch/shipped/{path.name}" in names
    for path in (REPOSITORY / "batch" / "page").glob("*.*"):  # code, styles and scripts
        assert f"batch/page/{path.name}" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "batch",
        "trainer",
    }


def test_the_base_dependencies_are_the_runner_s_alone() -> None:
    base = [need for need in requires("batch-label") or [] if "extra ==" not in need]
    assert base
    for heavy in (
        "torch",
        "onnxscript",
        "matplotlib",
        "tensorboard",
        "pyarrow",
        "ray",
        "s3fs",
        "xlsx",
    ):
        assert not any(need.startswith(heavy) for need in base)
    runtimes = [need for need in base if need.startswith("onnxruntime")]
    assert len(runtimes) == 2
    assert all("sys_platform" in need for need in runtimes), "never both of them on one machine"


def test_an_empty_environment_labels_a_photo(wheel: Path, photos: Path, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    installed = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", wheel], capture_output=True, text=True
    )
    if installed.returncode:
        pytest.skip(f"pip can't install the dependencies here: {installed.stderr[-300:]}")
    torch = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in torch.stderr
    ran = subprocess.run(
        [python.with_name("batch-label"), "photos/"], cwd=tmp_path, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    first = next(csv.DictReader(io.StringIO(ran.stdout)))
    assert (first["path"], first["label"]) == ("photos/astronaut.jpg", "happy")
    trainer = subprocess.run(
        [python.with_name("trainer"), "train"], cwd=tmp_path, capture_output=True, text=True
    )
    assert trainer.returncode == 1
    assert "batch-label[train]" in trainer.stderr
    assert "Traceback" not in trainer.stderr
