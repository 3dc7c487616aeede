from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from batch.errors import ModelError, UsageError
from batch.models import shipped
from batch.models.contract import load_model
from batch.models.shipped import SearchPath
from batch.options import DEFAULT_MODEL, Provider
from batch.vision.classify import Classifier
from tests.support.tiny_models import bright_model, save_model


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped models with one in it."""
    folder = tmp_path / "models"
    folder.mkdir()
    path = save_model(bright_model(), folder / "bright.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  bright.onnx\n")
    monkeypatch.setattr(shipped, "find_models_folder", lambda: folder)
    return folder


def test_every_shipped_model_keeps_the_contract_and_has_a_card() -> None:
    models = shipped.list_shipped_models()
    assert set(DEFAULT_MODEL.split("+")) <= set(models)
    for name, path in models.items():
        model = load_model(shipped.find_model(name))
        assert model.spec.name == name
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        assert model.digest in card


def test_golden_samples_of_shipped_models_tell_outputs_apart() -> None:
    for path in shipped.list_shipped_models().values():
        model = load_model(path)
        outputs = model.spec.golden.outputs
        every = range(len(model.spec.outputs))
        assert set(outputs.argmax(axis=1)) == set(every), path
        for first, second in combinations(every, 2):
            swapped = list(every)
            swapped[first], swapped[second] = second, first
            assert np.abs(outputs[:, swapped] - outputs).max() > 0.3, path


@pytest.mark.parametrize("name", sorted(shipped.list_shipped_models()))
def test_a_shipped_model_with_swapped_outputs_is_refused(name: str) -> None:
    model = load_model(shipped.find_model(name))
    golden = model.spec.golden
    # Other answers to the same samples are what a model with other outputs is checked against.
    swapped = replace(golden, outputs=np.roll(golden.outputs, 1, axis=1))
    wrong = replace(model, spec=replace(model.spec, golden=swapped))
    with pytest.raises(ModelError, match="answers its own golden samples wrongly"):
        Classifier(wrong, Provider.CPU, batch_size=1)


def test_the_default_pair_is_bound_to_its_face_model() -> None:
    face, people = (load_model(shipped.find_model(name)) for name in DEFAULT_MODEL.split("+"))
    assert people.spec.fusion
    assert people.spec.fusion.face_sha256 == face.digest


def test_a_name_is_a_shipped_model(shelf: Path) -> None:
    assert shipped.find_model("bright") == shelf / "bright.onnx"


def test_a_path_is_a_model_of_the_user_s_own(shelf: Path, tmp_path: Path) -> None:
    own = save_model(bright_model(), tmp_path / "own.onnx")
    assert shipped.find_model(str(own)) == own


def test_an_unknown_name_lists_the_known_ones(shelf: Path) -> None:
    with pytest.raises(UsageError, match=r"no model gloomy; .* bright"):
        shipped.find_model("gloomy")


def test_a_name_may_be_one_of_the_user_s_own_models(shelf: Path, tmp_path: Path) -> None:
    own = tmp_path / "a+b"
    own.mkdir()
    for name in ("mine", "bright", "c+d"):
        save_model(bright_model(), own / f"{name}.onnx")
    search = SearchPath(default=own)
    mine = str(own / "mine.onnx")
    assert shipped.resolve_models("mine", search) == mine
    assert shipped.resolve_models("bright", search) == "bright", "its name is the shipped one's"
    assert shipped.resolve_models("c+d", search) == str(own / "c+d.onnx")
    assert shipped.resolve_models(mine, search) == mine
    assert shipped.resolve_models("bright+mine", search) == f"bright+{mine}"
    assert shipped.find_models(mine) == [Path(mine)]
    assert shipped.list_own_models(SearchPath()) == {}
    for path, known in ((search, "bright, c+d, mine"), (SearchPath(), "bright")):
        with pytest.raises(UsageError) as caught:
            shipped.resolve_models("bright+brigth", path)
        assert caught.value.problem == "there is no model brigth (did you mean bright?)"
        assert caught.value.remedy.endswith(f"one of these names: {known}")


def test_named_folders_are_searched_first_and_what_they_hide_is_known(
    shelf: Path, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("first", "second", "default")]
    for folder in folders:
        folder.mkdir()
        save_model(bright_model(), folder / "mine.onnx")
    save_model(bright_model(), folders[1] / "bright.onnx")
    search = SearchPath((folders[0], folders[1]), folders[2])
    first = folders[0] / "mine.onnx"
    assert shipped.resolve_models("mine", search) == str(first)
    hidden = shipped.list_hidden_models("bright+mine", search)
    assert [(one.path, one.hidden_by) for one in hidden] == [
        (folders[1] / "bright.onnx", shelf / "bright.onnx"),
        (folders[1] / "mine.onnx", first),
        (folders[2] / "mine.onnx", first),
    ]
    assert shipped.list_hidden_models("other", search) == []
    again = SearchPath((folders[2],), folders[2])
    assert shipped.list_hidden_models("mine", again) == [], "one folder, named twice"


def test_a_named_folder_that_is_missing_is_an_error_unless_the_model_is_shipped(
    shelf: Path, tmp_path: Path
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    save_model(bright_model(), own / "mine.onnx")
    search = SearchPath((tmp_path / "unmounted",), own)
    assert shipped.resolve_models("bright", search) == "bright"
    assert shipped.list_hidden_models("bright", search) == []
    with pytest.raises(UsageError, match=r"unmounted can't be read .*BATCH_LABEL_MODELS"):
        shipped.resolve_models("mine", search)


def test_a_damaged_shipped_model_is_refused(shelf: Path) -> None:
    path = shelf / "bright.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="damaged"):
        shipped.find_model("bright")
