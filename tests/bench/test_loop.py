"""Splits of photos, and the accuracy of each way of learning over the turns of the loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.loop import FIRST, RightAnswers, find_least_certain
from bench.loop_data import LabelledPhotos, split_alike, split_by_face
from tests.support.trainer_data import write_folders


def logits(
    right: list[bool], targets: list[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    answers = [
        target if is_right else 1 - target for is_right, target in zip(right, targets, strict=True)
    ]
    return np.eye(2, dtype=np.float32)[answers]


def test_photos_have_equal_weight_however_often_they_were_evaluated() -> None:
    targets = np.array([0, 1, 0, 1])
    answers = RightAnswers(targets)
    answers.add(FIRST, np.array([0, 1]), logits([True, False], [0, 1]))
    answers.add(FIRST, np.array([1]), logits([True], [1]))
    answers.add("more", np.array([0, 1]), logits([True, True], [0, 1]))
    answers.add("more", np.array([1]), logits([True], [1]))
    table = answers.table("Photos")
    assert table.title == "Photos, 2 to judge by"
    (_, before, _), (_, after, gain) = table.rows
    assert before.startswith("0.7500")
    assert after == "1.0000 (1.0000 to 1.0000)"
    assert gain.startswith("+0.2500")


def test_a_reviewer_sees_the_least_certain_first() -> None:
    odds = np.array([[5.0, 0.0], [0.0, 0.1], [1.0, 2.0], [0.0, 9.0]], dtype=np.float32)
    assert find_least_certain(odds, 2).tolist() == [1, 2]


def test_the_parts_of_a_split_share_no_photo_and_no_near_duplicate(tmp_path: Path) -> None:
    photos = LabelledPhotos(write_folders(tmp_path, 10))
    # The detector finds no drawn faces; pretend that it finds some.
    photos.has_face = photos.targets == 0
    splits = [*split_alike(photos, [1, 2]), *split_by_face(photos, [1], faces_first=True)]
    assert len(splits) == 2 * 5 + 2
    for split in splits:
        parts = (split.train, split.incoming, split.evaluation)
        assert all(map(len, parts))
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
        groups = [set(photos.groups[part].tolist()) for part in parts]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    train = splits[0].train
    network, head = photos.fit_network(train)
    features = photos.compute_features(network, train)
    assert (head.logits(features).argmax(axis=1) == photos.targets[train]).mean() > 0.8
