"""A profile is what its rows add up to, and goes through JSON whole."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from statistics import pvariance

import pytest

from batch.recording.profile import Profile, Tally
from batch.records import Answer, Failure, Reason, Row, Source, Stage, Status

PATH = Path("a.jpg")


def row(status: Status, label: str, confidence: float, source: Source = Source.FACE) -> Row:
    return Row(PATH, status, Answer(label, confidence, {}, status is Status.OK), source)


def test_a_tally_counts_sure_answers_and_all_confidences() -> None:
    tally = Tally(("happy", "sad", "angry"))
    for each in (
        row(Status.OK, "happy", 0.9),
        row(Status.OK, "happy", 0.8, Source.IMAGE),
        row(Status.OK, "sad", 0.7, Source.BOTH),
        row(Status.UNSURE, "sad", 0.5),
        Row(PATH, Status.NO_FACE),
        Row(PATH, Status.FAILED, failure=Failure(PATH, Stage.READ, Reason.EMPTY, "")),
    ):
        tally.add(each)
    profile = tally.profile()
    assert profile.by_label == {"happy": 2, "sad": 1, "angry": 0}
    assert profile.by_source == {"face": 1, "image": 1, "both": 1}
    assert (profile.sure, profile.answers) == (3, 4)
    assert profile.mean_confidence == pytest.approx(0.725)
    assert profile.variance == pytest.approx(pvariance([0.9, 0.8, 0.7, 0.5]) / 4)


def test_nothing_has_no_mean() -> None:
    profile = Tally(("happy",)).profile()
    assert profile.mean_confidence is None
    assert profile.variance == math.inf


def test_equal_confidences_have_no_negative_variance() -> None:
    tally = Tally(("happy",))
    for _ in range(1000):
        tally.add(row(Status.OK, "happy", 0.1))
    assert 0 <= tally.profile().variance < 1e-15


def test_a_profile_goes_through_json() -> None:
    tally = Tally(("happy", "sad"))
    tally.add(row(Status.OK, "sad", 0.7))
    assert Profile(**json.loads(json.dumps(asdict(tally.profile())))) == tally.profile()
