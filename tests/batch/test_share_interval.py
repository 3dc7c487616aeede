"""The interval of a share against SciPy's, and its rounding."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from batch.share_interval import compute_share_interval


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (46, 50), (50, 50), (731, 1000)])
def test_the_interval_is_wilson_s(right: int, count: int) -> None:
    expected = binomtest(right, count).proportion_ci(method="wilson")
    assert compute_share_interval(right / count, count) == pytest.approx(
        (expected.low, expected.high)
    )


def test_rounding_moves_no_end_of_the_interval_beyond_the_share() -> None:
    for count in range(1, 200):
        assert compute_share_interval(0.0, count)[0] == 0
        assert compute_share_interval(1.0, count)[1] == 1
        for right in range(count + 1):
            low, high = compute_share_interval(right / count, count)
            assert 0 <= low <= right / count <= high <= 1
