from __future__ import annotations

from trainer.training.batches import list_batch_starts


def test_no_batch_has_a_single_sample() -> None:
    assert list_batch_starts(65, 32) == [0, 32, 65]
    assert list_batch_starts(64, 32) == [0, 32, 64]
    assert list_batch_starts(66, 32) == [0, 32, 64, 66]
