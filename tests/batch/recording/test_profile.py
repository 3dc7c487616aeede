"""A profile is what its rows add up to, and goes through JSON whole."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from statistics import pvariance

import pytest

from batch.models.ensemble import load_ensemble
from batch.options import Job, Options
from batch.recording.drift import Profile, ProfileBuilder
from batch.recording.drift_check import DriftCheck
from batch.records import Answer, Failure, Reason, Row, Source, Stage, Status
from tests.support.abstaining import save_abstaining

PATH = Path("a.jpg")


def row(status: Status, label: str, confidence: float, source: Source = Source.FACE) -> Row:
    return Row(PATH, status, Answer(status, label, confidence, {}), source)


def test_a_tally_counts_sure_answers_and_all_confidences() -> None:
    tally = ProfileBuilder(("happy", "sad", "angry"))
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


def test_photos_without_a_label_are_counted_by_their_status_alone() -> None:
    tally = ProfileBuilder(("happy", "sad"), ("neither", "no_person"))
    tally.add(row(Status.OK, "sad", 0.7))
    for confidence in (0.6, 0.8):
        answer = Answer(Status.NO_PERSON, None, confidence, {})
        tally.add(Row(PATH, Status.NO_PERSON, answer, Source.IMAGE))
    profile = tally.profile()
    assert profile.by_abstain == {"neither": 0, "no_person": 2}
    assert profile.by_outcome == {"happy": 0, "sad": 1, "neither": 0, "no_person": 2}
    assert (profile.sure, profile.answers) == (1, 3)
    assert profile.mean_confidence == pytest.approx(0.7)
    assert sum(profile.by_source.values()) == 1


def test_nothing_has_no_mean() -> None:
    profile = ProfileBuilder(("happy",)).profile()
    assert profile.mean_confidence is None
    assert profile.variance == math.inf


def test_equal_confidences_have_no_negative_variance() -> None:
    tally = ProfileBuilder(("happy",))
    for _ in range(1000):
        tally.add(row(Status.OK, "happy", 0.1))
    assert 0 <= tally.profile().variance < 1e-15


def test_a_profile_goes_through_json() -> None:
    tally = ProfileBuilder(("happy", "sad"), ("no_person",))
    tally.add(row(Status.OK, "sad", 0.7))
    assert Profile(**json.loads(json.dumps(asdict(tally.profile())))) == tally.profile()


def test_two_profiles_are_joined_as_if_one_had_seen_all() -> None:
    tallies = [ProfileBuilder(("happy", "sad"), ("neither",)) for _ in range(3)]
    answers = [row(Status.OK, "happy", 0.9), row(Status.UNSURE, "sad", 0.5)]
    for tally, each in zip(tallies, answers, strict=False):
        tally.add(each)
        tallies[2].add(each)
    one, other, both = (tally.profile() for tally in tallies)
    assert one + other == both


@pytest.mark.parametrize("always_answer", [False, True])
def test_a_run_that_always_answers_has_no_abstain_counts(
    tmp_path: Path, always_answer: bool
) -> None:
    """So that such a run and one that abstains are compared by their labels."""
    save_abstaining(tmp_path)
    model = f"{tmp_path}/face.onnx+{tmp_path}/image.onnx"
    ensemble = load_ensemble(Options(model=model, always_answer=always_answer))
    profile = DriftCheck(Job((), "r.csv"), ensemble).new_profile().profile()
    assert profile.by_label == {"happy": 0, "sad": 0}
    assert profile.by_abstain == ({} if always_answer else {"neither": 0, "no_person": 0})
