"""Rules that choose photos to review, and the splits that they are measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bench.loop_data import FURTHER_SHOTS, LabelledPhotos, split_series, split_with_new_kind
from bench.review_choice import choose_distinct, choose_spread, make_rules
from tests.support.trainer_data import write_folders


def test_a_spread_choice_takes_the_photo_that_is_farthest_from_all_chosen_ones() -> None:
    places = np.array([[0.0], [1.0], [10.0], [4.0], [11.0]], dtype=np.float32)
    order = np.array([1, 0, 2, 3, 4])
    assert choose_spread(order, places, 3).tolist() == [1, 4, 3]
    assert sorted(choose_spread(order, places, 5).tolist()) == [0, 1, 2, 3, 4]


def test_a_distinct_choice_takes_one_photo_of_a_series_while_there_are_others() -> None:
    places = np.array([[0.0], [1.0], [100.0], [200.0]], dtype=np.float32)
    order = np.array([1, 0, 3, 2])
    assert choose_distinct(order, places, 3).tolist() == [1, 3, 2]
    assert choose_distinct(order, places, 4).tolist() == [1, 3, 2, 0]


def test_the_shots_of_a_series_stay_in_one_part_and_only_first_ones_measure(tmp_path: Path) -> None:
    photos = LabelledPhotos(write_folders(tmp_path, 10), series_share=0.5)
    further = ~photos.is_first
    assert further.sum() % FURTHER_SHOTS == 0
    assert 0 < further.sum() < len(photos.targets)
    for split in split_series(photos, [1]):
        assert not further[np.concatenate([split.train, split.evaluation])].any()
        of_incoming = set(photos.groups[split.incoming].tolist())
        for part in (split.train, split.evaluation):
            assert not of_incoming & set(photos.groups[part].tolist())
    # The detector finds no drawn faces; pretend that it finds some.
    photos.has_face = photos.targets == 0
    splits = list(split_with_new_kind(photos, [1]))
    assert len(splits) == 3
    for split in splits:
        assert photos.has_face[split.train].all()
        for part in (split.incoming, split.evaluation):
            assert set(photos.has_face[part].tolist()) == {False, True}
        parts = (split.train, split.incoming, split.evaluation)
        assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    split = splits[0]
    network, head = photos.fit_network(split.train)
    features = photos.compute_features(network, split.incoming)
    logits = head.logits(features)
    rules = make_rules(photos, split, logits, features, 4, np.random.default_rng(1))
    assert "new kind first, least certain" in rules
    for rule in rules.values():
        assert len(np.unique(rule())) == 4
    new_first = rules["new kind first, least certain"]()
    assert not photos.has_face[split.incoming][new_first].any()
