"""Settings and framing that are chosen from the data, where the user gives none.

Both functions are pure: the same summary and the same given settings give the same choice. The
figures behind the numbers are in docs/training.md.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from batch.records import Region
from trainer.datasets.dataset import Framing
from trainer.evaluation.metrics import sign_test
from trainer.training.config import Config, GivenSettings, make_config
from trainer.training.pretrained import IMAGENET

# The face model whose features new labels start from.
FACE_INIT = "happy-sad"
FACE_FRAMING = Framing()
# Weight decays of the probes: the one with the lowest loss on held-out portraits, and that of the
# shipped whole-photo model.
FACE_PROBE, PHOTO_PROBE = 0.1, 0.5
PHOTO_NETWORK: Final = "efficientnet-lite2"
PHOTO_SIDE = 160
RESIDUAL = "residual"
# A smaller share of photos with a face means that the labels are not about faces.
MIN_FACE_SHARE = 0.5
SIGNIFICANCE_LEVEL = 0.025
# From this number of training samples on, training the whole face network is tried.
MIN_FINE_TUNED = 2000
# Epochs and learning rates of a training that starts from learnt weights.
FINE_TUNING: dict[str, Any] = {
    "epochs": 10,
    "batch_size": 32,
    "learning_rate": 1e-3,
    "pretrained_rate": 0.3,
    "ema": 0.99,
}
# Settings that do not change the probe: giving one of them asks for a training after it.
TRAINING_SETTINGS = frozenset(field.name for field in fields(Config)) - {
    "learn_from",
    "network",
    "widths",
    "init",
    "probe",
    "epochs",
    "seed",
    "threads",
    "teacher",
    "teacher_share",
    "review_weight",
}


@dataclass(frozen=True)
class PhotoSurvey:
    """What a sample of the photos shows.

    Attributes:
        photos: photos in the sample.
        faces: those with a face.
        has_no_person: whether one of the classes is pictures without a person.
        face_wins: photos that only the probe of their faces labels right, in a cross-validation; a
            photo without a face is not labelled by it. Near duplicates and the photos of a group
            count as one, for the probe that is right for more of them.
        photo_wins: photos that only the probe of whole photos labels right.
    """

    photos: int
    faces: int
    has_no_person: bool = False
    face_wins: int = 0
    photo_wins: int = 0

    @property
    def shows_faces(self) -> bool:
        """Whether enough photos show a face to learn from faces."""
        return self.photos > 0 and self.faces >= MIN_FACE_SHARE * self.photos


@dataclass(frozen=True)
class TrainingSummary:
    """What the choice of settings depends on.

    Attributes:
        region: the region of the samples.
        channels: their channels.
        samples: training samples.
        has_published_recipe: whether the data are FER+ or the starter set, whose settings are the
            defaults of ``Config``.
        is_init_held_out: whether the default face model was not trained on held-out samples.
        init_network: architecture of the given initial weights; None if there are none or they do
            not record it.
        init_widths: widths of the residual network of the given or the default initial weights.
    """

    region: Region
    channels: int
    samples: int
    has_published_recipe: bool = False
    is_init_held_out: bool = True
    init_network: str | None = None
    init_widths: tuple[int, ...] | None = None


@dataclass(frozen=True)
class SettingsChoice:
    """The settings of a training, and why."""

    config: Config
    reason: str


def choose_region(survey: PhotoSurvey) -> tuple[Region, str]:
    """Choose between faces and whole photos; return the region and the reason."""
    seen = f"{survey.faces:,} of {survey.photos:,} surveyed photos show a face"
    if survey.has_no_person:
        return Region.IMAGE, "pictures without a person have no face"
    if survey.photos and not survey.shows_faces:
        return Region.IMAGE, seen
    if not survey.photo_wins + survey.face_wins:
        return Region.FACE, seen
    reason = (
        f"{seen}; where a classifier of faces and one of whole photos differ, the face is right "
        f"for {survey.face_wins:,} photos and the whole photo for {survey.photo_wins:,}"
    )
    is_photo = sign_test(survey.photo_wins, survey.face_wins) < SIGNIFICANCE_LEVEL
    return Region.IMAGE if is_photo else Region.FACE, reason


def choose_framing(region: Region, network: str | None, init_framing: Framing | None) -> Framing:
    """Choose the framing of a region.

    Args:
        region: faces or whole photos.
        network: the network that the user or the initial weights name, None for the default.
        init_framing: the framing of the given initial weights, if they have one.
    """
    if init_framing and init_framing.region is region:
        return init_framing
    if region is Region.FACE and (network or RESIDUAL) == RESIDUAL:
        return FACE_FRAMING
    if (network or PHOTO_NETWORK) == RESIDUAL:
        return Framing(region)
    return Framing(region, side=PHOTO_SIDE, channels=3)


def choose_settings(summary: TrainingSummary, given: GivenSettings) -> SettingsChoice:
    """Choose the settings that the user does not give.

    Args:
        summary: the data.
        given: the settings that the user gives, which override the choice one by one.

    Raises:
        ConfigError: given settings contradict each other.
    """
    chosen, reason = _choose(summary, given)
    return SettingsChoice(make_config({**chosen, **given}), reason)


def _choose(summary: TrainingSummary, given: GivenSettings) -> tuple[GivenSettings, str]:
    network = given.get("network", summary.init_network)
    if network is None and not summary.has_published_recipe and "widths" not in given:
        is_photo = summary.region is Region.IMAGE and summary.channels == 3
        network = PHOTO_NETWORK if is_photo and given.get("init") in (None, IMAGENET) else RESIDUAL
    if network not in (None, RESIDUAL):
        return _choose_for_photos(network, given)
    if given.get("init"):
        return _choose_for_init(given["init"], summary, given)
    if summary.has_published_recipe:
        return {}, "the published settings of these data"
    if "init" in given or "widths" in given or summary.region is Region.IMAGE:
        return {}, "a training from random weights, as the settings ask"
    if not summary.is_init_held_out:
        return {}, f"{FACE_INIT} was trained on held-out samples, so the weights begin at random"
    return _choose_for_init(FACE_INIT, summary, given)


def _choose_for_photos(network: str, given: GivenSettings) -> tuple[GivenSettings, str]:
    init = given.get("init", IMAGENET)
    chosen = {"network": network, "init": init}
    if not init:
        return chosen, "a training from random weights, as the settings ask"
    chosen["probe"] = PHOTO_PROBE
    return _choose_extent(chosen, given, False, "{}, which needs few photos")


def _choose_for_init(
    init: str, summary: TrainingSummary, given: GivenSettings
) -> tuple[GivenSettings, str]:
    chosen: dict[str, Any] = {"init": init}
    if summary.init_widths:
        chosen["widths"] = summary.init_widths
    if summary.has_published_recipe:
        return chosen, "the published settings of these data"
    chosen["probe"] = FACE_PROBE
    count = f"with {summary.samples:,} training samples"
    if summary.samples >= MIN_FINE_TUNED:
        return _choose_extent(chosen, given, True, f"{count}, {{}}")
    few = f"{count}, fewer than {MIN_FINE_TUNED:,}, {{}}: training all layers showed no gain"
    return _choose_extent(chosen, given, False, few)


def _choose_extent(
    chosen: GivenSettings, given: GivenSettings, is_large: bool, why: str
) -> tuple[GivenSettings, str]:
    """Choose whether only the last layer is fitted, or the network is trained too.

    Args:
        chosen: the choice of initial weights and probe.
        given: the settings that the user gives; those of a training ask for one.
        is_large: whether there are enough samples to train the network.
        why: the reason, if the user gives no such setting, with ``{}`` for the choice.

    Returns:
        The choice with the settings of the training, if there is one, and the reason.
    """
    final = {**chosen, **given}
    is_asked = "epochs" in given or not final["probe"] or not TRAINING_SETTINGS.isdisjoint(given)
    if is_asked:
        why = "{}, as the settings ask"
    if not final.get("epochs", is_asked or is_large):
        fitted = f"only the last layer is fitted to the features of {final['init']}"
        return {**chosen, "epochs": 0}, why.format(fitted)
    start = f"a probe of the features of {final['init']}, then " if final["probe"] else ""
    training = f"{start}a training of the network from {final['init']}"
    return {**chosen, **FINE_TUNING}, why.format(training)
