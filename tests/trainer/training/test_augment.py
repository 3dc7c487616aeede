from __future__ import annotations

from dataclasses import replace
from typing import get_type_hints

import pytest
import torch
from torch import Tensor

from trainer.datasets.drawn_faces import Mood, draw_face
from trainer.training.augment import augment, jitter_boxes
from trainer.training.config import Augmentation

NOTHING = Augmentation(
    rotation=0, scale=1, shift=0, low_resolution=0, contrast=1, brightness=0, noise=0, erase=0
)


def draw_faces(count: int = 24) -> Tensor:
    drawn = [torch.tensor(draw_face(Mood.HAPPY, 24, 1, seed)) for seed in range(count)]
    return torch.stack(drawn).permute(0, 3, 1, 2).float()


def augment_pixels(how: Augmentation, pixels: Tensor, seed: int = 1) -> Tensor:
    return augment(pixels, how, torch.Generator().manual_seed(seed))


def test_the_same_generator_gives_the_same_batch() -> None:
    how = Augmentation(min_side=12)
    once, again, other = (augment_pixels(how, draw_faces(), seed) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.shape == draw_faces().shape
    assert once.min() >= 0
    assert once.max() <= 255


def test_without_augmentation_faces_are_only_mirrored() -> None:
    before, after = draw_faces(), augment_pixels(NOTHING, draw_faces())
    same = (after - before).abs().amax(dim=(1, 2, 3)) < 0.1
    mirrored = (after - before.flip(3)).abs().amax(dim=(1, 2, 3)) < 0.1
    assert bool((same | mirrored).all())
    assert 0 < int(same.sum()) < len(before)


@pytest.mark.parametrize(
    "how",
    [
        replace(NOTHING, rotation=20),
        replace(NOTHING, scale=1.3),
        replace(NOTHING, shift=0.1),
        replace(NOTHING, low_resolution=1, min_side=6),
        replace(NOTHING, contrast=1.5),
        replace(NOTHING, brightness=30),
        replace(NOTHING, noise=20),
        replace(NOTHING, erase=1),
        replace(NOTHING, crop=0.5),
        replace(NOTHING, aspect=1.3),
        replace(NOTHING, tint=0.2),
        replace(NOTHING, jpeg=1),
    ],
)
def test_each_change_has_an_effect(how: Augmentation) -> None:
    difference = (augment_pixels(how, draw_faces()) - augment_pixels(NOTHING, draw_faces())).abs()
    assert difference.mean() > 0.5


@pytest.mark.parametrize("bound", ["ge", "le"])
def test_pictures_stay_in_range_at_the_bounds_of_all_settings(bound: str) -> None:
    hints = get_type_hints(Augmentation, include_extras=True)
    values = {name: getattr(hint.__metadata__[0], bound) for name, hint in hints.items()}
    for how in (Augmentation(**values), Augmentation(**values).halve()):
        after = augment_pixels(how, draw_faces())
        assert bool(after.isfinite().all())
        assert 0 <= float(after.min()) <= float(after.max()) <= 255


def test_erased_is_one_box_in_the_faces_mean() -> None:
    how = replace(NOTHING, erase=1, erase_side=0.5)
    erased, plain = augment_pixels(how, draw_faces(4)), augment_pixels(NOTHING, draw_faces(4))
    for after, before in zip(erased, plain, strict=True):
        rows, columns = torch.nonzero(after[0] != before[0], as_tuple=True)
        box = after[0, rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert torch.allclose(box, before.mean())
        assert max(box.shape) <= 13


def test_shift_moves_by_at_most_its_share_of_the_side() -> None:
    dot = torch.zeros(64, 1, 41, 41)
    dot[:, :, 20, 20] = 255
    moved = augment_pixels(replace(NOTHING, shift=0.1), dot)
    weights = moved.sum(dim=1) / moved.sum(dim=(1, 2, 3)).view(-1, 1, 1)
    places = torch.arange(41.0)
    across = (weights.sum(dim=1) * places).sum(dim=1) - 20
    down = (weights.sum(dim=2) * places).sum(dim=1) - 20
    furthest = torch.cat([across, down]).abs().max()
    assert 3.0 < furthest <= 4.11


def colours(count: int = 24) -> Tensor:
    drawn = [torch.tensor(draw_face(Mood.SAD, 24, 3, seed)) for seed in range(count)]
    return torch.stack(drawn).permute(0, 3, 1, 2).float()


def measure_colour_spread(pixels: Tensor) -> Tensor:
    """Measure the mean spread of the colours of each picture."""
    return (pixels.amax(dim=1) - pixels.amin(dim=1)).mean(dim=(1, 2))


def test_colour_can_be_weaker_stronger_or_gone() -> None:
    before = measure_colour_spread(colours())
    after = measure_colour_spread(augment_pixels(replace(NOTHING, saturation=2.0), colours()))
    assert bool((after < before).any())
    assert bool((after > before).any())
    assert (
        float(measure_colour_spread(augment_pixels(replace(NOTHING, grey=1.0), colours())).max())
        < 1e-3
    )


def test_a_crop_is_inside_the_picture() -> None:
    ramp = torch.linspace(0, 255, 24).expand(200, 1, 24, 24)
    after = augment_pixels(replace(NOTHING, crop=0.25), ramp)
    widths = (after.amax(dim=(1, 2, 3)) - after.amin(dim=(1, 2, 3))) / 255
    assert 0.4 < float(widths.min()) < 0.6
    assert float(widths.max()) > 0.9


def test_a_picture_smaller_than_the_smallest_side_is_still_changed() -> None:
    how = replace(NOTHING, low_resolution=1, min_side=100)
    assert augment_pixels(how, draw_faces()).shape == draw_faces().shape


def test_without_jitter_boxes_stay() -> None:
    pixels = draw_faces()
    assert torch.allclose(jitter_boxes(pixels, 0.0, torch.Generator()), pixels, atol=1e-3)


def test_boxes_move_by_up_to_a_share_of_their_side() -> None:
    """A bright spot in the centre moves as far as its box, in the opposite direction."""
    pixels = torch.zeros(400, 1, 41, 41)
    pixels[:, :, 20, 20] = 255
    moved = jitter_boxes(pixels, 0.1, torch.Generator().manual_seed(1))
    assert moved.shape == pixels.shape
    weights = moved / moved.sum(dim=(2, 3), keepdim=True)
    across = (weights * torch.arange(41.0)).sum(dim=(1, 2, 3)) - 20
    down = (weights * torch.arange(41.0)[:, None]).sum(dim=(1, 2, 3)) - 20
    for shift in (across, down):
        # A box may also be a tenth smaller, which enlarges the shift.
        assert 0.08 * 41 < float(shift.abs().max()) <= 0.1 / 0.9 * 41 + 0.6
        assert abs(float(shift.mean())) < 0.5
    assert float(torch.corrcoef(torch.stack([across, down]))[0, 1].abs()) < 0.2


def test_boxes_change_their_side_by_up_to_the_same_share() -> None:
    pixels = torch.full((400, 1, 41, 41), 255.0)
    pixels[:, :, :10] = pixels[:, :, 31:] = pixels[:, :, :, :10] = pixels[:, :, :, 31:] = 0
    moved = jitter_boxes(pixels, 0.1, torch.Generator().manual_seed(1))
    sides = (moved.sum(dim=(1, 2, 3)) / 255).sqrt() / 21
    assert 1 / 1.12 < float(sides.min()) < 0.95
    assert 1.05 < float(sides.max()) < 1 / 0.88


def test_the_same_generator_moves_boxes_alike() -> None:
    once, again, other = (
        jitter_boxes(draw_faces(), 0.1, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
