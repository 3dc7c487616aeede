"""The notebook for newcomers: stored without output, and every cell runs."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from batch.models.contract import load_model
from tests.conftest import REPOSITORY

NOTEBOOK = REPOSITORY / "examples" / "walkthrough.ipynb"
SECONDS_A_CELL = 240  # on a machine that is busy with much else


def _cells(notebook: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def _stored() -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return notebook


def test_it_is_stored_without_output() -> None:
    for cell in _cells(_stored(), "code"):
        assert (cell["outputs"], cell["execution_count"], cell["metadata"]) == ([], None, {})


def test_its_links_lead_somewhere() -> None:
    text = "".join("".join(cell["source"]) for cell in _cells(_stored(), "markdown"))
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text)
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link).exists(), link


def test_the_readme_of_the_examples_lists_it() -> None:
    text = (NOTEBOOK.parent / "README.md").read_text(encoding="utf-8")
    assert f"]({NOTEBOOK.name})" in text


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Run all cells in an empty folder, as the notebook is opened for the first time."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("walkthrough")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(REPOSITORY))
        environment.setenv("IPYTHONDIR", str(folder / "ipython"))  # no settings of the user's
        environment.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        place = {"metadata": {"path": str(folder)}}
        nbclient.NotebookClient(notebook, timeout=SECONDS_A_CELL, resources=place).execute()
    return folder / "walkthrough-files", notebook


def _printed(notebook: dict[str, Any], stream: str) -> str:
    outputs = (output for cell in _cells(notebook, "code") for output in cell["outputs"])
    return "".join(output["text"] for output in outputs if output.get("name") == stream)


def test_every_cell_runs_and_warns_of_nothing(executed: tuple[Path, dict[str, Any]]) -> None:
    _, notebook = executed
    assert all(cell["execution_count"] for cell in _cells(notebook, "code"))
    assert "Warning" not in _printed(notebook, "stderr")


def test_what_is_broken_is_thrown_out(executed: tuple[Path, dict[str, Any]]) -> None:
    files, notebook = executed
    with (files / "run" / "left-out.csv").open(newline="") as table:
        left_out = {row["name"] for row in csv.DictReader(table)}
    assert {"happy/not-found.jpg", "sad/cut-off.png"} <= left_out
    assert "left out: happy/not-found.jpg" in _printed(notebook, "stdout")


def test_the_network_learns_and_its_model_labels(executed: tuple[Path, dict[str, Any]]) -> None:
    files, notebook = executed
    model = load_model(files / "drawn-faces.onnx")
    assert model.spec.metrics["accuracy"]["value"] > 0.85
    assert list((files / "run" / "logs").glob("*/events.*"))
    printed = _printed(notebook, "stdout")
    right = re.search(r"right: ([\d.]+)% of 80", printed)
    sure = re.search(r"right of the sure ones: ([\d.]+)%", printed)
    assert right is not None
    assert sure is not None
    # Some must be wrong, or there is nothing to look at.
    assert 60 < float(right[1]) < 100
    assert float(sure[1]) >= float(right[1])


def test_three_classes_are_learnt_from_few_pictures(
    executed: tuple[Path, dict[str, Any]],
) -> None:
    files, _ = executed
    spec = load_model(files / "three-classes.onnx").spec
    assert spec.labels == ("happy", "sad", "upside-down")
    assert spec.metrics["accuracy"]["value"] > 0.6


def test_pictures_curves_and_maps_are_shown(executed: tuple[Path, dict[str, Any]]) -> None:
    _, notebook = executed
    shown = [
        "image/png" in output.get("data", {})
        for cell in _cells(notebook, "code")
        for output in cell["outputs"]
    ]
    # Two of samples, the curves, three of answers, one of photos, three maps.
    assert sum(shown) == 10
