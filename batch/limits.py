"""Limits on a run's time, failures and missing photos, and the clocks behind them."""

from __future__ import annotations

import re
import sys
import time as system_time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from batch.errors import BatchLabelError, UsageError
from batch.path_text import printable_text
from batch.records import Reason

DEFAULT_MAX_GONE = "50%"

_CLOCK_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
# Six digits are more than a hundred years of hours; longer durations could overflow a date.
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?")
_COUNT = re.compile(r"[0-9]{1,12}")
_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


@dataclass(frozen=True)
class CountLimit:
    """A limit on the number of files that fail or are gone.

    Attributes:
        number: files, or per cent of all files.
        is_percentage: whether ``number`` is a percentage.
    """

    number: Decimal
    is_percentage: bool

    def __str__(self) -> str:
        """Return the notation that ``parse_count`` reads."""
        return f"{self.number:f}{'%' if self.is_percentage else ''}"

    @property
    def is_off(self) -> bool:
        """Whether the limit is 0, which means no limit for ``--max-gone``."""
        return self.number == 0

    def is_exceeded(self, count: int, total: int) -> bool:
        """Return whether ``count`` of ``total`` files are more than the limit allows."""
        # In decimal arithmetic: 0.07 % of 10,000 files is exactly 7.
        allowed = self.number * total / 100 if self.is_percentage else self.number
        return count > allowed

    def check_failures(
        self, by_reason: Mapping[Reason, int], found: int, examples: str, remedy: str
    ) -> None:
        """Check that no more files failed than the limit allows.

        Args:
            by_reason: failed files by reason.
            found: all files of the run.
            examples: names of files that failed, for the message.
            remedy: what the message advises.

        Raises:
            BatchLabelError: too many files failed.
        """
        failed = sum(by_reason.values())
        if self.is_exceeded(failed, found):
            reason, count = max(by_reason.items(), key=lambda item: item[1])
            raise BatchLabelError(
                f"{failed} of {found} files failed, more than --max-failures {self} allows "
                f"(most often {reason.value}: {count}): {examples}",
                remedy,
            )


@dataclass(frozen=True)
class Limits:
    """Limits of a run.

    Attributes:
        deadline: local time of day at which the run ends; None for no deadline.
        time_limit: seconds after which the run ends; None for no limit.
        max_failures: files that may fail; None for any number.
        max_gone: known photos that may be gone; 0 for any number.
    """

    deadline: time | None = None
    time_limit: int | None = None
    max_failures: CountLimit | None = None
    max_gone: CountLimit = CountLimit(Decimal(DEFAULT_MAX_GONE.rstrip("%")), is_percentage=True)


def utc_now() -> datetime:
    """Return the current time as an aware datetime in UTC."""
    return datetime.now(UTC)


def utc_text(moment: datetime) -> str:
    """Format an aware datetime as UTC in ISO 8601: ``2024-05-01T03:30:00.000Z``."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def monotonic_seconds() -> float:
    """Return seconds since an arbitrary start, unaffected by changes of the system clock."""
    if sys.platform == "linux":
        # Unlike CLOCK_MONOTONIC, it also counts while the machine sleeps, as a deadline needs.
        return system_time.clock_gettime(system_time.CLOCK_BOOTTIME)
    return system_time.monotonic()


class RunTimer:
    """Tells when a run's deadline or time limit is reached; starts when it is created.

    The deadline is converted into seconds once, at the start, so that changes of the system clock
    during the run have no effect.

    Args:
        limits: the deadline and time limit.
        started: start of the run, an aware datetime; None for now.
        clock: returns monotonic seconds.

    Attributes:
        ends_at: when the first limit is reached, an aware local datetime; None without a limit.
        why: the limit that is reached first, for a message; empty without a limit.
    """

    def __init__(
        self,
        limits: Limits,
        started: datetime | None = None,
        clock: Callable[[], float] = monotonic_seconds,
    ) -> None:
        started = started or utc_now()
        ends: list[tuple[datetime, str]] = []
        if limits.deadline is not None:
            moment = find_next_time(limits.deadline, started)
            ends.append((moment, f"the deadline {limits.deadline:%H:%M} was reached"))
        if limits.time_limit is not None:
            moment = (started + timedelta(seconds=limits.time_limit)).astimezone()
            limit_text = format_duration(limits.time_limit)
            ends.append((moment, f"the time limit {limit_text} was reached"))
        self._clock = clock
        self._end_seconds: float | None = None
        self.ends_at: datetime | None = None
        self.why = ""
        if ends:
            self.ends_at, self.why = min(ends, key=lambda end: end[0])
            self._end_seconds = clock() + (self.ends_at - started).total_seconds()

    @property
    def is_up(self) -> bool:
        """Whether a limit is reached, after which no more photos are started."""
        return self._end_seconds is not None and self._clock() >= self._end_seconds


def find_next_time(at: time, after: datetime) -> datetime:
    """Find the next moment at which local clocks show ``at``, later than the aware ``after``."""
    today = after.astimezone().date()
    days = (today + timedelta(days=days) for days in range(3))
    return next(moment for day in days for moment in _find_moments(day, at) if moment > after)


def _find_moments(day: date, at: time) -> Iterator[datetime]:
    """Yield the moments of a day at which local clocks show ``at``: usually one.

    A time that is skipped when daylight saving time begins is read as standard time: one hour
    later on the clock. A time that occurs twice when it ends is yielded twice.
    """
    # Through the timestamp: `astimezone` alone would move a skipped time back by an hour.
    first, second = (
        datetime.fromtimestamp(
            datetime.combine(day, at.replace(fold=fold)).timestamp(), UTC
        ).astimezone()
        for fold in (0, 1)
    )
    yield first
    if second > first:
        yield second


def parse_deadline(text: str) -> time:
    """Parse a time of day: ``05:30``.

    Raises:
        UsageError: the text is not a time of day.
    """
    match = _CLOCK_TIME.fullmatch(text)
    if match and int(match[1]) < 24 and int(match[2]) < 60:
        return time(int(match[1]), int(match[2]))
    raise UsageError(
        f"--deadline {printable_text(text)} is not a time of day",
        "give hours (0 to 23) and minutes, such as 05:30",
    )


def parse_duration(text: str, option: str) -> int:
    """Parse the duration given for an option: ``2h30m``, ``90m`` or ``3600s``.

    Returns:
        Seconds, at least 1.

    Raises:
        UsageError: the text is not a duration, or it is zero.
    """
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if total:
        return total
    raise UsageError(
        f"{option} {printable_text(text)} is not a duration",
        "give hours, minutes and seconds, such as 2h30m, 90m or 3600s",
    )


def format_duration(seconds: int) -> str:
    """Format seconds as ``parse_duration`` reads them, in the largest units that fit."""
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def parse_count(text: str, option: str) -> CountLimit:
    """Parse the number of files given for an option, ``5``, or a percentage of them, ``2%``.

    Raises:
        UsageError: the text is neither, or more than 100%.
    """
    if _COUNT.fullmatch(text):
        return CountLimit(Decimal(text), is_percentage=False)
    match = _PERCENTAGE.fullmatch(text)
    if match and Decimal(match[1]) <= 100:
        return CountLimit(Decimal(match[1]), is_percentage=True)
    raise UsageError(
        f"{option} {printable_text(text)} is neither a number nor a percentage",
        "give a number of files, such as 5, or a percentage of them, such as 2%",
    )
