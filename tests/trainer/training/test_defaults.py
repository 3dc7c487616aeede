from __future__ import annotations

from dataclasses import replace

import pytest

from batch.records import Region
from trainer.datasets.dataset import Framing
from trainer.training.config import Augmentation, Config, ConfigError
from trainer.training.defaults import (
    FACE_FRAMING,
    FACE_INIT,
    FACE_PROBE,
    FINE_TUNING,
    MIN_FINE_TUNED,
    PHOTO_NETWORK,
    PHOTO_PROBE,
    TRAINING_SETTINGS,
    PhotoSurvey,
    TrainingSummary,
    choose_framing,
    choose_region,
    choose_settings,
)

WIDTHS = (48, 96, 192, 256)
FACES = TrainingSummary(Region.FACE, 1, 48, init_widths=WIDTHS)
PHOTOS = TrainingSummary(Region.IMAGE, 3, 48)


@pytest.mark.parametrize(
    ("survey", "region", "reason"),
    [
        (PhotoSurvey(200, 200, face_wins=30, photo_wins=3), Region.FACE, "200 of 200 surveyed"),
        (
            PhotoSurvey(200, 146, face_wins=10, photo_wins=54),
            Region.IMAGE,
            "10 photos and the whole photo for 54",
        ),
        # A gain within sampling error does not count.
        (
            PhotoSurvey(200, 200, face_wins=10, photo_wins=16),
            Region.FACE,
            "10 photos and the whole photo for 16",
        ),
        (PhotoSurvey(40, 3), Region.IMAGE, "3 of 40 surveyed photos show a face"),
        (PhotoSurvey(40, 20), Region.FACE, "20 of 40"),
        (PhotoSurvey(0, 0, has_no_person=True), Region.IMAGE, "without a person"),
        (PhotoSurvey(0, 0), Region.FACE, "0 of 0"),
    ],
)
def test_the_region_is_that_whose_probe_is_better(
    survey: PhotoSurvey, region: Region, reason: str
) -> None:
    chosen, why = choose_region(survey)
    assert chosen is region
    assert reason in why


def test_the_reason_does_not_read_as_accuracies() -> None:
    _, why = choose_region(PhotoSurvey(60, 60, face_wins=15, photo_wins=7))
    assert why == (
        "60 of 60 surveyed photos show a face; where a classifier of faces and one of whole photos "
        "differ, the face is right for 15 photos and the whole photo for 7"
    )


def test_the_framing_follows_region_network_and_initial_weights() -> None:
    assert choose_framing(Region.FACE, None, None) == FACE_FRAMING
    assert choose_framing(Region.IMAGE, None, None) == Framing(Region.IMAGE, side=160, channels=3)
    assert choose_framing(Region.IMAGE, "residual", None) == Framing(Region.IMAGE)
    assert choose_framing(Region.FACE, "efficientnet-lite0", None).channels == 3
    wide = Framing(margin=0.2, side=64, channels=3)
    assert choose_framing(Region.FACE, None, wide) == wide
    assert choose_framing(Region.IMAGE, None, wide).side == 160


def test_few_faces_get_a_probe_and_many_a_training() -> None:
    few = choose_settings(FACES, {}).config
    assert choose_settings(FACES, {}).reason == (
        "with 48 training samples, fewer than 2,000, only the last layer is fitted to the features "
        "of happy-sad: training all layers showed no gain"
    )
    assert few == Config(init=FACE_INIT, widths=WIDTHS, probe=FACE_PROBE, epochs=0)
    many = choose_settings(replace(FACES, samples=MIN_FINE_TUNED), {}).config
    assert many == replace(few, **FINE_TUNING)
    assert many.epochs > 0


def test_whole_photos_get_a_probe() -> None:
    assert choose_settings(PHOTOS, {}).config == Config(
        network=PHOTO_NETWORK, init="imagenet", probe=PHOTO_PROBE, epochs=0
    )


def test_published_data_keep_the_published_settings() -> None:
    published = replace(FACES, has_published_recipe=True, init_widths=None)
    assert choose_settings(published, {}).config == Config()
    assert choose_settings(published, {"epochs": 3}).config == Config(epochs=3)
    # The widths are those of the initial weights here too.
    started = replace(published, init_widths=(8, 16))
    assert choose_settings(started, {"init": "a.onnx"}).config == Config(
        init="a.onnx", widths=(8, 16)
    )


def test_a_model_that_was_trained_on_held_out_samples_is_not_started_from() -> None:
    choice = choose_settings(replace(FACES, is_init_held_out=False), {})
    assert choice.config == Config()
    assert f"{FACE_INIT} was trained on held-out samples" in choice.reason


@pytest.mark.parametrize("summary", [FACES, PHOTOS])
@pytest.mark.parametrize(
    "given",
    [
        {"epochs": 7},
        {"seed": 9},
        {"probe": 3.0},
        {"learning_rate": 1e-5},
        {"augmentation": {"rotation": 3.0}},
        {"init": ""},
        {"widths": (4, 8)},
        {"trainable": "head"},
    ],
)
def test_each_given_setting_overrides_the_choice(
    summary: TrainingSummary, given: dict[str, object]
) -> None:
    chosen = choose_settings(summary, given).config
    for name, value in given.items():
        if name == "augmentation":
            assert chosen.augmentation == Augmentation(rotation=3.0)
        else:
            assert getattr(chosen, name) == value
    # A setting of the training would have no effect without one.
    assert chosen.epochs > 0 or TRAINING_SETTINGS.isdisjoint(given)


def test_given_settings_that_contradict_the_choice_change_it() -> None:
    assert choose_settings(FACES, {"widths": (4, 8)}).config == Config(widths=(4, 8))
    assert choose_settings(PHOTOS, {"network": "residual"}).config == Config()
    lite = choose_settings(FACES, {"network": "efficientnet-lite0"}).config
    assert (lite.network, lite.init, lite.epochs) == ("efficientnet-lite0", "imagenet", 0)
    with pytest.raises(ConfigError, match="'probe' needs 'init'"):
        choose_settings(FACES, {"init": "", "probe": 1.0})


@pytest.mark.parametrize("summary", [FACES, PHOTOS, replace(FACES, samples=MIN_FINE_TUNED)])
@pytest.mark.parametrize(
    ("given", "trains"),
    [
        ({"epochs": 1}, True),
        ({"epochs": 0}, False),
        ({"epochs": 0, "batch_size": 64}, False),
        ({"epochs": 2, "probe": 0.0}, True),
        ({"probe": 0.0}, True),
        ({"learning_rate": 1e-5}, True),
    ],
)
def test_the_reason_follows_from_the_final_settings(
    summary: TrainingSummary, given: dict[str, object], trains: bool
) -> None:
    choice = choose_settings(summary, given)
    assert (choice.config.epochs > 0) == trains
    assert ("a training of the network" in choice.reason) == trains
    assert ("only the last layer is fitted" in choice.reason) == (not trains)
    assert ("a probe of the features" in choice.reason) == (trains and choice.config.probe > 0)
    assert choice.reason.endswith(", as the settings ask")


@pytest.mark.parametrize("summary", [FACES, PHOTOS])
def test_a_training_from_learnt_weights_gets_low_learning_rates(summary: TrainingSummary) -> None:
    config = choose_settings(summary, {"epochs": 1}).config
    assert config == replace(choose_settings(summary, {}).config, **FINE_TUNING | {"epochs": 1})
    given = {"learning_rate": 4e-3, "pretrained_rate": 0.9}
    config = choose_settings(summary, given).config
    assert (config.learning_rate, config.pretrained_rate) == (4e-3, 0.9)


@pytest.mark.parametrize("summary", [FACES, PHOTOS])
def test_without_a_probe_the_network_is_trained(summary: TrainingSummary) -> None:
    config = choose_settings(summary, {"probe": 0.0}).config
    assert (config.probe, config.epochs) == (0, FINE_TUNING["epochs"])
    with pytest.raises(ConfigError, match="'epochs' must be above 0 if there is no 'probe'"):
        choose_settings(summary, {"probe": 0.0, "epochs": 0})
