from __future__ import annotations

import pytest

from trainer.training.time_left import TimeLeft, format_duration


def test_the_time_left_counts_steps_and_ends_of_epochs() -> None:
    now = [0.0]
    left = TimeLeft(steps=10, epochs=3, clock=lambda: now[0])
    said = []
    for _ in range(10):
        now[0] += 2
        said.append(left.end_step())
    # After 6 s, 3 of 30 steps: 27 more take 54 s.
    assert said == ["", "", "about 54 seconds left", *[""] * 7]
    now[0] += 50
    assert left.end_epoch(is_last=False) == "about 2 minutes left"  # 20 steps and 2 ends: 140 s
    now[0] += 2
    assert left.end_step() == ""
    assert left.end_epoch(is_last=True) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 second"),
        (1.4, "1 second"),
        (40, "40 seconds"),
        (240, "4 minutes"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations_are_words(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
