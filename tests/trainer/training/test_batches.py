from __future__ import annotations

import threading
from dataclasses import replace
from itertools import islice

import pytest
import torch

from tests.support.trainer_data import CONFIG, drawn_dataset
from trainer.training import batches
from trainer.training.batches import Batch, choose_workers, iter_batches, list_batch_starts
from trainer.training.config import Config

STRONG = replace(
    CONFIG,
    batch_size=8,
    augmentation=replace(CONFIG.augmentation, crop=0.5, jpeg=0.5, saturation=1.5, tint=0.1),
)


def make_epoch(config: Config, epoch: int, workers: int) -> list[Batch]:
    return list(iter_batches(drawn_dataset().train, config, epoch, workers))


def assert_equal(one: list[Batch], other: list[Batch]) -> None:
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_no_batch_has_a_single_sample() -> None:
    assert list_batch_starts(65, 32) == [0, 32, 65]
    assert list_batch_starts(64, 32) == [0, 32, 64]
    assert list_batch_starts(66, 32) == [0, 32, 64, 66]


@pytest.mark.parametrize("config", [STRONG, replace(STRONG, box_jitter=0.1)])
def test_any_number_of_workers_makes_the_same_batches(config: Config) -> None:
    threads = torch.get_num_threads()
    first = make_epoch(config, 1, 0)
    for workers in (1, 5):
        assert_equal(make_epoch(config, 1, workers), first)
    assert not torch.equal(make_epoch(config, 2, 0)[0].pixels, first[0].pixels)
    assert torch.get_num_threads() == threads


def test_batches_draw_different_random_numbers() -> None:
    part = drawn_dataset().train
    pixels = part.pixels.copy()
    pixels[:] = pixels[0]
    one, other = islice(iter_batches(replace(part, pixels=pixels), STRONG, 1), 2)
    assert not torch.equal(one.pixels, other.pixels)


def test_the_next_batches_are_made_meanwhile_but_not_all(monkeypatch: pytest.MonkeyPatch) -> None:
    made = threading.Semaphore(0)
    make_batch = batches._make_batch
    counted: list[int] = []

    def count(*args: object) -> Batch:
        batch = make_batch(*args)  # type: ignore[arg-type]
        counted.append(len(batch.votes))
        made.release()
        return batch

    monkeypatch.setattr(batches, "_make_batch", count)
    waiting = iter_batches(drawn_dataset().train, STRONG, 1, 2)
    next(waiting)
    for _ in range(3):  # the first, and two in advance
        assert made.acquire(timeout=60)
    assert not made.acquire(timeout=0.2)
    waiting.close()  # type: ignore[attr-defined]
    assert len(counted) == 3


def test_an_error_in_a_worker_ends_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no memory for a batch")

    monkeypatch.setattr(batches, "_make_batch", fail)
    with pytest.raises(MemoryError, match="no memory for a batch"):
        make_epoch(STRONG, 1, 2)


def test_a_gpu_gets_more_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "available_cores", lambda: 16)
    assert choose_workers(torch.device("cuda")) == 8
    assert choose_workers(torch.device("cpu")) == 0
    monkeypatch.setattr(batches, "available_cores", lambda: 1)
    assert choose_workers(torch.device("cuda")) == 1
