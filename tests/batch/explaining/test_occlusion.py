"""Each spot of a view is hidden once, and the map has its value at that position."""

from __future__ import annotations

import numpy as np
import pytest

from batch.explaining.occlusion import (
    SPOTS_PER_SIDE,
    VIEWS_PER_BATCH,
    occlude_spots,
    upsample_spots,
)
from batch.records import Pixels


def _noise(height: int, width: int, channels: int) -> Pixels:
    chance = np.random.default_rng(5)
    return chance.integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(48, 48, 1), (160, 120, 3), (8, 8, 1)])
def test_each_spot_is_hidden_once_at_its_position(shape: tuple[int, int, int]) -> None:
    view = _noise(*shape)
    parts = list(occlude_spots(view))
    assert max(map(len, parts)) == VIEWS_PER_BATCH
    views = np.concatenate(parts)
    assert views.shape == (SPOTS_PER_SIDE**2, *shape)
    assert views.dtype == np.uint8
    changed = np.abs(views.astype(int) - view).sum(axis=-1).astype(float)
    corner, middle = changed[SPOTS_PER_SIDE - 1], changed[SPOTS_PER_SIDE**2 // 2]
    height, width, _ = shape
    # The last of the first row is the corner at the top right.
    assert corner[: height // 4, -width // 4 :].sum() > 0.5 * corner.sum()
    assert corner[height // 2 :].sum() < 0.05 * corner.sum()
    centre = middle[height // 4 : -height // 4, width // 4 : -width // 4]
    assert centre.sum() > 0.8 * middle.sum()


def test_a_uniform_view_does_not_change() -> None:
    view = np.full((48, 48, 3), (200, 30, 90), dtype=np.uint8)
    assert all((part == view).all() for part in occlude_spots(view))


def test_equal_spots_give_a_flat_map() -> None:
    importance = np.full((SPOTS_PER_SIDE, SPOTS_PER_SIDE), 2.5, dtype=np.float32)
    heat = upsample_spots(importance, 30, 70)
    assert heat.shape == (30, 70)
    assert heat == pytest.approx(2.5, abs=1e-5)


def test_a_map_has_its_spots_at_their_positions() -> None:
    importance = np.zeros((SPOTS_PER_SIDE, SPOTS_PER_SIDE), dtype=np.float32)
    importance[3, 9] = 1
    heat = upsample_spots(importance, 120, 240)
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    assert row / 120 == pytest.approx(3 / (SPOTS_PER_SIDE - 1), abs=0.02)
    assert column / 240 == pytest.approx(9 / (SPOTS_PER_SIDE - 1), abs=0.02)
