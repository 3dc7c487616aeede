"""Limits are parsed as written on the command line, and hold although clocks change."""

from __future__ import annotations

import time as clock_time
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta, timezone

import pytest

from batch.errors import BatchLabelError, ExitCode, UsageError
from batch.limits import (
    CountLimit,
    Limits,
    RunTimer,
    find_next_time,
    format_duration,
    monotonic_seconds,
    parse_count,
    parse_deadline,
    parse_duration,
    utc_now,
    utc_text,
)
from batch.records import Reason

HALF_PAST_FIVE = time(5, 30)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the time zone of the process by its rules, which needs no zone files."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        clock_time.tzset()
        yield
    clock_time.tzset()


def local(*moment: int, fold: int = 0) -> datetime:
    year, month, day, hour, minute = moment
    return datetime(year, month, day, hour, minute, fold=fold).astimezone()


class Clock:
    """A monotonic clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("05:30", time(5, 30)),
        ("5:30", time(5, 30)),
        ("0:00", time(0, 0)),
        ("23:59", time(23, 59)),
    ],
)
def test_a_deadline_is_a_time_of_the_day(text: str, expected: time) -> None:
    assert parse_deadline(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "24:00",
        "12:60",
        "5:3",
        "05:30:00",
        "05.30",
        " 05:30",
        "05:30\n",
        "\u0660\u0665:\u0663\u0660",
    ],
)
def test_other_text_is_not_a_deadline(text: str) -> None:
    with pytest.raises(UsageError, match="give hours"):
        parse_deadline(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h30m", 9000), ("90m", 5400), ("3600s", 3600), ("1h1m1s", 3661), ("0h5s", 5)],
)
def test_a_time_limit_is_a_duration(text: str, seconds: int) -> None:
    assert parse_duration(text, "--time-limit") == seconds


@pytest.mark.parametrize(
    "text", ["", "0s", "0h0m", "2", "2.5h", "30m2h", "2H", "-2h", "2 h", "2h\n", "9999999h", "1d"]
)
def test_other_text_is_not_a_time_limit(text: str) -> None:
    with pytest.raises(UsageError, match="such as 2h30m") as raised:
        parse_duration(text, "--time-limit")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("text", ["2h30m", "1h30m", "59s", "100h", "1h1s"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert format_duration(parse_duration(text, "--time-limit")) == text


@pytest.mark.parametrize("text", ["5", "0", "2%", "0.5%", "100%"])
def test_a_limit_of_failures_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_count(text, "--max-failures")) == text


@pytest.mark.parametrize("text", ["", "-1", "5.5", "101%", "%", "2 %", "nan%", "1e3", "5%%"])
def test_other_text_is_not_a_limit_of_failures(text: str) -> None:
    with pytest.raises(UsageError, match="neither a number nor a percentage"):
        parse_count(text, "--max-failures")


@pytest.mark.parametrize(
    ("text", "failed", "found", "expected"),
    [
        ("5", 5, 5, False),
        ("5", 6, 1_000_000, True),
        ("0", 0, 10, False),
        ("0", 1, 10, True),
        ("2%", 2, 100, False),
        ("2%", 3, 100, True),
        ("2%", 1, 49, True),  # two per cent of 49 are less than one file
        ("0%", 1, 1_000_000, True),
        ("100%", 7, 7, False),
        ("2%", 0, 0, False),
        # With binary fractions 0.07 % of 10,000 is less than 7.
        ("0.07%", 7, 10_000, False),
        ("0.07%", 8, 10_000, True),
    ],
)
def test_more_than_the_limit_is_too_many(
    text: str, failed: int, found: int, expected: bool
) -> None:
    assert parse_count(text, "--max-failures").is_exceeded(failed, found) is expected


def test_too_many_failures_end_the_run_with_the_most_frequent_reason() -> None:
    limit = parse_count("2%", "--max-failures")
    counts = {Reason.EMPTY: 3, Reason.TRUNCATED: 9, Reason.CORRUPT: 0}
    with pytest.raises(BatchLabelError) as raised:
        limit.check_failures(counts, 100, "a.jpg (truncated)", "repair it")
    assert raised.value.exit_code is ExitCode.FAILED
    assert "12 of 100 files failed, more than --max-failures 2% allows" in str(raised.value)
    assert "truncated: 9" in str(raised.value)
    assert str(raised.value).endswith("a.jpg (truncated); repair it")


def test_as_many_failures_as_allowed_pass() -> None:
    parse_count("2", "--max-failures").check_failures({Reason.EMPTY: 2}, 100, "", "")
    parse_count("0", "--max-failures").check_failures({}, 0, "", "")


def test_a_limit_of_failures_is_compared_by_its_value() -> None:
    assert parse_count("5", "--max-failures") != parse_count("5%", "--max-failures")
    assert isinstance(parse_count("5", "--max-failures"), CountLimit)


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("started", "expected"),
    [
        ((2024, 5, 1, 22, 0), (2024, 5, 2, 5, 30)),
        ((2024, 5, 1, 5, 29), (2024, 5, 1, 5, 30)),
        ((2024, 5, 1, 5, 30), (2024, 5, 2, 5, 30)),
        ((2024, 5, 1, 5, 31), (2024, 5, 2, 5, 30)),
        ((2024, 12, 31, 23, 59), (2025, 1, 1, 5, 30)),
    ],
)
def test_a_deadline_is_the_next_time_that_clocks_show_it(
    started: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert find_next_time(HALF_PAST_FIVE, local(*started)) == local(*expected)


@pytest.mark.usefixtures("berlin")
def test_a_deadline_is_in_local_time_in_any_zone() -> None:
    # 22:30 UTC on the first of May is half past midnight on the second in Berlin.
    assert find_next_time(HALF_PAST_FIVE, datetime(2024, 5, 1, 22, 30, tzinfo=UTC)) == datetime(
        2024, 5, 2, 3, 30, tzinfo=UTC
    )


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(
    ("started", "hours"),
    [
        ((2024, 3, 30, 22, 0), 6.5),  # summer begins, and the night is an hour shorter
        ((2024, 10, 26, 22, 0), 8.5),  # summer ends, and it is an hour longer
    ],
)
def test_a_night_on_which_clocks_change_is_shorter_or_longer(
    started: tuple[int, ...], hours: float
) -> None:
    begun = local(*started)
    assert find_next_time(HALF_PAST_FIVE, begun) - begun == timedelta(hours=hours)


@pytest.mark.usefixtures("berlin")
def test_a_time_that_clocks_skip_is_taken_in_standard_time() -> None:
    begun = local(2024, 3, 31, 1, 0)
    assert find_next_time(time(2, 30), begun) == local(2024, 3, 31, 3, 30)


@pytest.mark.usefixtures("berlin")
def test_a_time_that_comes_twice_counts_both_times() -> None:
    first, second = (local(2024, 10, 27, 2, 30, fold=fold) for fold in (0, 1))
    assert second - first == timedelta(hours=1)
    assert find_next_time(time(2, 30), first - timedelta(minutes=1)) == first
    assert find_next_time(time(2, 30), first) == second
    assert find_next_time(time(2, 30), second) == local(2024, 10, 28, 2, 30)


def test_without_limits_a_run_never_times_out() -> None:
    timer = RunTimer(Limits())
    assert not timer.is_up
    assert timer.ends_at is None


@pytest.mark.usefixtures("berlin")
def test_a_deadline_comes_after_the_seconds_that_were_left_at_the_start() -> None:
    clock = Clock()
    timer = RunTimer(Limits(deadline=HALF_PAST_FIVE), local(2024, 5, 1, 22, 0), clock)
    assert timer.ends_at == local(2024, 5, 2, 5, 30)
    clock.now += 7.5 * 3600 - 1
    assert not timer.is_up
    clock.now += 1
    assert timer.is_up
    assert timer.why == "the deadline 05:30 was reached"


def test_a_time_limit_counts_from_the_start() -> None:
    clock = Clock()
    zone = timezone(timedelta(hours=-7))
    timer = RunTimer(Limits(time_limit=5400), datetime(2024, 5, 1, tzinfo=zone), clock)
    clock.now += 5399
    assert not timer.is_up
    clock.now += 1
    assert timer.is_up
    assert timer.ends_at == datetime(2024, 5, 1, 1, 30, tzinfo=zone)
    assert timer.why == "the time limit 1h30m was reached"


@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize(("seconds", "why"), [(3600, "time limit"), (36_000, "deadline")])
def test_the_limit_that_comes_first_ends_the_run(seconds: int, why: str) -> None:
    limits = Limits(deadline=HALF_PAST_FIVE, time_limit=seconds)
    timer = RunTimer(limits, local(2024, 5, 1, 22, 0), Clock())
    assert why in timer.why
    assert timer.ends_at is not None
    assert timer.ends_at <= local(2024, 5, 2, 5, 30)


def test_the_system_clocks_are_the_default() -> None:
    timer = RunTimer(Limits(time_limit=3600))
    assert not timer.is_up
    assert timer.ends_at is not None
    assert timer.ends_at.tzinfo is not None


def test_a_moment_is_written_in_utc_with_milliseconds() -> None:
    summer = timezone(timedelta(hours=2))
    moment = datetime(2024, 5, 1, 1, 30, 0, 4_900, tzinfo=summer)
    assert utc_text(moment) == "2024-04-30T23:30:00.004Z"


def test_a_written_moment_is_read_back() -> None:
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    assert datetime.fromisoformat(utc_text(moment)) == moment


def test_now_is_aware() -> None:
    assert utc_now().utcoffset() == timedelta(0)


def test_the_monotonic_clock_goes_on() -> None:
    first = monotonic_seconds()
    assert monotonic_seconds() >= first
