"""Prepares a training: loads the data, and chooses framing and settings that are not given.

The choices and their reasons are logged. They depend only on the data and on what the user gives,
so the same command makes the same choices.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batch.errors import InputError, ModelError
from batch.models.contract import load_model
from batch.models.shipped import SUFFIX, find_model
from batch.records import Region
from trainer.datasets.dataset import REGION_NAMES, Dataset, Framing
from trainer.datasets.labelled_files import AbstainNames
from trainer.datasets.review import Review
from trainer.datasets.sources import (
    has_published_recipe,
    list_photo_files,
    load_dataset,
    make_framing,
    override_framing,
)
from trainer.training.ancestors import check_held_out, read_ancestors
from trainer.training.config import Config, GivenSettings
from trainer.training.defaults import (
    FACE_INIT,
    RESIDUAL,
    TrainingSummary,
    choose_framing,
    choose_region,
    choose_settings,
)
from trainer.training.pretrained import (
    IMAGENET,
    read_init_network,
    read_init_widths,
    read_weights,
)
from trainer.training.survey import survey_photos

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Preparation:
    """What a training begins with.

    Attributes:
        data: the samples.
        config: the settings.
        reason: why framing and settings were chosen, as text.
    """

    data: Dataset
    config: Config
    reason: str


def prepare_training(
    source: Path,
    framing: Mapping[str, Any],
    given: GivenSettings,
    beside: Path | None = None,
    review: Review | None = None,
    abstain: AbstainNames | None = None,
    cache: Path | None = None,
) -> Preparation:
    """Load data for a training, and choose its settings.

    Args:
        source: the data, see ``load_dataset``.
        framing: the options of ``make_framing``, each None (``rgb``: False) if it is not given.
        given: the given settings, see ``read_settings``.
        beside: see ``load_dataset``.
        review: see ``load_dataset``.
        abstain: see ``load_dataset``.
        cache: see ``load_dataset``.

    Raises:
        InputError, ModelError, UsageError: data or settings can't be used.
    """
    init = given.get("init")
    init_network = _read_init_network(init, given) if init else None
    published = has_published_recipe(source)
    if published:
        chosen, why = make_framing(**framing), ""
    else:
        chosen, why = _choose_framing(source, framing, given, init_network, abstain, cache)
    data = load_dataset(source, chosen, beside, review, abstain, cache)
    is_face = data.framing.region is Region.FACE
    uses_default = init is None and is_face and not published
    summary = TrainingSummary(
        region=data.framing.region,
        channels=data.framing.channels,
        samples=len(data.get_split(given.get("learn_from", "train"))),
        has_published_recipe=published,
        is_init_held_out=not uses_default or _is_held_out(FACE_INIT, data, given),
        init_network=init_network,
        init_widths=read_init_widths(FACE_INIT if uses_default else init or ""),
    )
    choice = choose_settings(summary, given)
    logger.info("%s", _describe_choice(data, choice.config, choice.reason))
    return Preparation(data, choice.config, "; ".join(filter(None, (why, choice.reason))))


def _choose_framing(
    source: Path,
    options: Mapping[str, Any],
    given: GivenSettings,
    init_network: str | None,
    abstain: AbstainNames | None,
    cache: Path | None,
) -> tuple[Framing, str]:
    """Choose the framing of photos; each option that the user gives overrides the choice.

    Returns:
        The framing, and why the region was chosen; empty if the user gives it.
    """
    why = ""
    init = given.get("init")
    network = given.get("network") or (init_network if init_network != RESIDUAL else None)
    region = options["region"]
    init_framing = _read_init_framing(init) if init else None
    if region is None:
        if init_framing:
            chosen = init_framing.region
            reason = f"init {init} is a model of {REGION_NAMES[chosen]}"
        elif network not in (None, RESIDUAL) or init == IMAGENET:
            chosen, reason = Region.IMAGE, "the settings name a network for whole photos"
        elif network or "widths" in given:
            chosen, reason = Region.FACE, "the settings name a network for faces"
        else:
            listed = list_photo_files(source, abstain)
            chosen, reason = choose_region(survey_photos(*listed, cache))
        why = f"samples are {REGION_NAMES[chosen]}: {reason}"
        logger.info("%s: %s (--region)", source, why)
        region = chosen
    default = choose_framing(Region(region), network, init_framing)
    given_framing = {name: value for name, value in options.items() if name != "region"}
    return override_framing(default, **given_framing), why


def _read_init_network(init: str, given: GivenSettings) -> str | None:
    """Read the architecture of initial weights; the user must give it if they do not record it."""
    network = read_init_network(init)
    if network is None and init != IMAGENET and "network" not in given:
        raise InputError(
            f"init {init} does not record the network that its weights are of",
            "give the setting network",
        )
    return network


def _read_init_framing(init: str) -> Framing | None:
    """Read the framing of the samples that initial weights were trained on, if they tell it."""
    if init == IMAGENET:
        return None
    path = find_model(init)
    if path.suffix != SUFFIX:
        stored = read_weights(path).get("framing")
        return replace(Framing(**stored), region=Region(stored["region"])) if stored else None
    try:
        model = load_model(path)
    except ModelError:  # weights of a file that is no model of this contract
        return None
    spec = model.spec
    return Framing(spec.region, spec.margin, model.height, model.channels, spec.resize)


def _is_held_out(init: str, data: Dataset, given: GivenSettings) -> bool:
    """Tell whether no held-out sample was used to train a model.

    Raises:
        InputError, ModelError, UsageError: the model can't be read.
    """
    parts = () if given.get("learn_from") == "all" else (data.validation, data.test)
    ancestors = read_ancestors(Config(init=init), data)
    try:
        check_held_out(ancestors, data.held, *parts)
    except InputError:
        return False
    return True


def _describe_choice(data: Dataset, config: Config, reason: str) -> str:
    start = f"init {config.init}" if config.init else "random weights"
    probe = f", probe {config.probe:g}" if config.probe else ""
    extent = f"{config.epochs} epochs" if config.epochs else "only its last layer is fitted"
    return (
        f"settings: {data.framing.describe()}; network {config.network}, {start}{probe}, "
        f"{extent}; {reason}. Options and --config override each of them"
    )
