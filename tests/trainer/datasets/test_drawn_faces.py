from __future__ import annotations

import numpy as np
import pytest

from trainer.datasets.dataset import Framing
from trainer.datasets.drawn_faces import STARTER_LABELS, Mood, draw_face, load_starter


@pytest.mark.parametrize("channels", [1, 3])
def test_a_seed_draws_the_same_face_every_time(channels: int) -> None:
    face = draw_face(Mood.HAPPY, 48, channels, 7)
    assert face.shape == (48, 48, channels)
    assert face.dtype == np.uint8
    np.testing.assert_array_equal(face, draw_face(Mood.HAPPY, 48, channels, 7))
    assert (face != draw_face(Mood.HAPPY, 48, channels, 8)).any()
    assert face.std() > 10


def test_the_starter_set_is_the_same_every_time_and_half_happy() -> None:
    data = load_starter(Framing(side=32))
    assert data.fingerprint == load_starter(Framing(side=32)).fingerprint
    assert data.labels == STARTER_LABELS == ("happy", "sad")
    faces = data.get_split("all")
    assert len({face.tobytes() for face in faces.pixels}) == len(faces) == 600
    for part in (data.train, data.validation, data.test):
        assert part.targets.mean() == 0.5


def test_happy_and_sad_of_the_starter_set_are_equally_bright() -> None:
    data = load_starter(Framing(side=32))
    means = data.train.pixels.mean(axis=(1, 2, 3))
    happy, sad = (means[data.train.targets == n] for n in (0, 1))
    assert abs(happy.mean() - sad.mean()) < 0.2 * np.concatenate([happy, sad]).std()
