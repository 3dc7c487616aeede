"""``model --list`` shows every model that has a name, and the warning about names that clash."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from batch.models.shipped import list_shipped_models
from tests.conftest import Command
from tests.support.tiny_models import bright_model, bright_spec, save_model


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A folder of ``BATCH_LABEL_MODELS`` and the user's default one."""
    named, home = tmp_path / "named", tmp_path / "home"
    default = home / "batch-label" / "models"
    named.mkdir()
    default.mkdir(parents=True)
    monkeypatch.setenv("XDG_DATA_HOME", str(home))
    monkeypatch.setenv("BATCH_LABEL_MODELS", os.pathsep.join([str(named), ""]))
    spec = bright_spec(abstain_from={"neither": 0.5})
    save_model(bright_model(spec), named / "mine.onnx")
    save_model(bright_model(), named / "people.onnx")
    save_model(bright_model(), default / "mine.onnx")
    (default / "broken.onnx").write_text("no model")
    (default / "notes.txt").write_text("no model either")
    return named, default


def test_the_list_has_names_labels_region_and_place(
    command: Command, folders: tuple[Path, Path]
) -> None:
    named, default = folders
    ran = command("model", "--list", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    record = json.loads(ran.stdout)
    assert record["folders"] == [str(named), str(default)]
    models = record["models"]
    shipped = [model for model in models if model["shipped"]]
    assert [model["name"] for model in shipped] == list(list_shipped_models())
    own = {model["file"]: model for model in models if not model["shipped"]}
    assert list(own) == [
        str(named / "mine.onnx"),
        str(named / "people.onnx"),
        str(default / "broken.onnx"),
        str(default / "mine.onnx"),
    ]
    first = own[str(named / "mine.onnx")]
    assert first == {
        "name": "mine",
        "file": str(named / "mine.onnx"),
        "shipped": False,
        "labels": ["happy", "sad"],
        "abstain": ["neither"],
        "region": "face",
        "problem": None,
        "hidden_by": None,
    }
    assert own[str(default / "mine.onnx")]["hidden_by"] == str(named / "mine.onnx")
    assert own[str(named / "people.onnx")]["hidden_by"].endswith("models/people.onnx")
    broken = own[str(default / "broken.onnx")]
    assert (broken["labels"], broken["region"]) == (None, None)
    assert "is not an ONNX file" in broken["problem"]


def test_the_text_says_what_is_broken_and_what_is_not_used(
    command: Command, folders: tuple[Path, Path]
) -> None:
    named, default = folders
    ran = command("model", "--list")
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = [line.strip() for line in ran.stdout.splitlines()]
    assert any(line.startswith("mine") and line.endswith("happy, sad, neither") for line in lines)
    assert lines.count(f"not used: the name means {named / 'mine.onnx'}") == 1
    (broken,) = (line for line in lines if line.startswith("broken "))
    assert broken.split() == [
        "broken",
        "broken",
        *f"model {default / 'broken.onnx'} is not an ONNX file".split(),
    ]
    assert lines[-1].endswith(f"in the order of the search: {named}, {default}")


def test_a_list_takes_no_model(command: Command) -> None:
    for arguments in (("people", "--list"), ("--list", "--check")):
        ran = command("model", *arguments)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "--list takes neither a model nor --check" in ran.stderr


def test_a_run_says_which_file_of_a_name_it_uses(
    command: Command, folders: tuple[Path, Path], tmp_path: Path, astronaut: Image.Image
) -> None:
    named, default = folders
    astronaut.save(tmp_path / "a.png")
    said = (
        f"the model mine is {named / 'mine.onnx'}; {default / 'mine.onnx'} has the same name and "
        "is not used"
    )
    ran = command("a.png", "--model", "mine", "--quiet")
    assert ran.returncode == 0
    assert said in ran.stderr
    assert "p_neither" in ran.stdout, "the model of the first folder"
    ran = command("a.png", "--model", "mine", "--log-format", "json")
    events = [json.loads(line) for line in ran.stderr.splitlines()]
    assert [e["message"] for e in events if e["event"] == "model_hidden"] == [said]
    for arguments in (("model", "mine"), ("explain", "a.png", "--model", "mine", "-o", "why.png")):
        assert said in command(*arguments).stderr
    assert "same name" not in command("model", str(default / "mine.onnx")).stderr
    shipped = command("model", "people")
    assert shipped.stdout.startswith("people, version")
    assert f"{named / 'people.onnx'} has the same name and is not used" in shipped.stderr


def test_a_folder_of_the_variable_must_be_readable(
    command: Command, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_LABEL_MODELS", "unmounted")
    for arguments in (("model", "mine"), ("model", "--list")):
        ran = command(*arguments)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "unmounted can't be read" in ran.stderr
        assert "correct BATCH_LABEL_MODELS" in ran.stderr
    assert command("model", "people").returncode == 0
