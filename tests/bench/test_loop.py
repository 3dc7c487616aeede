from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.nights import LabelledPhotos, split_alike, split_by_face
from bench.right_answers import FIRST, RightAnswers, find_least_certain
from tests.support.trainer_data import write_folders


def logits(
    right: list[bool], targets: list[int]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    said = [
        target if is_right else 1 - target for is_right, target in zip(right, targets, strict=True)
    ]
    return np.eye(2, dtype=np.float32)[said]


def test_photos_count_alike_however_often_they_were_judged() -> None:
    targets = np.array([0, 1, 0, 1])
    turns = RightAnswers(targets)
    turns.note(FIRST, np.array([0, 1]), logits([True, False], [0, 1]))
    turns.note(FIRST, np.array([1]), logits([True], [1]))
    turns.note("more", np.array([0, 1]), logits([True, True], [0, 1]))
    turns.note("more", np.array([1]), logits([True], [1]))
    table = turns.table("Photos")
    assert table.title == "Photos, 2 to judge by"
    (_, before, _), (_, after, gain) = table.rows
    assert before.startswith("0.7500")
    assert after == "1.0000 (1.0000 to 1.0000)"
    assert gain.startswith("+0.2500")


def test_a_reviewer_sees_the_least_certain_first() -> None:
    odds = np.array([[5.0, 0.0], [0.0, 0.1], [1.0, 2.0], [0.0, 9.0]], dtype=np.float32)
    assert find_least_certain(odds, 2).tolist() == [1, 2]


def test_nights_share_no_photo_with_the_data_or_what_is_judged_by(tmp_path: Path) -> None:
    photos = LabelledPhotos(write_folders(tmp_path, 10))
    # Drawn faces are none to a detector; here some are.
    photos.has_face = photos.targets == 0
    nights = [*split_alike(photos, [1, 2]), *split_by_face(photos, [1], faces_first=True)]
    assert len(nights) == 2 * 5 + 2
    for night in nights:
        parts = (night.data, night.night, night.judged)
        assert all(map(len, parts))
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
        groups = [set(photos.groups[part].tolist()) for part in parts]
        assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    network, head = photos.fit_network(nights[0].data)
    seen = photos.seen(network, nights[0].data)
    assert (head.logits(seen).argmax(axis=1) == photos.targets[nights[0].data]).mean() > 0.8
