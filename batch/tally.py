"""Counts of a run's files, and the summary line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch.errors import BatchLabelError, ExitCode
from batch.location import Location
from batch.log import count_text
from batch.path_text import path_text, printable_text
from batch.records import Failure, FinishedFile, Reason, Row, Source, Status

MAX_NAMED = 5  # files or folders that a message names
FAILURE_CHARS = 160  # characters of the failure of each


@dataclass
class Tally:
    """Counts of a run's files, taken independently by discovery, journal, workers and report.

    ``check`` compares them, so that a lost file is noticed.

    Attributes:
        labels: labels of the model, in its order.
        found: files that discovery found.
        unchanged: files whose rows the journal has from an earlier run.
        by_cause: files that the run has to process, by cause.
        seconds: duration of the run.
        gone: known photos that were removed from the report.
        unavailable: known photos that the report keeps as missing, as their folder seems to be
            unmounted.
        labelled_now: files that this run labelled.
        missing: rows of the report for files that are not there.
        salvaged: photos of which only a part was labelled.
        accepted: failed files whose failure was accepted earlier.
        failures: the first ``MAX_NAMED`` failures that were not accepted.
        by_reason: failed files by reason.
        not_accepted: failed files by reason, without accepted failures.
        reviewed: photos with an answer that a person gave, for the photo or a face.
        unmatched_reviews: reviews that no row of the report has used.
        skipped_by_reason: files and folders that discovery skipped, by reason.
    """

    labels: Sequence[str] = ()
    found: int = 0
    unchanged: int = 0
    by_cause: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    gone: int = 0
    unavailable: int = 0
    labelled_now: int = field(default=0, init=False)
    missing: int = field(default=0, init=False)
    salvaged: int = field(default=0, init=False)
    accepted: int = field(default=0, init=False)
    failures: list[Failure] = field(default_factory=list, init=False)
    by_reason: Counter[Reason] = field(default_factory=Counter, init=False)
    not_accepted: Counter[Reason] = field(default_factory=Counter, init=False)
    skipped_by_reason: Counter[str] = field(default_factory=Counter, init=False)
    reviewed: int = field(default=0, init=False)
    unmatched_reviews: int = field(default=0, init=False)
    _first_skipped: Location | None = field(default=None, init=False)
    _copied: int = field(default=0, init=False)
    _by_status: Counter[Status] = field(default_factory=Counter, init=False)
    _by_label: Counter[str] = field(default_factory=Counter, init=False)

    def add_skipped(self, path: Location, why: str) -> None:
        """Count a file or folder that discovery skipped."""
        self.skipped_by_reason[why] += 1
        if self._first_skipped is None:
            self._first_skipped = path

    def add_processed(self, finished: FinishedFile) -> None:
        """Count a file that this run labelled, or that has the bytes of another file."""
        if finished.copied:
            self._copied += 1
        else:
            self.labelled_now += 1

    def add(self, row: Row) -> None:
        """Count a row of the report."""
        if row.missing:
            self.missing += 1
            return
        if row.salvaged:
            self.salvaged += 1
        if row.source is Source.REVIEW or any(face.reviewed for face in row.faces):
            self.reviewed += 1
        reason = row.failure.reason if row.failure else None
        self.count(row.status, row.answer.label if row.answer else None, reason, row.accepted)
        if row.failure and not row.accepted and len(self.failures) < MAX_NAMED:
            self.failures.append(row.failure)

    def count(
        self, status: Status, label: str | None, reason: Reason | None, accepted: bool = False
    ) -> None:
        """Count a photo by its status, label and failure."""
        self._by_status[status] += 1
        if reason is not None:
            self.by_reason[reason] += 1
            if not accepted:
                self.not_accepted[reason] += 1
        self.accepted += accepted
        if status is Status.OK and label is not None:
            self._by_label[label] += 1

    def outcomes(self) -> dict[str, Any]:
        """Return what ``add`` counted, for ``restore_outcomes``.

        Without failures and missing photos: a report with any of these is always written again.
        """
        return {
            "by_status": dict(self._by_status),
            "by_label": dict(self._by_label),
            "salvaged": self.salvaged,
            "reviewed": self.reviewed,
            "unmatched_reviews": self.unmatched_reviews,
        }

    def restore_outcomes(self, outcomes: Mapping[str, Any]) -> None:
        """Restore the counts of an unchanged report from the ``outcomes`` of an earlier run."""
        for status, count in outcomes["by_status"].items():
            self._by_status[Status(status)] = int(count)
        self._by_label.update(outcomes["by_label"])
        self.salvaged = int(outcomes["salvaged"])
        self.reviewed = int(outcomes["reviewed"])
        self.unmatched_reviews = int(outcomes["unmatched_reviews"])

    @property
    def skipped(self) -> int:
        """Number of files and folders that discovery skipped."""
        return self.skipped_by_reason.total()

    def skipped_text(self) -> str:
        """Describe what was skipped: ``3 skipped (2 hidden, 1 archive): a/.b.jpg and 2 more``."""
        if self._first_skipped is None:
            return "0 skipped"
        counts = ", ".join(
            f"{count:,} {why}" for why, count in self.skipped_by_reason.most_common()
        )
        more = f" and {self.skipped - 1:,} more" if self.skipped > 1 else ""
        return f"{self.skipped:,} skipped ({counts}): {path_text(self._first_skipped)}{more}"

    @property
    def done(self) -> int:
        """Number of files that have a row."""
        return self._by_status.total()

    @property
    def reused(self) -> int:
        """Number of files with the row of an earlier run or of a file with the same bytes."""
        return self.unchanged + self._copied

    @property
    def by_status(self) -> dict[Status, int]:
        """Number of rows by status, including statuses without rows."""
        return {status: self._by_status[status] for status in Status}

    @property
    def by_label(self) -> dict[str, int]:
        """Number of rows of status ``ok`` by label, in the model's order."""
        return {label: self._by_label[label] for label in self.labels}

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a run that finished all files."""
        failed = self._by_status[Status.FAILED] - self.accepted
        return ExitCode.INCOMPLETE if failed or self.unavailable else ExitCode.OK

    def describe_failures(self) -> str:
        """Name the first files that failed and were not accepted, each with the reason."""
        named = []
        for failure in self.failures:
            why = f"{failure.reason}: {printable_text(failure.detail)}"
            if len(why) > FAILURE_CHARS:
                why = f"{why[: FAILURE_CHARS - 3]}..."
            named.append(f"{path_text(failure.path)} ({why})")
        more = self.not_accepted.total() - len(named)
        return ", ".join(named) + (f" and {more:,} more" if more else "")

    def check(self) -> None:
        """Check that a finished run has one row for each file.

        Raises:
            BatchLabelError: rows are missing, or there are too many.
        """
        remedy = "please report this bug; the earlier report was not changed"
        if self.done != self.found:
            raise BatchLabelError(
                f"the run found {self.found} files but has rows for {self.done}", remedy
            )
        if self.labelled_now + self.reused != self.found:
            raise BatchLabelError(
                f"the run found {self.found} files but labelled {self.labelled_now} and reused "
                f"{self.reused}",
                remedy,
            )

    def summary_text(self) -> str:
        """Summarise the run in one line: counts, notes and speed."""
        reused = f"{self.unchanged:,} reused; " if self.unchanged else ""
        copied = f"{self._copied:,} with the bytes of known photos; " if self._copied else ""
        missing = f"{self.missing:,} missing; " if self.missing else ""
        missing += f"{self.gone:,} gone; " if self.gone else ""
        salvaged = f"{self.salvaged:,} salvaged; " if self.salvaged else ""
        reviewed = f"{self.reviewed:,} reviewed; " if self.reviewed else ""
        notes = f"{reused}{copied}{missing}{salvaged}{reviewed}{self.skipped_text()}"
        return f"{self.counts_text()}; {notes}; {self._speed_text()}"

    def counts_text(self) -> str:
        """Describe the files by status, and those of status ``ok`` by label."""
        found = f"{self.found:,} found"
        if self.done != self.found:
            found += f", {self.done:,} done"
        statuses = " + ".join(
            f"{count:,} {status}{self._accepted_text if status is Status.FAILED else ''}"
            for status, count in self.by_status.items()
        )
        labels = ", ".join(
            f"{printable_text(name)} {count:,}" for name, count in self.by_label.items()
        )
        return f"{found} = {statuses} ({labels})"

    @property
    def _accepted_text(self) -> str:
        if not self.accepted:
            return ""
        all_of_them = self.accepted == self._by_status[Status.FAILED]
        return f" ({'all' if all_of_them else f'{self.accepted:,}'} accepted)"

    def _speed_text(self) -> str:
        count = self.labelled_now
        speed = f", {count / self.seconds:.1f} photos/s" if count and self.seconds > 0 else ""
        return f"{count_text(count, 'photo')} in {self.seconds:.1f} s{speed}"
