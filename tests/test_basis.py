from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import batch.basis
from batch.basis import basis_of
from batch.contract import Model, load_model
from tests.tiny_models import bright_model, bright_spec, save


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return load_model(save(bright_model(), tmp_path / "bright.onnx"))


@pytest.fixture
def other(tmp_path: Path) -> Model:
    return load_model(save(bright_model(bright_spec(version="1.0.1")), tmp_path / "other.onnx"))


def test_the_same_things_have_the_same_basis(model: Model, tmp_path: Path) -> None:
    copy = load_model(save(bright_model(), tmp_path / "copy-elsewhere.onnx"))
    assert basis_of([model], 0.7) == basis_of([copy], 0.7)
    assert len(basis_of([model], None)) == 32


def test_all_that_answers_depend_on_counts(
    model: Model, other: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    bases = [
        basis_of([model], None),
        basis_of([model], 0.0),
        basis_of([model], 0.7),
        basis_of([model], None, salvage=True),
        basis_of([other], None),
        basis_of([model, other], None),
        basis_of([other, model], None),
        basis_of([replace(model, digest=other.digest[::-1])], None),
    ]
    monkeypatch.setattr(batch.basis, "detector_digest", lambda: "another detector")
    bases.append(basis_of([model], None))
    monkeypatch.setattr(batch.basis, "PREPROCESSING", batch.basis.PREPROCESSING + 1)
    bases.append(basis_of([model], None))
    assert len(set(bases)) == len(bases)
