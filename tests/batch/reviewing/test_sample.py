"""How often the model is right, measured on the random sample."""

from __future__ import annotations

from dataclasses import replace

from batch.reading.reviews import ReviewLine
from batch.reviewing.reviews_file import Addition, Reviews
from batch.reviewing.sample import measure_sample
from batch.share_interval import compute_share_interval

LINE = ReviewLine("a.jpg", "fa" * 32, None, None, "happy", 0.7, "happy", is_random=True)


def make_lines(right: int, wrong: int) -> list[ReviewLine]:
    labels = ["happy"] * right + ["sad"] * wrong
    return [replace(LINE, sha256=f"{n:064x}", label=label) for n, label in enumerate(labels)]


def test_a_share_of_none_has_an_interval() -> None:
    found = measure_sample(make_lines(0, 9))
    assert found is not None
    assert found.describe() == "0 of 9 right: 0.0 % (0.0 % to 29.9 %)"


def test_only_answers_of_the_sample_measure_the_model() -> None:
    others = [replace(line, is_random=False) for line in make_lines(0, 30)]
    found = measure_sample([*make_lines(46, 4), *others])
    assert found is not None
    assert found.describe() == "46 of 50 right: 92.0 % (81.2 % to 96.8 %)"
    assert measure_sample(others) is None


def test_faces_of_one_photo_do_not_narrow_the_interval() -> None:
    faces = [
        replace(line, face=n, sha256=f"{n % 10:064x}") for n, line in enumerate(make_lines(45, 5))
    ]
    found = measure_sample(faces)
    assert found is not None
    assert (found.answers, found.right, found.photos) == (50, 45, 10)
    low, high = compute_share_interval(0.9, 10)
    assert found.describe().endswith(f"({low:.1%} to {high:.1%})".replace("%", " %"))


def test_an_answer_joins_the_sample_and_stays_in_it() -> None:
    reviews = Reviews()
    reviews.add(replace(LINE, is_random=False))
    assert measure_sample(reviews) is None
    assert reviews.add(LINE) is Addition.SAME
    reviews.add(replace(LINE, label="sad", is_random=False))
    (line,) = reviews
    assert (line.is_random, line.label) == (True, "sad")
