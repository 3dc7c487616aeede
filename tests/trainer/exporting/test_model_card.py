from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np

from tests.support.trainer_data import (
    CONFIG,
    abstaining_training,
    drawn_dataset,
    tiny_export,
    tiny_training,
)
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.metrics import Estimate
from trainer.exporting.card_metadata import split_card
from trainer.exporting.export import ExportOptions, export_model
from trainer.exporting.model_card import write_card


def test_the_card_matches_the_metadata() -> None:
    exported, data = tiny_export(), drawn_dataset()
    text = write_card(exported, tiny_training(), data)
    test = exported.test
    for said in (
        "# tiny\n",
        "happy, sad",
        exported.digest,
        f"{len(exported.graph):,} bytes",
        "uint8 [N, 24, 24, 1], grey",
        data.credit,
        data.fingerprint,
        f"{test.accuracy.value:.1%} ({test.accuracy.low:.1%} to {test.accuracy.high:.1%})",
        exported.speed.processor,
        "calibration error is not measured: the results have fewer than 100 samples; the log loss",
        f"temperature of {exported.calibration.temperature:g}",
        "mean 0, standard deviation 0.5",
        f"below {exported.spec.unsure_below:g} is unsure",
        f"of {exported.chosen.answered:,} are wrong, at most {exported.chosen.bound:.1%} with 95 %",
        "| train | 180 | 162 |",
        "4 of 4 epochs",
        "## Use and misuse",
    ):
        assert said in text, said
    for label, row in zip(test.labels, test.confusion, strict=True):
        assert f"| {label} | {' | '.join(map(str, row))} |" in text
    assert "Warning" not in text


def test_the_card_says_what_the_test_samples_can_not_tell() -> None:
    exported, data = tiny_export(), drawn_dataset()
    targets = np.zeros(8, np.int64)
    answers = np.eye(2, dtype=np.float32)[targets]
    groups = np.array(["ann"] * 8)
    test = evaluate(answers, targets, ("happy", "sad"), groups)
    text = write_card(replace(exported, test=test), tiny_training(), data)
    assert "| sad | 0 | 0 | not measured: no samples |" in text
    assert "There is no sample of sad: no metric says" in text
    assert "The 8 samples are of 1 group, whose samples depend on each other." in text
    whole = write_card(exported, tiny_training(), data)
    assert "There is no sample" not in whole
    assert "depend on each other" not in whole


def test_the_card_has_the_calibration_error_of_enough_samples() -> None:
    exported = tiny_export()
    test = replace(exported.test, calibration_error=Estimate(0.01, 0.0, 0.05))
    measured = replace(exported, test=test, uncalibrated=Estimate(0.03, 0.01, 0.07))
    assert (
        "Without it the expected calibration error is 3.0% (1.0% to 7.0%), with it 1.0% (0.0% to "
        "5.0%), on"
    ) in write_card(measured, tiny_training(), drawn_dataset())


def test_the_card_of_a_model_that_abstains_has_metrics_of_its_decisions() -> None:
    trained, data = abstaining_training()
    exported = export_model(trained, data, ExportOptions(name="t", created="2026-01-02", risk=0.3))
    text = write_card(exported, trained, data)
    found = exported.test.selective
    assert found is not None
    for said in (
        "The output `neither` is for faces and persons that show none of them.",
        "probabilities of happiness, sadness, neither, no_person",
        f"If `no_person` has {exported.spec.abstain_from['no_person']:g} or more",
        f"| AUGRC (Traub et al. 2024) | {found.augrc.value:.4f} (",
        "| kind | samples | ok | right | unsure | neither | no_person | none | always |",
    ):
        assert said in text, said
    for row in found.kinds:
        assert f"| {row.kind} | {row.samples} | {row.ok} | {row.right} |" in text
    for name, counts in zip((*found.labels, *found.abstain), found.confusion, strict=True):
        assert f"| {name} | {' | '.join(map(str, counts))} |" in text


def test_the_card_has_a_table_of_corrupted_photos_if_samples_are_held_out() -> None:
    exported = tiny_export()
    assert exported.corrupted
    assert exported.corrupted.rows[0].accuracy.value == exported.test.accuracy.value
    text = write_card(exported, tiny_training(), drawn_dataset())
    assert f"{exported.corrupted.samples} samples, corrupted at the size" in text
    for row in exported.corrupted.rows:
        assert f"| {row.name} | {row.accuracy.value:.1%} (" in text
    text = write_card(replace(exported, corrupted=None), tiny_training(), drawn_dataset())
    assert "Not measured: the network was trained on all samples" in text


def test_a_warning_on_the_data_stands_in_front() -> None:
    text = write_card(
        tiny_export(), tiny_training(), replace(drawn_dataset(), warning="Only drawn.")
    )
    assert split_card(text)[1].splitlines()[2] == "> **Warning: Only drawn.**"


def test_the_card_lists_every_setting_that_matters() -> None:
    text = write_card(tiny_export(), tiny_training(), drawn_dataset())
    for name in {*asdict(CONFIG)} - {"threads", "augmentation"}:
        assert f"| `{name}` |" in text
    for name in asdict(CONFIG.augmentation):
        assert f"| `augmentation.{name}` |" in text


def test_tables_have_as_many_cells_in_every_row() -> None:
    lines = write_card(tiny_export(), tiny_training(), drawn_dataset()).splitlines()
    for line, following in pairwise(lines):
        if line.startswith("|") and following.startswith("|"):
            assert line.count("|") == following.count("|")


def test_the_card_mentions_near_duplicates_in_the_training_data() -> None:
    elder = replace(tiny_training(), fingerprint="0" * 64)
    text = write_card(tiny_export(), elder, drawn_dataset())
    assert "`" + "0" * 64 + "`. The training also used near duplicates" in text
    assert "duplicates" not in write_card(tiny_export(), tiny_training(), drawn_dataset())
