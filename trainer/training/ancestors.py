"""The models that a training starts from: initial weights and teachers.

If one was trained on samples that the new network is evaluated on, these are not held out.
"""

from __future__ import annotations

import json
from pathlib import Path

from batch.errors import InputError, ModelError
from batch.models.contract import load_model
from batch.models.shipped import SUFFIX, find_model
from trainer.datasets.dataset import Dataset, Split
from trainer.evaluation.trained_on import (
    TrainedOn,
    find_seen,
    find_trained_on,
    match_fingerprint,
    unpack_trained_on,
)
from trainer.training.config import Config
from trainer.training.pretrained import IMAGENET, read_weights


def read_ancestors(config: Config, data: Dataset) -> list[TrainedOn]:
    """Read what the initial weights and the teachers were trained on.

    ImageNet's photos are not among a user's.

    Raises:
        InputError, ModelError, UsageError: a file can't be read.
    """
    found = [
        find_trained_on(load_model(find_model(teacher)).spec, f"teacher {teacher}", data)
        for teacher in config.teachers
    ]
    name = f"init {config.init}"
    if config.init in ("", IMAGENET):
        return found
    path = find_model(config.init)
    if path.suffix != SUFFIX:
        return [*found, _read_checkpoint(path, name, data)]
    try:
        return [*found, find_trained_on(load_model(path).spec, name, data)]
    except ModelError:  # weights of a file that is no model of this contract
        return [*found, unpack_trained_on("", name)]


def check_held_out(ancestors: list[TrainedOn], *parts: Split | None) -> None:
    """Require that no model was trained on the samples by which a network is evaluated.

    Raises:
        InputError: one was; the message says on how many.
    """
    for of in ancestors:
        for part in parts:
            seen = 0 if part is None else int(find_seen(part.pixels, [of]).sum())
            if part is not None and seen:
                raise InputError(
                    f"{of.name} was trained on {seen:,} of {len(part):,} held-out samples, so the "
                    "new network could not be evaluated on them",
                    "start from a model that was trained on the train split of the same data, or "
                    "on other data",
                )


def _read_checkpoint(path: Path, name: str, data: Dataset) -> TrainedOn:
    stored = read_weights(path)
    if "identity" in stored and not stored.get("trained_on"):  # of an earlier release
        try:
            fingerprint, settings = json.loads(stored["identity"])
            learns_from_all = settings.get("learn_from") == "all"
        except (TypeError, ValueError, AttributeError) as error:
            raise InputError(
                f"{path} does not say on which data it was trained ({error})", "give another init"
            ) from error
        return match_fingerprint(data, fingerprint, name, learns_from_all)
    return unpack_trained_on(stored.get("trained_on", ""), name)
