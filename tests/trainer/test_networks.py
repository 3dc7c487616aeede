from __future__ import annotations

import copy

import pytest
import torch

from trainer.networks import FaceNet, Standardise, count_parameters, update_average


@pytest.mark.parametrize(("side", "channels"), [(48, 1), (24, 3), (33, 1)])
def test_any_size_and_colour_gives_one_logit_a_class(side: int, channels: int) -> None:
    network = FaceNet(5, (4, 8, 8), channels).eval()
    assert network(torch.rand(2, channels, side, side) * 255).shape == (2, 5)


def test_light_and_contrast_hardly_change_the_answer() -> None:
    torch.manual_seed(1)
    network = FaceNet(3, (4, 8)).eval()
    face = torch.rand(1, 1, 24, 24) * 80 + 40
    duller = face * 0.8 + 30
    assert torch.allclose(network(face), network(duller), atol=0.05)
    assert not torch.allclose(network(face), network(face.flip(2)), atol=1e-4)


def test_standardise_knows_each_image_by_itself_and_stands_a_flat_one() -> None:
    images = torch.stack([torch.rand(3, 8, 8) * 255, torch.full((3, 8, 8), 200.0)])
    out = Standardise()(images)
    assert torch.allclose(out.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5)
    assert out[0].std() == pytest.approx(0.9, abs=0.06)
    assert torch.equal(out[1], torch.zeros(3, 8, 8))


def test_parameter_names_of_earlier_checkpoints_still_fit() -> None:
    names = list(FaceNet(8, (4, 8)).state_dict())
    assert names[0] == "features.1.weight"
    assert "features.4.body.0.weight" in names
    assert "features.5.shortcut.1.running_var" in names
    assert names[-2:] == ["classifier.weight", "classifier.bias"]


def test_parameters_are_counted() -> None:
    by_hand = 25 * 4 + 8 + 2 * (9 * 16 + 8) + (4 * 2 + 2)
    assert count_parameters(FaceNet(2, (4,))) == by_hand


def test_the_average_moves_by_its_share_and_copies_counters() -> None:
    network, ema = FaceNet(2, (4,)), FaceNet(2, (4,))
    before, target = copy.deepcopy(ema.state_dict()), network.state_dict()
    network.features[2].num_batches_tracked.fill_(7)  # type: ignore[operator]
    update_average(ema, network, decay=0.75)
    for name, mean in ema.state_dict().items():
        if mean.dtype.is_floating_point:
            assert torch.allclose(mean, 0.75 * before[name] + 0.25 * target[name])
    assert ema.state_dict()["features.2.num_batches_tracked"] == 7
