"""Two clocks: the one on the wall for records, and a steady one for limits."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Tell the time as an aware datetime in UTC."""
    return datetime.now(UTC)


def utc_text(moment: datetime) -> str:
    """Write an aware datetime as UTC in ISO 8601 with milliseconds: 2024-05-01T03:30:00.000Z."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def steady() -> float:
    """Tell seconds from some point in the past; setting the machine's clock does not move it."""
    if sys.platform == "linux":
        # Linux's monotonic clock stands still while the machine sleeps, and a deadline does not.
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()
