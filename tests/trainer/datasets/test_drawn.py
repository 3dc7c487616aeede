from __future__ import annotations

import numpy as np
import pytest

from trainer.datasets.drawn_faces import Mood, draw_face


@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_draws_the_same_face_every_time(channels: int) -> None:
    face = draw_face(Mood.HAPPY, 48, channels, 7)
    assert face.shape == (48, 48, channels)
    assert face.dtype == np.uint8
    np.testing.assert_array_equal(face, draw_face(Mood.HAPPY, 48, channels, 7))
    assert (face != draw_face(Mood.HAPPY, 48, channels, 8)).any()
    assert face.std() > 10
