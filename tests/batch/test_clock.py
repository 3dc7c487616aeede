"""Moments are written in UTC, and the steady clock does not go back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from batch.limits import monotonic_seconds, utc_now, utc_text


def test_a_moment_is_written_in_utc_with_milliseconds() -> None:
    summer = timezone(timedelta(hours=2))
    moment = datetime(2024, 5, 1, 1, 30, 0, 4_900, tzinfo=summer)
    assert utc_text(moment) == "2024-04-30T23:30:00.004Z"


def test_what_was_written_is_read_back() -> None:
    moment = datetime(2024, 5, 1, tzinfo=UTC)
    assert datetime.fromisoformat(utc_text(moment)) == moment


def test_now_is_aware() -> None:
    assert utc_now().utcoffset() == timedelta(0)


def test_the_steady_clock_goes_on() -> None:
    first = monotonic_seconds()
    assert monotonic_seconds() >= first
