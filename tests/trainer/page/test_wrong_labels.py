"""Wrong labels are found by judges that have not seen them."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.trainer_data import FRAMING, find_real_data
from trainer.datasets.dataset import Dataset, Framing, Names, Pixels, Split, concatenate
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.labelled_files import load_folders
from trainer.evaluation.metrics import Targets
from trainer.page.answers import Answers
from trainer.page.problems import find_problems
from trainer.page.wrong_labels import NoJudgeError, choose_judges, find_suspects, probe_labels

FLIPPED_SHARE = 0.05


def make_split(pixels: Pixels, targets: Targets, classes: int) -> Split:
    names = np.array([f"{n}.jpg" for n in range(len(pixels))], np.object_)
    votes = np.eye(classes, dtype=np.float32)[targets]
    return Split(pixels, votes, np.ones(len(pixels), np.bool_), names=names)


def flip_labels(part: Split, seed: int) -> tuple[Split, set[str]]:
    """Give 5 % of the samples another label; return the split and the names of these."""
    rng = np.random.default_rng(seed)
    flipped = rng.permutation(len(part))[: round(FLIPPED_SHARE * len(part))]
    classes = part.votes.shape[1]
    targets = part.targets.copy()
    targets[flipped] = (targets[flipped] + rng.integers(1, classes, len(flipped))) % classes
    votes = np.eye(classes, dtype=np.float32)[targets]
    return replace(part, votes=votes), set(part.names[flipped])


def make_dataset(part: Split, labels: tuple[str, ...]) -> Dataset:
    """Make a data set of training samples alone."""
    none = replace(
        part,
        **{
            name: getattr(part, name)[:0]
            for name in ("pixels", "votes", "certain", "weights", "kinds", "groups", "names")
        },
    )
    return Dataset("mine", labels, Framing(), part, none, none)


def draw_faces(count: int) -> Split:
    moods = tuple(Mood)
    pixels = np.stack([draw_snapshot(moods[n % 2], 48, 1, n) for n in range(count)])
    return make_split(pixels, np.arange(count) % 2, 2)


def answer(own: list[float], targets: list[int]) -> Answers:
    """Answers of two classes that give the labels these probabilities."""
    part = make_split(np.zeros((len(own), 4, 4, 1), np.uint8), np.array(targets), 2)
    probabilities = np.empty((len(own), 2), np.float32)
    probabilities[np.arange(len(own)), targets] = own
    probabilities[np.arange(len(own)), 1 - np.array(targets)] = 1 - np.array(own)
    return Answers(part, np.full(len(own), "test", np.object_), probabilities)


def test_a_sample_is_suspect_if_another_class_reaches_its_mean_confidence() -> None:
    # Samples of class 0 give it 0.9, 0.8, 0.7 and 0.1 (mean 0.625), those of 1 0.95, 0.9, 0.45, 0.3
    # (mean 0.65).
    answers = answer([0.9, 0.8, 0.7, 0.1, 0.95, 0.9, 0.45, 0.3], [0, 0, 0, 0, 1, 1, 1, 1])
    found = find_suspects(answers.probabilities, answers.part.targets)
    # The seventh is answered 0 with 0.55, which is less than usual for that class.
    assert found.places.tolist() == [3, 7]
    assert found.suggested.tolist() == [1, 0]
    np.testing.assert_allclose(found.margins, [-0.8, -0.4], atol=1e-6)


def test_nothing_is_suspected_to_be_of_a_class_without_samples() -> None:
    probabilities = np.array([[0.1, 0.0, 0.9], [0.8, 0.1, 0.1]], np.float32)
    assert not len(find_suspects(probabilities, np.array([0, 0])).places)


def test_the_better_judge_is_asked_about_held_out_samples() -> None:
    right, wrong = answer([0.9] * 4, [0, 1, 0, 1]), answer([0.2] * 4, [0, 1, 0, 1])
    splits: Names = np.array(["train", "train", "test", "test"], np.object_)
    for probe, held, expected in (
        (replace(right, splits=splits), wrong, [("probe", 4)]),
        (replace(wrong, splits=splits), right, [("network", 4), ("probe", 2)]),
    ):
        assert [(n, len(those)) for n, those in choose_judges(held, probe)] == expected
    assert [name for name, _ in choose_judges(right, None)] == ["network"]
    assert choose_judges(None, None) == []


def test_flipped_labels_of_drawn_faces_are_found() -> None:
    part, flipped = flip_labels(draw_faces(200), 1)
    problems = find_problems(make_dataset(part, ("happy", "sad")), None)
    (judge,) = problems.judges
    assert (judge.name, judge.judged, judge.what) == ("probe", 200, "training samples")
    found = [problem.name for problem in problems.wrong]
    assert len(flipped & set(found)) >= 8
    # The likeliest come first.
    assert set(found[:6]) <= flipped


def test_flipped_labels_of_real_portraits_are_found(tmp_path: Path) -> None:
    with zipfile.ZipFile(find_real_data("portraits.zip")) as archive:
        wanted = [n for n in archive.namelist() if "/happiness/" in n or "/neutral/" in n]
        archive.extractall(
            tmp_path, [name for name in sorted(wanted) if name.endswith(".jpg")][::2]
        )
    data = load_folders(tmp_path / "portraits", Framing())
    part, flipped = flip_labels(concatenate((data.train, data.validation, data.test)), 1)
    problems = find_problems(make_dataset(part, data.labels), None)
    found = [problem.name for problem in problems.wrong]
    hits = len(flipped & set(found))
    assert hits / len(flipped) >= 0.7
    assert hits / len(found) >= 0.6
    assert len(flipped & set(found[:10])) >= 9


def test_near_duplicates_do_not_vouch_for_each_other() -> None:
    """A copy in another fold would confirm the wrong label of its twin."""
    part, flipped = flip_labels(draw_faces(120), 2)
    twice = concatenate((part, part))
    data = make_dataset(twice, ("happy", "sad"))
    answers = probe_labels(data)
    found = find_suspects(answers.probabilities, answers.part.targets)
    suspects = answers.part.names[found.places].tolist()
    assert len(flipped & set(suspects)) >= len(flipped) - 1
    for name in flipped & set(suspects):
        assert suspects.count(name) == 2


def test_a_model_that_was_trained_on_the_samples_is_no_judge(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainer.evaluation.trained_on import TrainedOn, hash_samples

    data = make_dataset(draw_faces(20), ("happy", "sad"))
    seen = TrainedOn("happy-sad", hash_samples(data.train.pixels[:1]), is_complete=True)
    monkeypatch.setattr("trainer.page.wrong_labels.find_trained_on", lambda *_: seen)
    with pytest.raises(NoJudgeError, match=r"happy-sad, .* was trained on them"):
        probe_labels(data)


def test_too_few_samples_have_no_judge() -> None:
    data = make_dataset(draw_faces(8), ("happy", "sad"))
    with pytest.raises(NoJudgeError, match="fewer than two classes have 5 samples"):
        probe_labels(data)


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_of_other_sizes_and_colours_are_judged(channels: int) -> None:
    moods = tuple(Mood)
    pixels = np.stack([draw_snapshot(moods[n % 2], 32, channels, n) for n in range(20)])
    data = make_dataset(make_split(pixels, np.arange(20) % 2, 2), ("happy", "sad"))
    data = replace(data, framing=replace(FRAMING, side=32, channels=channels))
    answers = probe_labels(data)
    assert answers.probabilities.shape == (20, 2)
    np.testing.assert_allclose(answers.probabilities.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("MAX_COMPARED", "there are 40 samples, more than 39"),
        ("MAX_COMPARED_BYTES", "the samples have 92,160 bytes, more than 39"),
    ],
)
def test_too_many_samples_are_not_compared_which_is_said(
    monkeypatch: pytest.MonkeyPatch, limit: str, words: str
) -> None:
    monkeypatch.setattr(f"trainer.page.problems.{limit}", 39)
    problems = find_problems(make_dataset(draw_faces(40), ("happy", "sad")), None)
    assert problems.not_compared == problems.not_judged == words
    assert not problems.judges
    assert not problems.is_judged
