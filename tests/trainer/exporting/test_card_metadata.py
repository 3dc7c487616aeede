"""The metadata of cards, read by the hub's own library."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from batch.models.contract import load_model
from batch.models.shipped import list_shipped_models
from tests.support.trainer_data import drawn_dataset, tiny_export, tiny_training
from trainer.exporting.card_metadata import add_metadata, make_metadata, split_card
from trainer.exporting.model_card import write_card


def parse(card: str) -> Any:
    """Parse a card as the hub does; it refuses an index that is not complete."""
    return pytest.importorskip("huggingface_hub").ModelCard(card, ignore_metadata_errors=False)


def test_the_hub_s_library_reads_the_metrics_of_a_card() -> None:
    exported = tiny_export()
    card = parse(write_card(exported, tiny_training(), drawn_dataset(), "apache-2.0"))
    data = card.data
    assert (data.license, data.library_name) == ("apache-2.0", "onnx")
    assert (data.pipeline_tag, data.model_name) == ("image-classification", "tiny")
    assert data.metrics == ["accuracy", "recall", "f1"]
    test = exported.test
    assert [
        (r.metric_type, r.metric_name, r.metric_value, r.metric_args) for r in data.eval_results
    ] == [
        ("accuracy", "Accuracy", pytest.approx(test.accuracy.value, abs=1e-4), None),
        (
            "recall",
            "Balanced accuracy",
            pytest.approx(test.balanced_accuracy.value, abs=1e-4),
            {"average": "macro"},
        ),
        ("f1", "Macro F1", pytest.approx(test.macro_f1.value, abs=1e-4), {"average": "macro"}),
    ]
    for result in data.eval_results:
        assert (result.task_type, result.dataset_type) == ("image-classification", "imagefolder")
        assert (result.dataset_name, result.dataset_split) == ("drawn", "test")
    assert card.text.startswith("\n# tiny\n")


def test_the_shipped_cards_have_the_metadata_of_their_models() -> None:
    for path in list_shipped_models().values():
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        spec = load_model(path).spec
        assert split_card(card)[0] == make_metadata(spec, None)
        read = parse(card).data
        assert read.eval_results[0].metric_value == spec.metrics["accuracy"]["value"]
        is_test = spec.metrics["split"] == "test"
        assert read.eval_results[0].dataset_split == ("test" if is_test else None)


@pytest.mark.parametrize(
    "metrics", [{}, {"accuracy": None}, {"accuracy": 1}, {"accuracy": {"value": "high"}}]
)
def test_a_model_without_metrics_has_no_index(metrics: dict[str, Any]) -> None:
    metadata = make_metadata(replace(tiny_export().spec, metrics=metrics), None)
    assert not {"license", "metrics", "model-index"} & set(metadata)
    assert parse(add_metadata("# x\n", metadata)).data.eval_results is None


def test_metadata_are_replaced_and_odd_text_stays_text() -> None:
    spec = replace(tiny_export().spec, name="no: - 'x'\n---\n# é")
    card = add_metadata(add_metadata("# x\n\n---\n\nmore\n", {"license": "mit"}), {"tags": ["no"]})
    assert split_card(card) == ({"tags": ["no"]}, "# x\n\n---\n\nmore\n")
    odd = add_metadata("# x\n", make_metadata(spec, "mit"))
    assert parse(odd).data.model_name == spec.name
    assert split_card(odd)[1] == "# x\n"


@pytest.mark.parametrize("card", ["# x\n", "---\n- 1\n---\n# x\n", ""])
def test_a_card_without_metadata_is_all_text(card: str, caplog: pytest.LogCaptureFixture) -> None:
    assert split_card(card) == ({}, card)
    assert not caplog.text


def test_damaged_metadata_are_text_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    card = "---\nlicense: mit\ntags: [1\n---\n# x\n"
    assert split_card(card) == ({}, card)
    assert "the metadata of the card are not YAML and become text" in caplog.text
