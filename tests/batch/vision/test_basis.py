from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import batch.vision.basis
from batch.models.contract import load_model
from batch.models.model import Model
from batch.options import Options
from batch.vision.basis import compute_basis
from tests.support.tiny_models import bright_model, bright_spec, save_model


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_model(save_model(bright_model(), tmp_path / "bright.onnx"))


@pytest.fixture
def other(tmp_path: Path) -> Model:
    return load_model(
        save_model(bright_model(bright_spec(version="1.0.1")), tmp_path / "other.onnx")
    )


def test_the_basis_depends_on_nothing_else(model: Model, tmp_path: Path) -> None:
    copy = load_model(save_model(bright_model(), tmp_path / "copy-elsewhere.onnx"))
    options = Options()
    assert compute_basis([model], options) == compute_basis(
        [copy], replace(options, workers=3, batch_size=1)
    )
    others = replace(options, min_confidence=0.7, always_answer=True)
    assert compute_basis([model], options) == compute_basis([model], others)
    assert len(compute_basis([model], Options())) == 32


def test_everything_that_a_row_depends_on_changes_the_basis(
    model: Model, other: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = [
        compute_basis([model], Options()),
        compute_basis([model], Options(per_face=True)),
        compute_basis([model], Options(salvage=True)),
        compute_basis([other], Options()),
        compute_basis([model, other], Options()),
        compute_basis([other, model], Options()),
        compute_basis([replace(model, digest=other.digest[::-1])], Options()),
    ]
    monkeypatch.setattr(batch.vision.basis, "hash_detector", lambda: "another detector")
    bases.append(compute_basis([model], Options()))
    monkeypatch.setattr(
        batch.vision.basis, "PREPROCESSING_VERSION", batch.vision.basis.PREPROCESSING_VERSION + 1
    )
    bases.append(compute_basis([model], Options()))
    assert len(set(bases)) == len(bases)
