from __future__ import annotations

import pytest

from trainer.training.time_left import TimeLeft


def test_the_time_left_counts_steps_and_ends_of_epochs() -> None:
    now = [0.0]
    left = TimeLeft(steps=10, epochs=3, clock=lambda: now[0])
    said = []
    for _ in range(10):
        now[0] += 2
        said.append(left.end_step())
    # After 6 s, 3 of 30 steps: 27 more take 54 s.
    assert said == ["", "", "about 54s left", *[""] * 7]
    now[0] += 50
    assert left.end_epoch(is_last=False) == "about 2m left"  # 20 steps and 2 ends: 140 s
    now[0] += 2
    assert left.end_step() == ""
    assert left.end_epoch(is_last=True) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1s left"),
        (1.4, "about 1s left"),
        (40, "about 40s left"),
        (251, "about 4m left"),
        (7811, "about 2h10m left"),
    ],
)
def test_an_estimate_is_rounded(seconds: float, text: str) -> None:
    now = [0.0]
    left = TimeLeft(steps=1, epochs=2, clock=lambda: now[0])
    left.end_step()
    now[0] += seconds
    assert left.end_epoch(is_last=False) == text
