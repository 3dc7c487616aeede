from __future__ import annotations

import numpy as np
import pytest

from batch.errors import UsageError
from batch.records import Abstain
from tests.support.trainer_data import make_wide_split
from trainer.exporting.label_selection import select_labels

WIDE = ("happiness", "sadness", "neutral", "anger")
ABSTAINING = ("angry", "happy", "sad", "neither", "no_person")
HAPPY_SAD = {"happy": "happiness", "sad": "sadness"}


def test_all_labels_are_selected_by_default() -> None:
    found = select_labels(None, None, WIDE)
    assert (found.labels, found.abstain, found.columns) == (WIDE, (), (0, 1, 2, 3))
    assert found.joined is None


def test_other_labels_can_be_dropped() -> None:
    found = select_labels({"sad": "sadness", "happy": "happiness"}, None, WIDE)
    assert (found.labels, found.columns) == (("sad", "happy"), (1, 0))
    assert found.groups.tolist() == [1, 0, -1, -1]
    assert found.joined is None


def test_the_rest_is_joined() -> None:
    found = select_labels(HAPPY_SAD, Abstain.NEITHER, WIDE)
    assert found.outputs == ("happy", "sad", "neither")
    assert found.columns == (0, 1, 2, 3)
    assert found.joined is not None
    assert found.joined.tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1]]


def test_one_label_that_is_left_needs_no_sum() -> None:
    found = select_labels(HAPPY_SAD, Abstain.NEITHER, WIDE[:3])
    assert found.outputs == ("happy", "sad", "neither")
    assert found.joined is None


def test_abstain_classes_always_stay_and_the_rest_joins_them() -> None:
    kept = select_labels({"joy": "happy", "sad": "sad"}, None, ABSTAINING)
    assert kept.outputs == ("joy", "sad", "neither", "no_person")
    assert kept.columns == (1, 2, 3, 4)
    assert kept.groups.tolist() == [-1, 0, 1, 2, 3]
    joined = select_labels({"joy": "happy", "sad": "sad"}, Abstain.NEITHER, ABSTAINING)
    assert joined.outputs == kept.outputs
    assert joined.groups.tolist() == [2, 0, 1, 2, 3]
    assert joined.columns == (1, 2, 0, 3, 4)
    assert joined.joined is not None
    assert joined.joined.tolist() == [
        [1, 0, 0, 0, 0],
        [0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_samples_are_those_of_the_selected_classes() -> None:
    part = make_wide_split(40, 0)
    two = select_labels(HAPPY_SAD, None, WIDE)
    assert np.bincount(two.samples(part).targets).tolist() == [10, 10]
    assert len(two.select_agreed(part)) == int((part.certain & (part.targets < 2)).sum())
    three = select_labels(HAPPY_SAD, Abstain.NEITHER, WIDE)
    assert np.bincount(three.samples(part).targets).tolist() == [10, 10, 20]


@pytest.mark.parametrize(
    ("wanted", "rest", "classes", "why"),
    [
        ({"a": "joy", "b": "sadness"}, None, WIDE, "no label joy; choose from happiness"),
        ({"a": "neither", "b": "sad"}, None, ABSTAINING, "no label neither"),
        ({"a": "sadness", "b": "sadness"}, None, WIDE, "two or more different labels"),
        ({"a": "sadness"}, None, WIDE, "two or more different labels"),
        ({"neither": "sadness", "b": "anger"}, None, WIDE, "neither is the name of an abstain"),
        (None, Abstain.NEITHER, WIDE, "--rest needs labels that are not in --labels"),
    ],
)
def test_invalid_selections_are_refused(
    wanted: dict[str, str] | None, rest: Abstain | None, classes: tuple[str, ...], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        select_labels(wanted, rest, classes)
