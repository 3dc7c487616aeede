from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from batch.errors import InputError
from tests.support.trainer_data import drawn_dataset, make_drawn_split
from trainer.datasets.dataset import (
    Split,
    compute_label_shares,
    concatenate,
    keep_classes,
    select_samples,
    sort_classes,
)


def some_part() -> Split:
    votes = np.array([[0.6, 0.3, 0.1], [0.2, 0.1, 0.7], [0.1, 0.8, 0.1]], dtype=np.float32)
    pixels = np.arange(3, dtype=np.uint8).reshape(3, 1, 1, 1)
    return Split(pixels=pixels, votes=votes, certain=np.array([True, False, True]))


def test_narrow_keeps_winners_of_the_chosen_classes_in_the_chosen_order() -> None:
    part = keep_classes(some_part(), (2, 0))
    assert part.pixels.ravel().tolist() == [0, 1]
    assert part.targets.tolist() == [1, 0]
    assert part.certain.tolist() == [True, False]
    np.testing.assert_allclose(part.votes, [[1 / 7, 6 / 7], [7 / 9, 2 / 9]], rtol=1e-6)


def test_join_puts_parts_in_a_row() -> None:
    part = concatenate((some_part(), some_part()))
    assert part.targets.tolist() == [0, 2, 1, 0, 2, 1]
    assert len(part) == 6


def test_weights_kinds_and_groups_go_with_their_samples() -> None:
    plain = some_part()
    assert plain.weights.tolist() == [1, 1, 1]
    assert plain.kinds.tolist() == plain.groups.tolist() == ["", "", ""]
    part = replace(
        plain,
        weights=np.array([1, 2, 3], np.float32),
        kinds=np.array(["pets", "", "rooms"]),
        groups=np.array(["a", "b", ""]),
    )
    narrowed, taken = keep_classes(part, (2, 0)), select_samples(part, np.array([2, 0]))
    assert narrowed.weights.tolist() == [1, 2]
    assert (narrowed.kinds.tolist(), narrowed.groups.tolist()) == (["pets", ""], ["a", "b"])
    assert taken.weights.tolist() == [3, 1]
    assert (taken.kinds.tolist(), taken.groups.tolist()) == (["rooms", "pets"], ["", "a"])
    joined = concatenate((part, plain))
    assert joined.weights.tolist() == [1, 2, 3, 1, 1, 1]
    assert joined.kinds.tolist() == ["pets", "", "rooms", "", "", ""]
    assert part.normalised_weights.tolist() == [0.5, 1, 1.5]


def test_abstain_classes_are_told_by_their_names_and_come_last() -> None:
    assert sort_classes(["no_person", "sad", "happy", "neither", "sad"]) == (
        "happy",
        "sad",
        "neither",
        "no_person",
    )
    data = drawn_dataset()
    assert data.abstain == ()
    abstaining = replace(data, labels=("happiness", "sadness", "no_person"))
    assert abstaining.abstain == ("no_person",)


def test_weights_and_groups_are_in_the_fingerprint_if_there_are_any() -> None:
    data = drawn_dataset()
    ones = replace(data.train, weights=np.ones(len(data.train), np.float32))
    assert replace(data, train=ones).fingerprint == data.fingerprint
    kinds = np.full(len(data.train), "pets")
    assert replace(data, train=replace(ones, kinds=kinds)).fingerprint == data.fingerprint
    heavy = replace(ones, weights=ones.weights * 2)
    grouped = replace(ones, groups=np.full(len(ones), "a"))
    changed = {replace(data, train=part).fingerprint for part in (ones, heavy, grouped)}
    assert len(changed) == 3


def test_label_shares_count_only_what_people_agreed_on() -> None:
    assert compute_label_shares(some_part(), ("a", "b", "c")) == {"a": 0.5, "b": 0.5, "c": 0.0}


def test_fingerprint_changes_with_one_pixel_one_vote_and_one_name() -> None:
    data = drawn_dataset()
    pixels, votes = data.train.pixels.copy(), data.train.votes.copy()
    pixels[0, 0, 0, 0] ^= 1
    votes[0] = votes[1]
    others = (
        replace(data, train=replace(data.train, pixels=pixels)),
        replace(data, train=replace(data.train, votes=votes)),
        replace(data, labels=("happiness", "sadness", "other")),
    )
    assert len({data.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert replace(data, name="renamed").fingerprint == data.fingerprint


def test_an_empty_part_is_an_error_with_a_remedy() -> None:
    data = replace(drawn_dataset(), validation=keep_classes(make_drawn_split(2, 0), (2, 0, 1)))
    assert len(data.get_split("validation")) == 2
    nobody = make_drawn_split(3, 0)
    nobody = Split(nobody.pixels[:0], nobody.votes[:0], nobody.certain[:0])
    data = replace(data, validation=nobody)
    with pytest.raises(InputError, match="validation part of drawn is empty"):
        data.get_split("validation")
    assert len(data.get_split("all")) == len(data.train) + len(data.test)
