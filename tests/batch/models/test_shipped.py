from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from batch.errors import ModelError, UsageError
from batch.models import shipped
from batch.models.contract import load_model
from batch.options import DEFAULT_MODEL
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


def test_a_name_is_a_shipped_model(shelf: Path) -> None:
    assert shipped.find_model("bright") == shelf / "bright.onnx"


def test_a_path_is_a_model_of_the_user_s_own(shelf: Path, tmp_path: Path) -> None:
    own = save_model(bright_model(), tmp_path / "own.onnx")
    assert shipped.find_model(str(own)) == own


def test_an_unknown_name_lists_the_known_ones(shelf: Path) -> None:
    with pytest.raises(UsageError, match=r"no model gloomy; .* bright"):
        shipped.find_model("gloomy")


def test_a_name_may_be_that_of_a_model_of_the_user_s_own(shelf: Path, tmp_path: Path) -> None:
    own = tmp_path / "a+b"
    own.mkdir()
    for name in ("mine", "bright", "c+d"):
        save_model(bright_model(), own / f"{name}.onnx")
    mine = str(own / "mine.onnx")
    assert shipped.resolve_models("mine", own) == mine
    assert shipped.resolve_models("bright", own) == "bright", "its name is the shipped one's"
    assert shipped.resolve_models("c+d", own) == str(own / "c+d.onnx")
    assert shipped.resolve_models(mine, own) == mine
    assert shipped.resolve_models("bright+mine", own) == f"bright+{mine}"
    assert shipped.find_models(mine) == [Path(mine)]
    assert shipped.list_own_models(None) == {}
    for folder, known in ((own, "bright, c+d, mine"), (None, "bright")):
        with pytest.raises(UsageError) as caught:
            shipped.resolve_models("bright+brigth", folder)
        assert caught.value.problem == "there is no model brigth (did you mean bright?)"
        assert caught.value.remedy.endswith(f"of these: {known}")


def test_a_damaged_shipped_model_is_refused(shelf: Path) -> None:
    path = shelf / "bright.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelError, match="damaged"):
        shipped.find_model("bright")
