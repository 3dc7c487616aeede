"""The choices that a training makes from its data, by the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from batch.errors import InputError
from batch.models.contract import load_model
from batch.records import Region
from tests.support.trainer_data import FERPLUS_ROWS, write_ferplus, write_folders
from trainer.cli.main import cli
from trainer.datasets.dataset import Framing
from trainer.evaluation.trained_on import merge_trained_on
from trainer.networks import PhotoNet
from trainer.training.checkpoint import load_trained_network
from trainer.training.config import Config
from trainer.training.defaults import FACE_INIT, FACE_PROBE, PHOTO_NETWORK
from trainer.training.pretrained import build_network, initialise_network, read_init_widths

NO_OPTIONS = {"region": None, "side": None, "rgb": False, "margin": None}


def trainer(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))


def test_a_folder_of_faces_becomes_a_model_without_a_setting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_folders(Path("photos"), 24)
    learn = ("train", "--data", "photos", "--run", "run", "--threads", 1)
    assert trainer(*learn).exit_code == 0
    trained = load_trained_network(Path("run"))
    widths = read_init_widths(FACE_INIT)
    assert trained.config == Config(
        init=FACE_INIT, widths=widths or (), probe=FACE_PROBE, epochs=0, threads=1
    )
    assert trained.framing == Framing()
    # The test photos are not surveyed.
    assert "samples are faces: 44 of 44 surveyed photos show a face" in caplog.text
    assert (
        "settings: faces, 48 x 48 pixels, grey; network residual, init happy-sad, probe 0.1, only "
        "its last layer is fitted; with 37" in caplog.text
    )
    assert trained.history[0].validation_accuracy > 0.5
    exported = trainer("export", "--data", "photos", "--run", "run", "--name", "mine")
    assert exported.exit_code == 0, exported.output
    again = trainer(*learn)
    assert "run: finished on these data with these settings" in caplog.text
    assert "The run is run\n" in again.stdout

    # The next training starts from the user's own model, by its name, with options of its own.
    Path("settings.toml").write_text('init = "mine"\nlearning_rate = 1e-4\nbatch_size = 8\n')
    learnt = trainer(*learn, "--config", "settings.toml", "--epochs", 1)
    assert learnt.exit_code == 0, learnt.output
    second = load_trained_network(Path("run-2"))
    assert (second.config.learning_rate, second.config.batch_size) == (1e-4, 8)
    assert second.config.widths == widths
    assert [epoch.epoch for epoch in second.history] == [0, 1]


def test_a_folder_without_faces_becomes_a_model_of_whole_photos() -> None:
    chance = np.random.default_rng(1)
    for n in range(24):
        tone = (90, 40) if n % 2 else (40, 120)
        pixels = chance.integers(0, 100, (12, 12, 3), np.uint8)
        pixels[..., 0] += np.uint8(tone[0])
        pixels[..., 2] += np.uint8(tone[1])
        path = Path("photos") / ("warm" if n % 2 else "cold") / f"{n}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((180, 120), Image.Resampling.BICUBIC).save(path)
    learnt = trainer("train", "--data", "photos", "--run", "run", "--threads", 1)
    assert learnt.exit_code == 0, learnt.output
    trained = load_trained_network(Path("run"))
    assert trained.config.network == PHOTO_NETWORK
    assert trained.framing == Framing(Region.IMAGE, side=160, channels=3)
    exported = trainer("export", "--run", "run", "--output", "mine.onnx")
    assert exported.exit_code == 0, exported.output
    assert load_model(Path("mine.onnx")).spec.region is Region.IMAGE


def test_options_of_the_framing_override_the_choice_one_by_one() -> None:
    from trainer.training.preparation import prepare_training

    write_folders(Path("photos"), 6)
    for options, framing in (
        ({"side": 32}, Framing(side=32)),
        ({"rgb": True, "margin": 0.2}, Framing(margin=0.2, channels=3)),
        ({"region": "image"}, Framing(Region.IMAGE, side=160, channels=3)),
        ({"region": "image", "side": 64}, Framing(Region.IMAGE, side=64, channels=3)),
    ):
        data = prepare_training(Path("photos"), NO_OPTIONS | options, {}).data
        assert data.framing == framing
    prepared = prepare_training(Path("photos"), NO_OPTIONS, {"network": "efficientnet-lite0"})
    data, config = prepared.data, prepared.config
    assert (data.framing.region, config.init) == (Region.IMAGE, "imagenet")
    prepared = prepare_training(Path("photos"), NO_OPTIONS, {"widths": (4, 8)})
    data, config = prepared.data, prepared.config
    assert (data.framing, config) == (Framing(), Config(widths=(4, 8)))


def test_a_second_command_takes_the_surveyed_photos_from_the_cache(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from trainer.training.preparation import prepare_training

    write_folders(Path("photos"), 6)
    first = prepare_training(Path("photos"), NO_OPTIONS, {}, cache=Path("cache"))

    def refuse(path: Path, _: bytes) -> None:
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr("trainer.datasets.samples.decode_bytes", refuse)
    again = prepare_training(Path("photos"), NO_OPTIONS, {}, cache=Path("cache"))
    assert again.reason == first.reason
    assert "10 of 10 surveyed photos show a face" in again.reason


@pytest.mark.parametrize(
    "settings",
    [
        'network = "efficientnet-lite0"\nprobe = 0.5\nepochs = 0\n',
        'network = "residual"\nwidths = [4, 8]\nepochs = 1\n',
    ],
)
def test_region_framing_and_network_are_those_of_the_initial_weights(
    settings: str, caplog: pytest.LogCaptureFixture
) -> None:
    from trainer.training.preparation import prepare_training

    # A survey of these files would choose faces.
    write_folders(Path("photos"), 6)
    Path("settings.toml").write_text(settings + "threads = 1\n")
    framing = ("--region", "image", "--side", 40, "--rgb")
    data = ("--data", "photos")
    first = trainer("train", *data, "--run", "run", "--config", "settings.toml", *framing)
    assert first.exit_code == 0, first.output
    trained = load_trained_network(Path("run"))
    assert trained.framing == Framing(Region.IMAGE, side=40, channels=3)
    init = str(Path("run") / "checkpoint.pt")
    caplog.clear()
    with caplog.at_level("INFO", "trainer"):
        prepared = prepare_training(Path("photos"), NO_OPTIONS, {"init": init})
    assert prepared.data.framing == trained.framing
    assert prepared.config.network == trained.config.network
    assert (prepared.config.init, prepared.config.epochs) == (init, 0)
    assert f"samples are whole photos: init {init} is a model of whole photos" in caplog.text
    network = build_network(prepared.config, 2, 3)
    initialise_network(network, init)


def test_weights_that_a_training_cannot_start_from_are_refused_with_the_remedy() -> None:
    from trainer.training.preparation import prepare_training

    write_folders(Path("photos"), 6)
    with pytest.raises(InputError, match="init people is an exported model") as refused:
        prepare_training(Path("photos"), NO_OPTIONS, {"init": "people"})
    assert refused.value.remedy.startswith("give the checkpoint of its run; whole-photo networks")
    torch.save(PhotoNet(2).state_dict(), "weights.pt")
    with pytest.raises(InputError, match="does not record the network") as refused:
        prepare_training(Path("photos"), NO_OPTIONS, {"init": "weights.pt"})
    assert refused.value.remedy == "give the setting network"
    given = {"init": "weights.pt", "network": "efficientnet-lite0"}
    prepared = prepare_training(Path("photos"), NO_OPTIONS, given)
    assert prepared.data.framing.region is Region.IMAGE


def test_published_data_keep_their_settings() -> None:
    from trainer.training.preparation import prepare_training

    write_ferplus(Path("ferplus"), FERPLUS_ROWS)
    config = prepare_training(Path("ferplus"), NO_OPTIONS, {}).config
    assert config == Config()


def test_a_default_model_that_cannot_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not pass for one that saw the held-out photos."""
    from trainer.training.preparation import prepare_training

    write_folders(Path("photos"), 12)

    def fail(*_: object) -> None:
        raise InputError("init happy-sad has a damaged entry trained_on", "export it again")

    monkeypatch.setattr("trainer.training.preparation.read_ancestors", fail)
    with pytest.raises(InputError, match="damaged entry trained_on"):
        prepare_training(Path("photos"), NO_OPTIONS, {})


def test_a_default_model_that_saw_the_held_out_photos_is_not_started_from(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from trainer.evaluation.trained_on import unpack_trained_on
    from trainer.training.preparation import prepare_training

    write_folders(Path("photos"), 12)
    data = prepare_training(Path("photos"), NO_OPTIONS, {}).data
    seen = unpack_trained_on(merge_trained_on([data.test.pixels]), "init happy-sad")
    monkeypatch.setattr("trainer.training.preparation.read_ancestors", lambda *_: [seen])
    caplog.clear()
    with caplog.at_level("INFO", "trainer"):
        config = prepare_training(Path("photos"), NO_OPTIONS, {}).config
    assert config == Config()
    assert "happy-sad was trained on held-out samples" in caplog.text


def test_an_unknown_model_to_start_from_is_named() -> None:
    write_folders(Path("photos"), 6)
    Path("settings.toml").write_text('init = "hapy-sad"\n')
    refused = trainer("train", "--data", "photos", "--run", "run", "--config", "settings.toml")
    assert refused.exit_code == 2
    assert "there is no model hapy-sad (did you mean happy-sad?)" in refused.stderr
    Path("settings.toml").write_text('init = "people"\nnetwork = "residual"\n')
    refused = trainer("train", "--data", "photos", "--run", "run", "--config", "settings.toml")
    assert refused.exit_code == 2
    assert 'whole-photo networks start from init = "imagenet"' in refused.stderr
