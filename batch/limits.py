"""Two clocks: the one on the wall for records, and a steady one for limits."""

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


def utc_now() -> datetime:
    """Tell the time as an aware datetime in UTC."""
    return datetime.now(UTC)


def utc_text(moment: datetime) -> str:
    """Write an aware datetime as UTC in ISO 8601 with milliseconds: 2024-05-01T03:30:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def monotonic_seconds() -> float:
    """Tell seconds from some point in the past; setting the machine's clock does not move it."""
    if sys.platform == "linux":
        # Linux's monotonic clock stands still while the machine sleeps, and a deadline does not.
        return system_time.clock_gettime(system_time.CLOCK_BOOTTIME)
    return system_time.monotonic()


# == The limits of a run: a deadline, a time limit, and how many files may fail.

_CLOCK_TIME = re.compile(r"([0-9]{1,2}):([0-9]{2})")
# Six digits are more than a hundred years of hours, and keep dates within the calendar.
_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?")
_COUNT = re.compile(r"[0-9]{1,12}")
_PERCENTAGE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,6})?)%")


@dataclass(frozen=True)
class CountLimit:
    """A limit on how many files fail or are gone: ``number`` of them, or per cent of all."""

    number: Decimal
    is_percentage: bool

    def __str__(self) -> str:
        """Give the notation that ``parse_max_failures`` and ``parse_max_gone`` read."""
        return f"{self.number:f}{'%' if self.is_percentage else ''}"

    @property
    def is_off(self) -> bool:
        """Whether it is 0, which some options take for no limit."""
        return self.number == 0

    def is_exceeded(self, count: int, total: int) -> bool:
        """Tell whether more files than the limit allows are concerned."""
        # In decimals, since 0.07 % of 10,000 files is 7 and not a little more.
        allowed = self.number * total / 100 if self.is_percentage else self.number
        return count > allowed

    def check_failures(
        self, by_reason: Mapping[Reason, int], found: int, named: str, remedy: str
    ) -> None:
        """Make sure that no more files failed than the limit allows.

        Raises:
            BatchLabelError: more did; its message has the most frequent reason and what is
                ``named``.
        """
        failed = sum(by_reason.values())
        if self.is_exceeded(failed, found):
            reason, count = max(by_reason.items(), key=lambda item: item[1])
            raise BatchLabelError(
                f"{failed} of {found} files failed, more than --max-failures {self} allows "
                f"(most often {reason.value}: {count}): {named}",
                remedy,
            )


DEFAULT_MAX_GONE = "50%"


@dataclass(frozen=True)
class Limits:
    """All limits of a run, None where there is none.

    Attributes:
        deadline: local clock time.
        time_limit: seconds.
        max_failures: files that may fail.
        max_gone: known photos that may be gone; 0 for any number.
    """

    deadline: time | None = None
    time_limit: int | None = None
    max_failures: CountLimit | None = None
    max_gone: CountLimit = CountLimit(Decimal(DEFAULT_MAX_GONE.rstrip("%")), is_percentage=True)


class RunTimer:
    """Tells whether a run's time is up; it begins to count as it is made.

    ``started`` is the time on the wall as the run begins, an aware datetime; ``clock`` tells
    seconds. The deadline is turned into seconds once, at the start, so that setting the
    machine's clock during the run changes nothing. ``ends_at`` is when time will be up, an
    aware local datetime or None, and ``why`` names the limit that comes first.
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
            ends.append((moment, f"the deadline {limits.deadline:%H:%M} has come"))
        if limits.time_limit is not None:
            moment = (started + timedelta(seconds=limits.time_limit)).astimezone()
            ends.append((moment, f"the time limit {duration_text(limits.time_limit)} is over"))
        self._clock = clock
        self._end: float | None = None
        self.ends_at: datetime | None = None
        self.why = ""
        if ends:
            self.ends_at, self.why = min(ends, key=lambda end: end[0])
            self._end = clock() + (self.ends_at - started).total_seconds()

    @property
    def is_up(self) -> bool:
        """Whether no more photos are to be begun."""
        return self._end is not None and self._clock() >= self._end


def parse_deadline(text: str) -> time:
    """Read a time of the day, ``05:30``.

    Raises:
        UsageError: it is none.
    """
    match = _CLOCK_TIME.fullmatch(text)
    if match and int(match[1]) < 24 and int(match[2]) < 60:
        return time(int(match[1]), int(match[2]))
    raise UsageError(
        f"--deadline {printable_text(text)} is no time of the day",
        "write hours (0 to 23) and minutes, such as 05:30",
    )


def parse_time_limit(text: str) -> int:
    """Read the time limit of a run, in seconds; see ``parse_duration``."""
    return parse_duration(text, "--time-limit")


def parse_duration(text: str, option: str) -> int:
    """Read an option's duration, ``2h30m``, ``90m`` or ``3600s``, and give it in seconds.

    Raises:
        UsageError: it is none, or it is zero.
    """
    match = _DURATION.fullmatch(text)
    hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    total = hours * 3600 + minutes * 60 + seconds
    if total:
        return total
    raise UsageError(
        f"{option} {printable_text(text)} is no duration",
        "write hours, minutes and seconds, such as 2h30m, 90m or 3600s",
    )


def parse_max_failures(text: str) -> CountLimit:
    """Read the value of ``--max-failures``; see ``parse_count``."""
    return parse_count(text, "--max-failures")


def parse_max_gone(text: str) -> CountLimit:
    """Read the value of ``--max-gone``; see ``parse_count``."""
    return parse_count(text, "--max-gone")


def parse_count(text: str, option: str) -> CountLimit:
    """Read an option's number of files, ``5``, or share of them, ``2%``.

    Raises:
        UsageError: it is neither, or more than 100%.
    """
    if _COUNT.fullmatch(text):
        return CountLimit(Decimal(text), is_percentage=False)
    match = _PERCENTAGE.fullmatch(text)
    if match and Decimal(match[1]) <= 100:
        return CountLimit(Decimal(match[1]), is_percentage=True)
    raise UsageError(
        f"{option} {printable_text(text)} is neither a number nor a percentage",
        "write a number of files, such as 5, or a share of them, such as 2%",
    )


def duration_text(seconds: int) -> str:
    """Write seconds as ``parse_duration`` reads them, in the largest units that fit."""
    parts = ((seconds // 3600, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s"))
    return "".join(f"{number}{unit}" for number, unit in parts if number) or "0s"


def find_next_time(at: time, after: datetime) -> datetime:
    """Find when clocks here will next show ``at``, later than the aware datetime ``after``."""
    today = after.astimezone().date()
    days = (today + timedelta(days=days) for days in range(3))
    return next(moment for day in days for moment in _find_moments(day, at) if moment > after)


def _find_moments(day: date, at: time) -> Iterator[datetime]:
    """Give the moments of a day at which local clocks show a time, mostly one.

    A time that the clocks skip as summer begins counts by winter's clock, an hour later by
    the new one; as summer ends, a time may come twice.
    """
    # By way of the timestamp, since `astimezone` moves a skipped time back by an hour.
    first, second = (
        datetime.fromtimestamp(
            datetime.combine(day, at.replace(fold=fold)).timestamp(), UTC
        ).astimezone()
        for fold in (0, 1)
    )
    yield first
    if second > first:
        yield second
