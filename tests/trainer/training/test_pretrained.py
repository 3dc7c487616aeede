from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from batch.errors import InputError, UsageError
from batch.models.contract import load_model
from batch.models.shipped import find_model
from batch.records import Region
from tests.support.trainer_data import CONFIG, drawn_dataset, tiny_run
from trainer.datasets.dataset import Framing, Split
from trainer.datasets.drawn_faces import Mood, draw_face
from trainer.evaluation.exported_models import predict_onnx
from trainer.exporting.export import ExportOptions, export_model
from trainer.exporting.model_card import write_card
from trainer.exporting.onnx_graph import DeployedNetwork
from trainer.networks import HEAD_WIDTH, NETWORK_SIZES, FaceNet, InvertedResidual, PhotoNet
from trainer.training.checkpoint import CHECKPOINT_FILE, load_trained_network
from trainer.training.config import Config
from trainer.training.loop import build_optimizer, predict_logits, set_learning_rate, train
from trainer.training.pretrained import (
    build_network,
    find_imagenet_weights,
    freeze_layers,
    freeze_norms,
    initialise_network,
    read_init_widths,
)
from trainer.training.probe import (
    FEATURE_GAIN,
    compute_channel_means,
    fit_logistic_regression,
    fit_probe,
)

PHOTO = Config(network="efficientnet-lite0", init="imagenet")
# ImageNet's tabby, tiger cat, Persian, Siamese and Egyptian cat.
CATS = range(281, 286)


@pytest.fixture(scope="module", params=NETWORK_SIZES)
def pretrained(request: pytest.FixtureRequest) -> PhotoNet:
    network = PhotoNet(2, name=request.param)
    initialise_network(network, "imagenet")
    return network.eval()


def draw_photos(count: int) -> Split:
    moods = [Mood.HAPPY if n % 2 else Mood.SAD for n in range(count)]
    pixels = np.stack([draw_face(mood, 64, 3, n) for n, mood in enumerate(moods)])
    votes = np.eye(2, dtype=np.float32)[[int(mood is Mood.SAD) for mood in moods]]
    return Split(pixels, votes, np.ones(count, dtype=np.bool_))


def test_the_published_weights_recognise_a_cat(pretrained: PhotoNet) -> None:
    data = pytest.importorskip("skimage.data")
    published = torch.load(find_imagenet_weights(NETWORK_SIZES[pretrained.name]), weights_only=True)
    cat = torch.from_numpy(data.chelsea()[:, 75:375].copy()).permute(2, 0, 1)[None].float()
    pixels = torch.nn.functional.interpolate(cat, size=(224, 224), mode="area")
    with torch.inference_mode():
        head = pretrained.features[:-1](pixels).flatten(1)[:, -HEAD_WIDTH:]
    logits = head @ published["_fc.weight"].T + published["_fc.bias"]
    assert int(logits.argmax()) in CATS


def test_the_network_computes_what_the_published_one_does(pretrained: PhotoNet) -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    # The published network pads for one picture size, this one for any even size.
    theirs = reference.EfficientNet.from_name(pretrained.name, image_size=160)
    published = find_imagenet_weights(NETWORK_SIZES[pretrained.name])
    theirs.load_state_dict(torch.load(published, weights_only=True))
    data = pytest.importorskip("skimage.data")
    photo = torch.from_numpy(data.astronaut()[:160, 100:260].copy()).permute(2, 0, 1)[None].float()
    with torch.inference_mode():
        wanted = theirs.eval().extract_features((photo - 127) / 128).mean(dim=(2, 3))
        ours = pretrained.features[:-1](photo).flatten(1)[:, -HEAD_WIDTH:]
    assert torch.allclose(ours, wanted, atol=1e-5)


def test_folding_the_norms_for_serving_changes_no_answer(pretrained: PhotoNet) -> None:
    pixels = torch.from_numpy(draw_photos(4).pixels)
    with torch.inference_mode():
        logits = pretrained(pixels.permute(0, 3, 1, 2).float())
        served = DeployedNetwork(pretrained, (0, 1), 1.0)(pixels)
    assert torch.allclose(torch.softmax(logits, 1), served, atol=1e-4)


def test_grey_samples_are_refused_by_a_network_for_colours() -> None:
    with pytest.raises(UsageError, match="add --rgb"):
        build_network(PHOTO, 2, channels=1)


def test_weights_of_a_run_are_used_except_a_classifier_of_other_classes() -> None:
    path = tiny_run() / CHECKPOINT_FILE
    learnt = torch.load(path, weights_only=True)["ema"]
    network = FaceNet(5, CONFIG.widths)
    before = network.classifier.weight.clone()
    initialise_network(network, str(path))
    assert torch.equal(network.state_dict()["features.1.weight"], learnt["features.1.weight"])
    assert torch.equal(network.classifier.weight, before)


def test_wrong_weights_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "weights.pt"
    broken.write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"weights\.pt can't be read"):
        initialise_network(PhotoNet(2), str(broken))
    with pytest.raises(InputError, match="the weights of another network"):
        initialise_network(PhotoNet(2), str(tiny_run() / CHECKPOINT_FILE))
    with pytest.raises(UsageError, match="set network to efficientnet-lite0 or efficientnet-lite2"):
        initialise_network(FaceNet(2, (4,)), "imagenet")


def test_only_the_last_blocks_are_trained() -> None:
    network = PhotoNet(2)
    freeze_layers(network, "last-2")
    blocks = [m for m in network.modules() if isinstance(m, InvertedResidual)]
    learning = [all(p.requires_grad for p in block.parameters()) for block in blocks]
    assert learning == [False] * 14 + [True] * 2
    freeze_layers(network, "head")
    assert not any(p.requires_grad for p in network.features.parameters())
    assert all(p.requires_grad for p in network.classifier.parameters())
    freeze_layers(network, "all")
    assert all(p.requires_grad for p in network.parameters())
    with pytest.raises(UsageError, match="there are 16"):
        freeze_layers(network, "last-17")


def test_pretrained_weights_learn_more_slowly() -> None:
    network = FaceNet(2, (4, 8))
    optimizer = build_optimizer(network, Config(pretrained_rate=0.1))
    set_learning_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates[id(network.classifier.weight)] == 0.5
    assert rates[id(network.features[1].weight)] == pytest.approx(0.05)
    assert len(rates) == len(list(network.parameters()))


def test_frozen_norms_keep_their_statistics(pretrained: PhotoNet) -> None:
    network = PhotoNet(2, name=pretrained.name)
    network.load_state_dict(pretrained.state_dict())
    network.train()
    freeze_norms(network)
    network(torch.rand(2, 3, 64, 64) * 255)
    for name, value in network.state_dict().items():
        assert torch.equal(value, pretrained.state_dict()[name]), name


def test_a_probe_tells_drawn_moods_apart_before_any_training() -> None:
    network = PhotoNet(2)
    initialise_network(network, "imagenet")
    fit_probe(network, draw_photos(24), decay=1.0)
    unseen = draw_face(Mood.SAD, 64, 3, 999), draw_face(Mood.HAPPY, 64, 3, 999)
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(np.stack(unseen)).permute(0, 3, 1, 2).float())
    assert logits.argmax(1).tolist() == [1, 0]
    features = network.features(torch.rand(1, 3, 64, 64) * 255)
    assert bool(features.isfinite().all())


def test_a_training_may_consist_of_a_probe(tmp_path: Path) -> None:
    data = replace(
        drawn_dataset(),
        labels=("happy", "sad"),
        framing=Framing(Region.IMAGE, 0.0, 64, 3),
        train=draw_photos(24),
        validation=draw_photos(4),
        test=draw_photos(4),
    )
    config = replace(PHOTO, probe=1.0, epochs=0, threads=1)
    (baseline,) = train(data, config, tmp_path)
    assert (baseline.epoch, baseline.train_accuracy) == (0, 1.0)
    trained = load_trained_network(tmp_path)
    assert predict_logits(trained.network, data.train.pixels).argmax(1).tolist() == [1, 0] * 12
    exported = export_model(trained, data, ExportOptions(name="photo", created="2026-01-02"))
    assert "its classifier fitted by logistic regression" in write_card(exported, trained, data)


def test_grey_samples_are_refused_by_a_training(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="takes RGB samples"):
        train(drawn_dataset(), PHOTO, tmp_path)


def test_a_probe_has_the_least_loss_for_its_decay(pretrained: PhotoNet) -> None:
    network, photos, decay = copy.deepcopy(pretrained), draw_photos(16), 3.0
    fit_probe(network, photos, decay)
    both = np.concatenate([photos.pixels, photos.pixels[:, :, ::-1]])
    pixels = torch.from_numpy(both).permute(0, 3, 1, 2).float()
    votes = torch.from_numpy(photos.votes).repeat(2, 1)
    with torch.inference_mode():
        features = network.eval().features(pixels).flatten(1)
        wrong = torch.softmax(network.classifier(features), 1) - votes
        # With features of about unit length the gradient of loss and decay is zero.
        slope = (
            wrong.T @ (features / FEATURE_GAIN) / 2
            + decay * network.classifier.weight * FEATURE_GAIN
        )
    assert 0.3 < float(features.norm(dim=1).mean()) / FEATURE_GAIN < 2
    assert float(slope.abs().max()) < 1e-3


def test_the_probe_counts_a_sample_by_its_weight() -> None:
    chance = torch.Generator().manual_seed(1)
    features = torch.randn(12, 3, generator=chance)
    votes = torch.eye(2)[torch.arange(12) % 2]
    twice = torch.cat([torch.full((4,), 2.0), torch.ones(8)])
    weight, bias = fit_logistic_regression(features, votes, 1.0, weights=twice)
    repeated = (torch.cat([features, features[:4]]), torch.cat([votes, votes[:4]]))
    expected = fit_logistic_regression(*repeated, 1.0)
    assert torch.allclose(weight, expected[0], atol=1e-4)
    assert torch.allclose(bias, expected[1], atol=1e-4)
    assert not torch.allclose(weight, fit_logistic_regression(features, votes, 1.0)[0], atol=1e-3)


def test_a_probe_uses_the_weights_of_the_split() -> None:
    part = draw_photos(12)
    networks = []
    for weights in (np.ones(12), np.where(np.arange(12) % 2, 1, 50)):
        torch.manual_seed(1)
        network = PhotoNet(2)
        fit_probe(network, replace(part, weights=weights.astype(np.float32)), 1e3)
        networks.append(network)
    plain, heavy = (network.classifier.bias.detach() for network in networks)
    assert heavy[1] - heavy[0] > plain[1] - plain[0]


def test_the_widths_are_read_from_the_initial_weights(tmp_path: Path) -> None:
    for name in ("happy-sad", "expressions"):
        assert read_init_widths(name) == (48, 96, 192, 256)
    assert read_init_widths(str(tiny_run() / CHECKPOINT_FILE)) == CONFIG.widths
    trained, data = load_trained_network(tiny_run()), drawn_dataset()
    exported = export_model(trained, data, ExportOptions(name="tiny", created="2026-01-02"))
    (tmp_path / "tiny.onnx").write_bytes(exported.graph)
    assert read_init_widths(str(tmp_path / "tiny.onnx")) == CONFIG.widths
    assert [read_init_widths(init) for init in ("", "imagenet", "people")] == [None] * 3


def test_a_shipped_model_by_name_gives_its_answers_to_the_network() -> None:
    network = FaceNet(8, (48, 96, 192, 256))
    initialise_network(network, "expressions")
    shipped = load_model(find_model("expressions"))
    pixels = drawn_dataset().test.pixels.repeat(2, axis=1).repeat(2, axis=2)
    pixels = np.concatenate([pixels, pixels[:, :, ::-1]])
    logits = predict_logits(network, pixels)
    ours = (logits[:60] + logits[60:]).argmax(1).numpy()
    theirs = predict_onnx(shipped.graph, pixels[:60]).argmax(1)
    assert (ours == theirs).mean() > 0.9


def test_grey_weights_serve_for_rgb_and_rgb_ones_for_grey(tmp_path: Path) -> None:
    grey = FaceNet(3, CONFIG.widths)
    initialise_network(grey, str(tiny_run() / CHECKPOINT_FILE))
    coloured = FaceNet(3, CONFIG.widths, channels=3)
    initialise_network(coloured, str(tiny_run() / CHECKPOINT_FILE))
    pixels = drawn_dataset().test.pixels
    wanted = predict_logits(grey, pixels)
    assert torch.allclose(predict_logits(coloured, pixels.repeat(3, axis=3)), wanted, atol=1e-3)
    torch.save(coloured.state_dict(), tmp_path / "rgb.pt")
    back = FaceNet(3, CONFIG.widths)
    initialise_network(back, str(tmp_path / "rgb.pt"))
    assert torch.allclose(predict_logits(back, pixels), wanted, atol=1e-3)


def test_a_probe_of_a_face_model_has_the_least_loss_and_tells_moods_apart() -> None:
    network = FaceNet(3, (48, 96, 192, 256))
    initialise_network(network, "happy-sad")
    data = drawn_dataset()
    fit_probe(network, data.train, decay=1.0)
    answers = predict_logits(network, data.test.pixels).argmax(1).numpy()
    assert (answers == data.test.targets).mean() > 0.8
    means = compute_channel_means(network, data.train.pixels)
    for factor in (0.9, 1.1):
        votes = torch.from_numpy(data.train.votes)
        moved = copy.deepcopy(network)
        with torch.no_grad():
            moved.classifier.bias.mul_(factor)
        losses = [
            torch.nn.functional.cross_entropy(one.classifier(means), votes).item()
            for one in (network, moved)
        ]
        assert losses[0] < losses[1]
