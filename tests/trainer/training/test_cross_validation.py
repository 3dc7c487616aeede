from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from batch.errors import InputError, UsageError
from batch.path_text import path_text
from batch.records import Region
from tests.support.trainer_data import CONFIG, SIDE, drawn_dataset
from trainer.datasets.dataset import Dataset, Split, concatenate, select_samples
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.duplicates import (
    compute_perceptual_hash,
    group_alike_faces,
    group_near_duplicates,
)
from trainer.evaluation.out_of_fold import (
    OUT_OF_FOLD_FILE,
    assign_folds,
    name_sample,
    read_out_of_fold,
    write_mistakes,
)
from trainer.training.checkpoint import load_trained_network
from trainer.training.config import Config
from trainer.training.cross_validation import cross_validate
from trainer.training.loop import predict_logits, train
from trainer.training.probe import fit_classifier

SHORT = replace(CONFIG, epochs=1)


def small() -> Dataset:
    data = drawn_dataset()
    few = np.arange(30)
    return replace(data, train=select_samples(data.train, few), test=select_samples(data.test, few))


def test_groups_stay_whole_and_classes_even() -> None:
    groups = np.array([0, 0, 2, 3, 4, 5, 6, 7, 7, 9, 10, 11])
    targets = np.array([0, 0, 1, 0, 1, 0, 1, 0, 0, 1, 0, 1])
    dealt = assign_folds(groups, targets, 2, seed=1)
    assert dealt[0] == dealt[1]
    assert dealt[7] == dealt[8]
    for fold in (0, 1):
        assert 2 <= int((targets[dealt == fold] == 1).sum()) <= 3
    assert not np.array_equal(dealt, assign_folds(groups, targets, 2, seed=2))
    assert np.array_equal(dealt, assign_folds(groups, targets, 2, seed=1))


def test_every_sample_is_predicted_by_a_network_that_was_not_trained_on_it(tmp_path: Path) -> None:
    data = small()
    answers = cross_validate(data, SHORT, tmp_path, folds=2, seed=1)
    pool = data.get_split("all")
    assert len(answers.names) == len(pool) == len(answers.folds)
    for fold in (0, 1):
        held = answers.folds == fold
        trained = load_trained_network(tmp_path / f"fold-{fold + 1}")
        logits = predict_logits(trained.network, pool.pixels[held]).numpy()
        assert np.array_equal(answers.logits[held], logits)
    learnt = {answers.names[n] for n in np.flatnonzero(answers.folds == 0)}
    assert not learnt & {answers.names[n] for n in np.flatnonzero(answers.folds == 1)}
    assert answers.names[0] == name_sample(pool.pixels[0])


def spy_on_training(monkeypatch: pytest.MonkeyPatch) -> dict[str, Dataset]:
    """Collect the training data of each fold, by the folder of the fold."""
    seen: dict[str, Dataset] = {}

    def spy(data: Dataset, config: Config, run: Path, *, is_fold: bool) -> object:
        assert is_fold, "the held-out fold must not choose the epoch"
        seen[run.name] = data
        return train(data, config, run, is_fold=is_fold)

    monkeypatch.setattr("trainer.training.cross_validation.train", spy)
    return seen


def test_mistakes_are_listed_by_file_with_the_most_certain_first(tmp_path: Path) -> None:
    pixels = np.zeros((4, 8, 8, 1), np.uint8)
    part = Split(
        pixels,
        np.eye(2, dtype=np.float32)[[0, 0, 1, 1]],
        np.array([True, True, True, False]),
        names=np.array(["a.jpg", "=b.jpg", "c.jpg", "uncertain.jpg"], np.object_),
    )
    probabilities = np.array([[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [1.0, 0.0]], np.float32)
    assert write_mistakes(tmp_path / "m.csv", part, probabilities, ("happy", "sad")) == 2
    with (tmp_path / "m.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["file", "label", "answer", "probability"],
            [path_text(Path("=b.jpg")), "happy", "sad", "0.9000"],
            ["a.jpg", "happy", "sad", "0.6000"],
        ]


def test_no_fold_is_trained_on_a_sample_that_it_holds_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = spy_on_training(monkeypatch)
    answers = cross_validate(small(), SHORT, tmp_path, folds=3, seed=1)
    for fold in range(3):
        learnt = set(map(name_sample, seen[f"fold-{fold + 1}"].train.pixels))
        held = {answers.names[n] for n in np.flatnonzero(answers.folds == fold)}
        assert held
        assert not learnt & held
        assert learnt | held == set(answers.names)


def test_a_group_is_held_out_as_a_whole_and_weights_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No two snapshots are near duplicates, so only their groups keep them together.
    part = replace(
        snapshots(48, SIDE, 1),
        weights=np.arange(1, 49, dtype=np.float32),
        groups=np.array(["ann", "bob", "", "ann"] * 2 + [""] * 38 + ["bob", "ann"]),
    )
    data = split_evenly(drawn_dataset(), part)
    seen = spy_on_training(monkeypatch)
    answers = cross_validate(data, SHORT, tmp_path, folds=4, seed=1)
    for group in ("ann", "bob"):
        assert len(set(answers.folds[part.groups == group].tolist())) == 1
    for fold in range(4):
        learnt = seen[f"fold-{fold + 1}"].train
        assert np.array_equal(learnt.weights, part.weights[answers.folds != fold])
        assert len(learnt) >= 32


def snapshots(count: int, side: int, channels: int) -> Split:
    """Draw snapshots, no two of them near duplicates."""
    faces = [draw_snapshot(tuple(Mood)[n % 2], side, channels, n) for n in range(count)]
    return Split(
        pixels=np.stack(faces),
        votes=np.eye(3, dtype=np.float32)[np.arange(count) % 2],
        certain=np.ones(count, np.bool_),
    )


def split_evenly(data: Dataset, pool: Split) -> Dataset:
    """Divide samples into three splits of one size, in their order."""
    size = len(pool) // 3
    parts = [select_samples(pool, np.arange(n * size, (n + 1) * size)) for n in range(3)]
    return replace(data, train=parts[0], validation=parts[1], test=parts[2])


def test_near_duplicates_share_a_fold(tmp_path: Path) -> None:
    originals = snapshots(24, SIDE, 1)
    copies = replace(originals, pixels=np.clip(originals.pixels, 3, 255) - np.uint8(3))
    data = split_evenly(drawn_dataset(), concatenate((originals, copies)))
    answers = cross_validate(data, SHORT, tmp_path, folds=4, seed=1)
    assert np.array_equal(answers.folds[:24], answers.folds[24:])
    assert len(set(answers.folds.tolist())) == 4


def test_no_probe_is_fitted_to_the_fold_that_it_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[np.ndarray] = []

    def spy(network: Any, features: Any, votes: Any, *rest: Any) -> None:
        fitted.append(features.numpy())
        fit_classifier(network, features, votes, *rest)

    monkeypatch.setattr("trainer.training.cross_validation.fit_classifier", spy)
    data = split_evenly(drawn_dataset(), snapshots(24, 32, 3))
    data = replace(data, framing=replace(data.framing, side=32, channels=3))
    config = Config(network="efficientnet-lite0", probe=0.5, epochs=0, threads=1)
    answers = cross_validate(data, config, tmp_path, folds=3, seed=1)
    # Each sample comes twice, as it is and mirrored, to the two probes of the other folds.
    rows = [row.tobytes() for features in fitted for row in features]
    assert len(fitted) == 3
    for fold, features in enumerate(fitted):
        assert len(features) == 2 * int((answers.folds != fold).sum())
    assert all(rows.count(row) == 2 for row in set(rows))


def test_out_of_fold_predictions_are_read_back_as_written(tmp_path: Path) -> None:
    answers = cross_validate(small(), SHORT, tmp_path, folds=2, seed=1)
    again = read_out_of_fold(tmp_path / OUT_OF_FOLD_FILE)
    assert (again.labels, again.names) == (answers.labels, answers.names)
    assert again.recipe == answers.recipe
    assert np.array_equal(again.targets, answers.targets)
    assert np.array_equal(again.folds, answers.folds)
    assert np.allclose(again.logits, answers.logits, atol=1e-6)


def test_settings_that_leak_held_out_samples_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="set patience = 0"):
        cross_validate(small(), replace(SHORT, patience=2), tmp_path, folds=2, seed=1)
    with pytest.raises(UsageError, match="fewer photos than 5000 folds"):
        cross_validate(small(), SHORT, tmp_path, folds=5000, seed=1)


def test_missing_or_damaged_predictions_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trainer crossvalidate --run"):
        read_out_of_fold(tmp_path / OUT_OF_FOLD_FILE)
    (tmp_path / OUT_OF_FOLD_FILE).write_text(
        "data,d,settings,s\nsample,label,fold,a,b\nx,c,0,1,2\n"
    )
    with pytest.raises(InputError, match="is damaged"):
        read_out_of_fold(tmp_path / OUT_OF_FOLD_FILE)


def test_copies_of_faces_and_of_photos_are_found_by_rules_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups: list[npt.NDArray[np.int64]] = []

    def spy(found: npt.NDArray[np.int64], *_others: object) -> None:
        groups.append(found)
        raise KeyboardInterrupt

    monkeypatch.setattr("trainer.training.cross_validation.assign_folds", spy)
    faces = small()
    photos = replace(faces, framing=replace(faces.framing, region=Region.IMAGE))
    for data in (faces, photos):
        with pytest.raises(KeyboardInterrupt):
            cross_validate(data, SHORT, tmp_path, folds=2, seed=1)
    pixels = faces.get_split("all").pixels
    assert groups[0].tolist() == group_alike_faces(pixels).tolist()
    assert groups[1].tolist() == group_near_duplicates(compute_perceptual_hash(pixels)).tolist()
    assert groups[0].tolist() != groups[1].tolist()
