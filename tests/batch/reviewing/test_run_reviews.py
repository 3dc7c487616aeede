"""The reviews of a run: which file is read, and what is set aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.errors import OutputError, PublishedOnly, UsageError
from batch.log import Event, Level
from batch.options import Job, Options
from batch.reading.reviews import ReviewLine, write_review_lines
from batch.reviewing import run_reviews
from batch.reviewing.run_reviews import RunReviews, read_run_reviews
from batch.shard import Shard

LINE = ReviewLine("a.jpg", "0a" * 32, None, None, "happy", 0.7, "sad")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "r.csv.reviews.csv"
    path.write_text(write_review_lines([LINE]))
    return path


class KeptLog:
    """A log that keeps the level and text of its lines."""

    def __init__(self) -> None:
        self.lines: list[tuple[Level, str]] = []

    def __call__(
        self, event: Event, message: str, level: Level = Level.INFO, **fields: object
    ) -> None:
        assert event is Event.REVIEWS
        self.lines.append((level, message))


def test_only_a_whole_report_in_a_place_has_reviews(file: Path, tmp_path: Path) -> None:
    output = str(tmp_path / "r.csv")
    whole = read_run_reviews(Job(("photos",), output))
    assert (whole.path, len(whole), whole.forgets) == (file, 1, False)
    at_url = read_run_reviews(Job(("photos",), "s3://bucket/r.csv", reviews=file))
    assert (at_url.path, len(at_url), at_url.digest) == (file, 1, whole.digest)
    shard = Options(shard=Shard(1, 2))
    for job in (Job(("photos",), "-"), Job(("photos",), output, options=shard)):
        assert read_run_reviews(job) == RunReviews()


def test_forgotten_reviews_are_not_read_but_set_aside(file: Path, tmp_path: Path) -> None:
    file.write_text("damaged")
    job = Job(("photos",), str(tmp_path / "r.csv"), forget_reviews=True)
    reviews, log = read_run_reviews(job), KeptLog()
    assert reviews.make_corrections(("happy", "sad"), per_face=False) is None
    reviews.check_kept(5, log)
    reviews.forget(log)
    backup = tmp_path / "r.csv.reviews.old-1.csv"
    assert backup.read_text() == "damaged"
    assert log.lines == [(Level.INFO, f"the reviews are forgotten; their file is kept as {backup}")]
    reviews.forget(log)  # without a file there is nothing to do
    assert len(log.lines) == 1
    with pytest.raises(UsageError, match="--forget-reviews has no effect"):
        read_run_reviews(Job(("photos",), "-", forget_reviews=True))


def test_a_report_is_published_although_the_file_can_not_be_set_aside(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> Path:
        raise OutputError(f"{path} can't be written", "change its owner")

    monkeypatch.setattr(run_reviews, "set_aside", fail)
    with pytest.raises(PublishedOnly, match=r"has the model's answers, but .* can't be written"):
        RunReviews(file, forgets=True).forget(KeptLog())


def test_fewer_reviews_than_before_are_a_warning(file: Path, tmp_path: Path) -> None:
    reviews, log = read_run_reviews(Job(("photos",), str(tmp_path / "r.csv"))), KeptLog()
    reviews.check_kept(1, log)
    assert not log.lines
    reviews.check_kept(2, log)
    ((level, text),) = log.lines
    assert level is Level.WARNING
    assert f"{file} has 1 review, but had 2 at the last report" in text
