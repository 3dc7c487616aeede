"""The run's count: what was found, and what became of every single file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batch.errors import BatchLabelError, ExitCode
from batch.location import Location
from batch.log import count_text
from batch.path_text import path_text, printable_text
from batch.records import Failure, FinishedFile, Reason, Row, Status

# Files or folders that a message names, and characters of what it says of each.
MAX_NAMED = 5
MAX_FAILURE_CHARS = 160


@dataclass
class Tally:
    """Counts a run's files from both ends, so that none can get lost in between.

    ``found`` and ``skipped_by_reason`` are discovery's to count, ``unchanged`` is the journal's,
    which takes those rows from an earlier run, and so is ``by_cause``, why others had to be looked
    at; what this run looked at is counted by ``add_processed``, the
    rows of the report by ``add``. ``seconds`` is how long the run took. ``labels`` are the
    model's, in its order. ``gone`` counts known photos that left the report, ``unavailable`` those that
    are kept in it as missing, for their folder seems to be away. ``accepted`` of the files that
    failed were accepted earlier, ``failures`` are the first others.
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
    _copied: int = field(default=0, init=False)
    _by_status: Counter[Status] = field(default_factory=Counter, init=False)
    _by_label: Counter[str] = field(default_factory=Counter, init=False)

    def add_skipped(self, path: Location, why: str) -> None:
        """Count what discovery passed over in a folder."""
        self.skipped_by_reason[why] += 1

    def add_processed(self, finished: FinishedFile) -> None:
        """Count a file that this run looked at: labelled, or found to repeat another."""
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
        reason = row.failure.reason if row.failure else None
        self.count(row.status, row.answer.label if row.answer else None, reason, row.accepted)
        if row.failure and not row.accepted and len(self.failures) < MAX_NAMED:
            self.failures.append(row.failure)

    def count(
        self, status: Status, label: str | None, reason: Reason | None, accepted: bool = False
    ) -> None:
        """Count a photo by how it came out."""
        self._by_status[status] += 1
        if reason is not None:
            self.by_reason[reason] += 1
            if not accepted:
                self.not_accepted[reason] += 1
        self.accepted += accepted
        if status is Status.OK and label is not None:
            self._by_label[label] += 1

    def outcomes(self) -> dict[str, Any]:
        """Give what ``add`` has counted, but for failures and missing photos.

        A report with these is written again by every run.
        """
        return {
            "by_status": dict(self._by_status),
            "by_label": dict(self._by_label),
            "salvaged": self.salvaged,
        }

    def restore_outcomes(self, outcomes: Mapping[str, Any]) -> None:
        """Count the rows of a report that stays as it is, by its ``outcomes``."""
        for status, count in outcomes["by_status"].items():
            self._by_status[Status(status)] = int(count)
        self._by_label.update(outcomes["by_label"])
        self.salvaged = int(outcomes["salvaged"])

    @property
    def skipped(self) -> int:
        """What discovery passed over in folders, stores and archives."""
        return self.skipped_by_reason.total()

    def skipped_text(self) -> str:
        """Tell how much was left out and why: ``3 left out (2 hidden, 1 archive)``."""
        counts = ", ".join(
            f"{count:,} {why}" for why, count in self.skipped_by_reason.most_common()
        )
        return f"{self.skipped:,} left out{f' ({counts})' if counts else ''}"

    @property
    def done(self) -> int:
        """Files that have a row."""
        return self._by_status.total()

    @property
    def reused(self) -> int:
        """Files whose row is an earlier run's, or that of a file with the same bytes."""
        return self.unchanged + self._copied

    @property
    def by_status(self) -> dict[Status, int]:
        """Rows of every status, those without any included."""
        return {status: self._by_status[status] for status in Status}

    @property
    def by_label(self) -> dict[str, int]:
        """Rows of status ``ok`` by label, in the model's order."""
        return {label: self._by_label[label] for label in self.labels}

    @property
    def exit_code(self) -> ExitCode:
        """How a run that got through all its files ends."""
        failed = self._by_status[Status.FAILED] - self.accepted
        return ExitCode.INCOMPLETE if failed or self.unavailable else ExitCode.OK

    def describe_failures(self) -> str:
        """Name the first files that failed and were not accepted, each with the reason."""
        named = [
            f"{path_text(failure.path)} ({_shorten(f'{failure.reason}: {printable_text(failure.detail)}')})"
            for failure in self.failures
        ]
        more = self.not_accepted.total() - len(named)
        return ", ".join(named) + (f" and {more:,} more" if more else "")

    def check(self) -> None:
        """Make sure that a run that got to its end has one row for each file.

        Raises:
            BatchLabelError: rows are missing or too many.
        """
        remedy = "tell the makers of batch-label; an earlier report is left as it was"
        if self.done != self.found:
            raise BatchLabelError(
                f"the run found {self.found} files but has rows for {self.done}", remedy
            )
        if self.labelled_now + self.reused != self.found:
            raise BatchLabelError(
                f"the run found {self.found} files, but labelled {self.labelled_now} and reused "
                f"{self.reused}",
                remedy,
            )

    def summary_text(self) -> str:
        """Tell the run's outcome in one line for people, sums and speed included."""
        reused = f"{self.unchanged:,} reused; " if self.unchanged else ""
        copied = f"{self._copied:,} with the bytes of known photos; " if self._copied else ""
        missing = f"{self.missing:,} missing; " if self.missing else ""
        missing += f"{self.gone:,} gone; " if self.gone else ""
        salvaged = f"{self.salvaged:,} salvaged; " if self.salvaged else ""
        notes = f"{reused}{copied}{missing}{salvaged}{self.skipped_text()}"
        return f"{self.counts_text()}; {notes}; {self._speed_text()}"

    def counts_text(self) -> str:
        """Tell what became of the files: their statuses, and the labels of the sure ones."""
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


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_FAILURE_CHARS else f"{text[: MAX_FAILURE_CHARS - 3]}..."
