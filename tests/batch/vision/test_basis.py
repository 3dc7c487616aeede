from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import batch.vision.basis
from batch.models.contract import load_model
from batch.models.model import Model
from batch.options import Options
from batch.vision.basis import basis_of
from tests.support.tiny_models import bright_model, bright_spec, save


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_model(save(bright_model(), tmp_path / "bright.onnx"))


@pytest.fixture
def other(tmp_path: Path) -> Model:
    return load_model(save(bright_model(bright_spec(version="1.0.1")), tmp_path / "other.onnx"))


def test_the_same_things_have_the_same_basis(model: Model, tmp_path: Path) -> None:
    copy = load_model(save(bright_model(), tmp_path / "copy-elsewhere.onnx"))
    options = Options()
    assert basis_of([model], options) == basis_of([copy], replace(options, workers=3, batch_size=1))
    others = replace(options, min_confidence=0.7, always_answer=True)
    assert basis_of([model], options) == basis_of([model], others)
    assert len(basis_of([model], Options())) == 32


def test_all_that_answers_depend_on_counts(
    model: Model, other: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = [
        basis_of([model], Options()),
        basis_of([model], Options(per_face=True)),
        basis_of([model], Options(salvage=True)),
        basis_of([other], Options()),
        basis_of([model, other], Options()),
        basis_of([other, model], Options()),
        basis_of([replace(model, digest=other.digest[::-1])], Options()),
    ]
    monkeypatch.setattr(batch.vision.basis, "detector_digest", lambda: "another detector")
    bases.append(basis_of([model], Options()))
    monkeypatch.setattr(batch.vision.basis, "PREPROCESSING", batch.vision.basis.PREPROCESSING + 1)
    bases.append(basis_of([model], Options()))
    assert len(set(bases)) == len(bases)
