"""The reviews of a run: read before the work, applied to the rows, or set aside."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batch.errors import OutputError, PublishedOnly, UsageError
from batch.log import Event, Level, Log, count_text
from batch.options import Job
from batch.path_text import path_text
from batch.reviewing.corrections import Corrections
from batch.reviewing.reviews_file import Reviews, find_reviews_path, read_reviews, set_aside


@dataclass(frozen=True)
class RunReviews:
    """The reviews of a run.

    Attributes:
        path: the reviews file; None if the report has none, like a streamed one or a shard's.
        reviews: people's answers; None without a file, or with ``--forget-reviews``.
        forgets: whether the run sets the file aside.
    """

    path: Path | None = None
    reviews: Reviews | None = None
    forgets: bool = False

    def __len__(self) -> int:
        return len(self.reviews) if self.reviews else 0

    @property
    def digest(self) -> str | None:
        """SHA-256 of the file; None if the report has only the model's answers."""
        return self.reviews.digest if self.reviews else None

    def make_corrections(self, labels: Sequence[str], per_face: bool) -> Corrections | None:
        """Make the corrections of a report; None if there are no reviews."""
        return Corrections(self.reviews, labels, per_face) if self.reviews else None

    def check_kept(self, before: int, log: Log) -> None:
        """Warn if there are fewer reviews than the ``before`` of the last report."""
        if self.path is None or self.forgets or len(self) >= before:
            return
        log(
            Event.REVIEWS,
            f"{path_text(self.path)} has {count_text(len(self), 'review')}, but had {before:,} at "
            "the last report: unless they were removed on purpose, restore a backup and run again",
            Level.WARNING,
            reviews=len(self),
            before=before,
        )

    def log_use(self, corrections: Corrections, reviewed: int, log: Log) -> None:
        """Log how many reviews a published report has used; ``reviewed`` is its reviewed photos."""
        if self.path is None:
            return
        log(
            Event.REVIEWS,
            f"{path_text(self.path)}: {corrections.describe()}",
            Level.WARNING if corrections.unusable else Level.INFO,
            reviewed=reviewed,
            unmatched=corrections.unmatched,
        )

    def forget(self, log: Log) -> None:
        """Set the file aside with ``--forget-reviews``, once the report has the model's answers.

        Raises:
            PublishedOnly: it can't be renamed.
        """
        if not self.forgets or self.path is None or not os.path.lexists(self.path):
            return
        try:
            backup = set_aside(self.path)
        except OutputError as error:
            raise PublishedOnly(
                f"the report has the model's answers, but {error.problem}",
                f"{error.remedy}: otherwise the next run applies the reviews again",
            ) from error
        log(
            Event.REVIEWS,
            f"the reviews are forgotten; their file is kept as {path_text(backup)}",
            backup=path_text(backup),
        )


def read_run_reviews(job: Job) -> RunReviews:
    """Read the reviews of a run; call it with the lock of the report.

    Raises:
        UsageError: ``--forget-reviews`` is given, but the report can't have reviews.
        ReviewError: the reviews file is damaged or can't be read.
    """
    path = find_reviews_path(job.output, job.reviews) if job.options.shard is None else None
    if job.forget_reviews:
        if path is None:
            raise UsageError(
                "--forget-reviews has no effect: streamed reports and those of shards have no "
                "reviews",
                "omit it, or name a report file with -o",
            )
        return RunReviews(path, forgets=True)
    return RunReviews(path, None if path is None else read_reviews(path))
