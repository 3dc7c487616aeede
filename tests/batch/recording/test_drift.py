"""Drift is reported if the answers change by more than photos and sampling error explain."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import pvariance

import numpy as np
import pytest

from batch.models.ensemble import load_ensemble
from batch.options import Job, Options
from batch.recording.drift import (
    MIN_PHOTOS,
    Baseline,
    Drift,
    Profile,
    ProfileBuilder,
    bound_chance,
    find_drift,
    read_baseline,
    total_variation,
)
from batch.recording.drift_check import DriftCheck
from batch.records import Answer, Failure, Reason, Row, Source, Stage, Status
from tests.support.abstaining import save_abstaining

PATH = Path("a.jpg")
NO_SHARES: Mapping[Source, Mapping[str, float]] = {}
EVEN = {Source.FACE: {"happy": 0.5, "sad": 0.5}}


def profile(
    happy: int,
    sad: int,
    confidence: float = 0.9,
    spread: float = 0.1,
    unsure: int = 0,
    image: int = 0,
    abstained: Mapping[str, int] | None = None,
) -> Profile:
    answers = happy + sad + unsure + sum((abstained or {}).values())
    return Profile(
        by_label={"happy": happy, "sad": sad},
        by_source={"face": happy + sad - image, "image": image, "both": 0},
        answers=answers,
        confidence=confidence * answers,
        confidence_squared=(confidence**2 + spread**2) * answers,
        by_abstain=abstained or {},
    )


def abstained(neither: int, no_person: int) -> dict[str, int]:
    return {"neither": neither, "no_person": no_person}


def row(status: Status, label: str, confidence: float, source: Source = Source.FACE) -> Row:
    return Row(PATH, status, Answer(status, label, confidence, {}), source)


def test_the_same_answers_do_not_drift() -> None:
    drift = find_drift(profile(3000, 1000), profile(3000, 1000), NO_SHARES)
    assert drift.from_last_run == 0
    assert drift.confidence_change == 0
    assert drift.from_model is None
    assert drift.photos == 4000
    assert drift.mean_confidence == pytest.approx(0.9)
    assert drift.warnings == ()


@pytest.mark.parametrize(("happy", "warned"), [(9400, False), (9600, True)])
def test_shares_that_move_by_more_than_the_limit_are_reported(happy: int, warned: bool) -> None:
    drift = find_drift(profile(happy, 10_000 - happy), profile(500, 9500), NO_SHARES)
    assert drift.from_last_run == pytest.approx((happy - 500) / 10_000)
    assert bool(drift.warnings) is warned
    assert all("happy is 96%, not 5%" in line for line in drift.warnings)


@pytest.mark.parametrize(
    ("mean", "warned"), [(0.86, False), (0.84, True), (0.94, False), (0.96, False)]
)
def test_confidence_that_falls_by_more_than_the_limit_is_reported(
    mean: float, warned: bool
) -> None:
    drift = find_drift(profile(600, 400, mean), profile(600, 400, 0.9), NO_SHARES)
    assert drift.confidence_change == pytest.approx(mean - 0.9)
    assert bool(drift.warnings) is warned
    assert all(
        f"of the 1,000 photos with an answer that this run labelled is {mean:.2f}, not 0.90" in line
        for line in drift.warnings
    )


def test_a_first_run_of_smiles_only_is_not_drift() -> None:
    drift = find_drift(profile(10_000, 0), None, EVEN)
    assert drift.from_model == pytest.approx(0.5)
    assert drift.from_last_run is drift.confidence_change is None
    assert drift.warnings == ()


def test_smiles_after_calm_portraits_are_no_drift() -> None:
    calm = profile(20, 10, abstained=abstained(970, 0))
    smiling = profile(860, 0, abstained=abstained(140, 0))
    assert find_drift(smiling, calm, NO_SHARES).warnings == ()
    assert find_drift(calm, smiling, NO_SHARES).warnings == ()


def test_each_model_is_expected_to_answer_as_it_was_trained() -> None:
    shares = {
        Source.FACE: {"happy": 1.0, "sad": 0.0},
        Source.IMAGE: {"happy": 0.0, "sad": 1.0},
    }
    drift = find_drift(profile(600, 400, image=400), None, shares)
    assert drift.from_model == pytest.approx(0)
    together = Profile({"happy": 500, "sad": 500}, {"face": 0, "image": 0, "both": 1000}, 0, 0, 0)
    assert find_drift(together, None, shares).from_model == pytest.approx(0)


@pytest.mark.parametrize(
    "own",
    [
        {},
        {"happy": 1.0},
        {"happy": 0.0, "sad": 0.0},
        {"happy": -1.0, "sad": 2.0},
        {"happy": float("nan"), "sad": 0.5},
        {"happy": "0.5", "sad": "0.5"},
    ],
)
def test_invalid_label_shares_are_not_compared(own: dict[str, float]) -> None:
    assert find_drift(profile(900, 100), None, {Source.FACE: own}).from_model is None


def test_shares_need_not_sum_to_one() -> None:
    drift = find_drift(profile(500, 500), None, {Source.FACE: {"happy": 3, "sad": 3}})
    assert drift.from_model == pytest.approx(0)


@pytest.mark.parametrize("few", ["now", "before"])
def test_few_photos_are_not_compared(few: str) -> None:
    all_sad, all_happy = profile(0, MIN_PHOTOS - 1, 0.5), profile(10_000, 0)
    pair = (all_sad, all_happy) if few == "now" else (all_happy, all_sad)
    drift = find_drift(*pair, EVEN if few == "now" else NO_SHARES)
    assert drift.from_last_run is drift.confidence_change is drift.from_model is None
    assert drift.warnings == ()


def test_an_empty_run_is_not_compared() -> None:
    drift = find_drift(profile(0, 0), profile(0, 0), EVEN)
    assert (drift.photos, drift.mean_confidence, drift.warnings) == (0, None, ())


def test_another_models_labels_are_not_compared() -> None:
    other = Profile({"joy": 500, "grief": 500}, {"face": 1000}, 1000, 900.0, 810.0)
    drift = find_drift(profile(900, 100), other, NO_SHARES)
    assert drift.from_last_run is drift.confidence_change is None


def test_a_run_of_mostly_no_person_is_drift() -> None:
    before = profile(300, 200, abstained=abstained(450, 50))
    now = profile(3, 2, abstained=abstained(5, 990))
    drift = find_drift(now, before, NO_SHARES)
    assert drift.photos == 1000
    assert drift.from_last_run == pytest.approx(0.94)
    (line,) = drift.warnings
    assert line == (
        "the shares of answers differ much from earlier runs: of the 1,000 photos with a certain "
        "answer that this run labelled, no_person is 99%, not 5%"
    )


def test_a_run_of_no_person_only_is_drift() -> None:
    before = profile(500, 500, abstained=abstained(0, 0))
    drift = find_drift(profile(0, 0, abstained=abstained(0, 1000)), before, EVEN)
    assert (drift.from_last_run, drift.from_model) == (1, None)
    assert len(drift.warnings) == 1


def test_photos_without_a_label_count_towards_the_minimum() -> None:
    before = profile(30, 20, abstained=abstained(500, 0))
    assert find_drift(profile(30, 20, abstained=abstained(49, 0)), before, EVEN).photos == 99
    drift = find_drift(profile(30, 20, abstained=abstained(50, 0)), before, EVEN)
    assert drift.from_last_run is not None
    assert drift.from_model is None, "labels alone are compared with the training data's"


def test_training_data_are_compared_by_labels_alone() -> None:
    drift = find_drift(profile(500, 500, abstained=abstained(9000, 0)), None, EVEN)
    assert drift.from_model == 0


def test_a_last_run_that_could_not_abstain_is_compared_by_labels_alone() -> None:
    now = profile(300, 200, abstained=abstained(9000, 500))
    drift = find_drift(now, profile(600, 400), NO_SHARES)
    assert (drift.from_last_run, drift.warnings) == (0, ())
    happy = profile(600, 10, abstained=abstained(9000, 500))
    (line,) = find_drift(happy, profile(1, 600), NO_SHARES).warnings
    assert "the shares of labels differ much" in line
    # Models with other abstain outputs than the last run's.
    other = profile(600, 400, abstained={"neither": 5000})
    assert find_drift(now, other, NO_SHARES).from_last_run == 0


def test_unsure_answers_count_only_for_the_confidence() -> None:
    drift = find_drift(profile(10, 0, 0.6, unsure=500), profile(500, 500, 0.9), NO_SHARES)
    assert drift.from_last_run is None
    assert len(drift.warnings) == 1
    assert "confidence" in drift.warnings[0]


def test_a_change_within_sampling_error_gives_no_warning() -> None:
    """With a hundred photos the mean must fall further than with thousands."""
    wide = find_drift(profile(60, 40, 0.84, 0.3), profile(600, 400, 0.9, 0.3), NO_SHARES)
    assert wide.confidence_change == pytest.approx(-0.06)
    assert wide.warnings == ()


@pytest.mark.parametrize("photos", [MIN_PHOTOS, 300, 3000])
def test_samples_of_the_same_photos_rarely_give_a_warning(photos: int) -> None:
    """Two runs drawn from the same eight labels, a thousand times.

    The bound on shares is never passed here; that on confidence is passed at the rate of
    FALSE_ALARMS, which is 0.1 in these runs.
    """
    random = np.random.default_rng(5)
    shares = dict(zip("abcdefgh", (0.36, 0.3, 0.11, 0.12, 0.08, 0.01, 0.01, 0.01), strict=True))
    labels = list(shares)

    def draw_run() -> Profile:
        counts = random.multinomial(photos, list(shares.values())).tolist()
        by_label = dict(zip(labels, counts, strict=True))
        sure = random.beta(4, 2, size=photos)
        return Profile(
            by_label, {"face": photos}, photos, float(sure.sum()), float((sure**2).sum())
        )

    runs = [find_drift(draw_run(), draw_run(), {Source.FACE: shares}) for _ in range(1000)]
    warnings = [line for drift in runs for line in drift.warnings]
    assert [line for line in warnings if "confidence" not in line] == []
    assert len(warnings) <= 2


def test_a_large_change_in_a_hundred_photos_is_reported() -> None:
    drift = find_drift(profile(1, 99), profile(6000, 40), NO_SHARES)
    assert len(drift.warnings) == 1


DRIFTED = profile(600, 400, 0.7)
USUAL = profile(600, 400, 0.9)


def _follow(reference: Baseline, *runs: Profile, accept: bool = False) -> tuple[Baseline, Drift]:
    for now in runs:
        drift = find_drift(now, reference.usual, NO_SHARES, accept)
        reference = reference.add_run(now, drift, accept)
    return reference, drift


def test_drift_is_reported_by_every_run_until_it_is_accepted() -> None:
    reference, drift = _follow(Baseline(USUAL), DRIFTED, DRIFTED)
    assert len(drift.warnings) == 1
    assert (reference.usual, reference.drifted) == (USUAL, DRIFTED + DRIFTED)
    reference, drift = _follow(reference, profile(0, 0), accept=True)
    assert drift.warnings == ()
    assert (reference.usual, reference.drifted) == (DRIFTED + DRIFTED + profile(0, 0), None)
    _, drift = _follow(reference, DRIFTED)
    assert drift.warnings == ()


def test_answers_may_be_accepted_in_the_run_that_they_come_in() -> None:
    reference, drift = _follow(Baseline(USUAL), DRIFTED, accept=True)
    assert (drift.warnings, len(drift.accepted)) == ((), 1)
    assert reference == Baseline(DRIFTED)


def test_accepting_without_drift_changes_nothing() -> None:
    accepted, _ = _follow(Baseline(USUAL), USUAL, profile(3, 2), accept=True)
    assert accepted == _follow(Baseline(USUAL), USUAL, profile(3, 2))[0]


def test_drifted_answers_are_forgotten_once_a_run_does_not_drift() -> None:
    few = profile(3, 2, 0.2)
    reference, _ = _follow(Baseline(USUAL), DRIFTED, few)
    assert reference.drifted == DRIFTED, "too few photos to tell"
    reference, _ = _follow(reference, USUAL)
    assert reference == Baseline(USUAL + few + USUAL)


def test_models_with_other_outputs_get_a_new_baseline() -> None:
    now = profile(600, 400, abstained=abstained(9, 1))
    assert _follow(Baseline(USUAL), now)[0] == Baseline(now)


def test_a_baseline_goes_through_json() -> None:
    reference = Baseline(USUAL, profile(1, 2, abstained=abstained(3, 4)), "0.5 False")
    assert read_baseline(json.dumps(asdict(reference))) == reference


@pytest.mark.parametrize("text", [None, "", "{}", "[1]", "no JSON", '{"usual": {}}'])
def test_a_damaged_baseline_is_ignored(text: str | None) -> None:
    assert read_baseline(text) is None


def test_distance_is_the_share_that_would_have_to_change() -> None:
    assert total_variation({"a": 0.5, "b": 0.5}, {"a": 0.2, "b": 0.5, "c": 0.3}) == pytest.approx(
        0.3
    )
    assert total_variation({"a": 1.0}, {"b": 1.0}) == 1


def test_sampling_error_shrinks_with_the_number_of_photos() -> None:
    shares = {"happy": 0.5, "sad": 0.5}
    assert bound_chance(shares, 1 / 100) == pytest.approx(10 * bound_chance(shares, 1 / 10_000))
    assert bound_chance(shares, 1 / 100) > 0.2


def test_a_label_with_line_breaks_stays_on_one_line() -> None:
    names = {"a\nb": 500, "c": 0}
    now = Profile(names, {"face": 500}, 500, 450.0, 405.0)
    before = Profile({"a\nb": 10, "c": 490}, {"face": 500}, 500, 450.0, 405.0)
    (line,) = find_drift(now, before, NO_SHARES).warnings
    assert "a\\nb is 100%, not 2%" in line


def test_a_builder_counts_sure_answers_and_all_confidences() -> None:
    builder = ProfileBuilder(("happy", "sad", "angry"))
    for each in (
        row(Status.OK, "happy", 0.9),
        row(Status.OK, "happy", 0.8, Source.IMAGE),
        row(Status.OK, "sad", 0.7, Source.BOTH),
        row(Status.UNSURE, "sad", 0.5),
        Row(PATH, Status.NO_FACE),
        Row(PATH, Status.FAILED, failure=Failure(PATH, Stage.READ, Reason.EMPTY, "")),
    ):
        builder.add(each)
    profile = builder.profile()
    assert profile.by_label == {"happy": 2, "sad": 1, "angry": 0}
    assert profile.by_source == {"face": 1, "image": 1, "both": 1}
    assert (profile.sure, profile.answers) == (3, 4)
    assert profile.mean_confidence == pytest.approx(0.725)
    assert profile.variance == pytest.approx(pvariance([0.9, 0.8, 0.7, 0.5]) / 4)


def test_photos_without_a_label_are_counted_by_their_status_alone() -> None:
    builder = ProfileBuilder(("happy", "sad"), ("neither", "no_person"))
    builder.add(row(Status.OK, "sad", 0.7))
    for confidence in (0.6, 0.8):
        answer = Answer(Status.NO_PERSON, None, confidence, {})
        builder.add(Row(PATH, Status.NO_PERSON, answer, Source.IMAGE))
    profile = builder.profile()
    assert profile.by_abstain == {"neither": 0, "no_person": 2}
    assert profile.by_outcome == {"happy": 0, "sad": 1, "neither": 0, "no_person": 2}
    assert (profile.sure, profile.answers) == (1, 3)
    assert profile.mean_confidence == pytest.approx(0.7)
    assert sum(profile.by_source.values()) == 1


def test_an_empty_profile_has_no_mean() -> None:
    profile = ProfileBuilder(("happy",)).profile()
    assert profile.mean_confidence is None
    assert profile.variance == math.inf


def test_equal_confidences_have_no_negative_variance() -> None:
    builder = ProfileBuilder(("happy",))
    for _ in range(1000):
        builder.add(row(Status.OK, "happy", 0.1))
    assert 0 <= builder.profile().variance < 1e-15


def test_a_profile_goes_through_json() -> None:
    builder = ProfileBuilder(("happy", "sad"), ("no_person",))
    builder.add(row(Status.OK, "sad", 0.7))
    assert Profile(**json.loads(json.dumps(asdict(builder.profile())))) == builder.profile()


def test_two_profiles_are_joined_as_if_one_had_seen_all() -> None:
    builders = [ProfileBuilder(("happy", "sad"), ("neither",)) for _ in range(3)]
    answers = [row(Status.OK, "happy", 0.9), row(Status.UNSURE, "sad", 0.5)]
    for builder, each in zip(builders, answers, strict=False):
        builder.add(each)
        builders[2].add(each)
    one, other, both = (builder.profile() for builder in builders)
    assert one + other == both


@pytest.mark.parametrize("always_answer", [False, True])
def test_a_run_that_always_answers_has_no_abstain_counts(
    tmp_path: Path, always_answer: bool
) -> None:
    """Without counts, such a run and one that abstains are compared by their labels only."""
    save_abstaining(tmp_path)
    model = f"{tmp_path}/face.onnx+{tmp_path}/image.onnx"
    ensemble = load_ensemble(Options(model=model, always_answer=always_answer))
    profile = DriftCheck(Job((), "r.csv"), ensemble).new_profile().profile()
    assert profile.by_label == {"happy": 0, "sad": 0}
    assert profile.by_abstain == ({} if always_answer else {"neither": 0, "no_person": 0})
