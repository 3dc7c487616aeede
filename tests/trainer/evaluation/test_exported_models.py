from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batch.errors import ModelError, UsageError
from batch.models.shipped import list_shipped_models
from batch.options import DEFAULT_MODEL
from batch.records import Region
from tests.support.tiny_models import SIDE, bright_model, bright_spec, save_model
from trainer.datasets.dataset import Framing
from trainer.evaluation.exported_models import derive_framing, open_model, resolve_default_name


def test_default_is_the_runner_s_default_model() -> None:
    assert resolve_default_name("default") == DEFAULT_MODEL
    assert resolve_default_name("people") == "people"
    assert open_model("people").path == list_shipped_models()["people"]


def test_a_pair_of_models_is_refused() -> None:
    with pytest.raises(ModelError, match=r"two models; add --end-to-end"):
        open_model("default")


def test_a_path_is_opened_and_gives_the_framing_of_its_samples(tmp_path: Path) -> None:
    spec = bright_spec(region=Region.IMAGE, margin=0.25)
    model = open_model(str(save_model(bright_model(spec), tmp_path / "own.onnx")))
    assert derive_framing(model) == Framing(Region.IMAGE, 0.25, SIDE, 1)
    cropped = replace(model, spec=replace(model.spec, resize="crop"))
    assert derive_framing(cropped).resize == "crop"
    with pytest.raises(ModelError, match=f"an input of {SIDE + 1} x {SIDE} pixels.*are square"):
        derive_framing(replace(model, width=SIDE + 1))


def test_a_missing_file_and_an_unknown_name_have_different_errors(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx can't be read"):
        open_model(str(tmp_path / "gone.onnx"))
    with pytest.raises(UsageError, match="there is no model gloomy"):
        open_model("gloomy")
