"""Checkpoints: the state of a training run on disk, written after every epoch."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from batch.errors import InputError, OutputError
from batch.records import Region
from trainer.datasets.dataset import Dataset, Framing
from trainer.evaluation.out_of_fold import OUT_OF_FOLD_FILE, OutOfFold, Recipe, read_out_of_fold
from trainer.networks import Network
from trainer.training.config import Augmentation, Config
from trainer.training.pretrained import build_network
from trainer.training.teacher import hash_teachers

CHECKPOINT_FILE = "checkpoint.pt"
HISTORY_FILE = "history.csv"


@dataclass(frozen=True)
class EpochMetrics:
    """Metrics of one epoch.

    Attributes:
        epoch: number of the epoch, from 1.
        learning_rate: learning rate of the last step.
        train_loss: mean loss over the training samples, in nats.
        train_accuracy: accuracy over them, 0 to 1.
        validation_loss: loss of the averaged weights over the validation split, in nats.
        validation_accuracy: accuracy over its certain samples, 0 to 1.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class TrainingState:
    """Everything that changes during a training run.

    Attributes:
        network: the network.
        ema: copy of the network with averaged weights.
        optimizer: its optimizer.
        history: the metrics of each epoch so far.
        best: averaged weights of the epoch with the lowest validation loss; empty without
            ``patience``.
        trained_on: the samples, see ``merge_trained_on``.
    """

    network: Network
    ema: Network
    optimizer: torch.optim.Optimizer
    history: list[EpochMetrics] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    trained_on: str = ""


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network and the record of its training.

    Attributes:
        network: the network, with averaged weights.
        labels: its classes.
        framing: the framing of its samples.
        config: the settings.
        history: the metrics of each epoch.
        fingerprint: the fingerprint of the data.
        settings: SHA-256 of the settings, see ``Recipe``.
        held_out: out-of-fold predictions of a cross-validation with the same settings, which
            evaluate a network that was trained on all samples; None for other networks.
        trained_on: the samples, see ``merge_trained_on``; empty for runs of earlier releases.
    """

    network: Network
    labels: tuple[str, ...]
    framing: Framing
    config: Config
    history: tuple[EpochMetrics, ...]
    fingerprint: str
    settings: str
    held_out: OutOfFold | None = None
    trained_on: str = ""

    @property
    def recipe(self) -> Recipe:
        """The data and settings."""
        return Recipe(self.fingerprint, self.settings)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs were trained, or ``patience`` has ended the training."""
        return is_finished(self.history, self.config)


@dataclass(frozen=True)
class Progress:
    """How far the training in a folder is, and whether another one would continue it.

    Attributes:
        epochs: number of complete epochs.
        is_finished: whether there is nothing left to train.
        differences: what differs from the other training, as text; empty if nothing does.
    """

    epochs: int
    is_finished: bool
    differences: tuple[str, ...]


def save_checkpoint(run: Path, data: Dataset, config: Config, state: TrainingState) -> None:
    """Write the checkpoint and ``history.csv`` of a run, each atomically."""
    stored = {
        "identity": _describe_training(data, config),
        "network": state.network.state_dict(),
        "ema": state.ema.state_dict(),
        "best": state.best,
        "optimizer": state.optimizer.state_dict(),
        "history": [asdict(epoch) for epoch in state.history],
        "labels": list(data.labels),
        "trained_on": state.trained_on,
        "config": asdict(config),
        "framing": asdict(data.framing)
        | {"region": data.framing.region.value, "resize": str(data.framing.resize)},
    }
    partial = run / f"{CHECKPOINT_FILE}.partial"
    with partial.open("wb") as file:
        torch.save(stored, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(run / CHECKPOINT_FILE)
    write_history(run, state.history)


def restore_checkpoint(run: Path, data: Dataset, config: Config, state: TrainingState) -> None:
    """Load a run's checkpoint, if there is one, into ``state``.

    Raises:
        InputError: the checkpoint can't be read.
        OutputError: the checkpoint belongs to other data or settings.
    """
    path = run / CHECKPOINT_FILE
    if not path.exists():
        return
    stored = _read_checkpoint(path)
    if stored["identity"] != _describe_training(data, config):
        raise OutputError(
            f"{path} belongs to a training run with other data or settings",
            "choose another --run folder, or remove this one",
        )
    state.network.load_state_dict(stored["network"])
    state.ema.load_state_dict(stored["ema"])
    state.best.update(stored.get("best", {}))
    state.optimizer.load_state_dict(stored["optimizer"])
    state.history.extend(EpochMetrics(**epoch) for epoch in stored["history"])
    write_history(run, state.history)


def read_progress(run: Path, data: Dataset, config: Config) -> Progress:
    """Read how far the training in a folder is, and compare it with other data and settings.

    Raises:
        InputError: the checkpoint can't be read.
    """
    stored = _read_checkpoint(run / CHECKPOINT_FILE)
    history = [EpochMetrics(**epoch) for epoch in stored["history"]]
    fingerprint, settings = json.loads(stored["identity"])
    other_fingerprint, others = json.loads(_describe_training(data, config))
    differences = ["other data"] if fingerprint != other_fingerprint else []
    names = [name for name in others if settings.get(name, others[name]) != others[name]]
    if not differences and settings.keys() != others.keys():  # of another release
        names += sorted(settings.keys() ^ others.keys())
    if names:
        differences.append(f"other settings ({', '.join(names)})")
    return Progress(len(history), is_finished(history, config), tuple(differences))


def is_finished(history: Sequence[EpochMetrics], config: Config) -> bool:
    """Tell whether all epochs were trained, or ``patience`` ends the training."""
    done = len(history)
    waited = done - find_best_epoch(history)
    return done == config.epochs or (config.patience > 0 and waited >= config.patience)


def find_best_epoch(history: Sequence[EpochMetrics]) -> int:
    """Return the number of the epoch with the lowest validation loss, 0 before the first."""
    best = min(history, key=lambda epoch: epoch.validation_loss, default=None)
    return best.epoch if best else 0


def load_trained_network(run: Path) -> TrainedNetwork:
    """Load the averaged weights of a run: of the last epoch or, with ``patience``, the best one.

    Raises:
        InputError: there is no checkpoint, it can't be read, or the run trained on all samples and
            has no cross-validation of the same data and settings.
    """
    path = run / CHECKPOINT_FILE
    if not path.exists():
        raise InputError(f"{path} does not exist", f"run `trainer train --run {run}` first")
    stored = _read_checkpoint(path)
    augmentation = Augmentation(**stored["config"]["augmentation"])
    config = Config(**{**stored["config"], "augmentation": augmentation})
    framing = Framing(**stored["framing"]) if "framing" in stored else Framing()
    network = build_network(config, len(stored["labels"]), framing.channels)
    network.load_state_dict(stored.get("best") or stored["ema"])
    network.eval().requires_grad_(False)
    recipe, held_out = _parse_recipe(stored["identity"]), None
    if config.learn_from == "all":
        held_out = read_out_of_fold(run / OUT_OF_FOLD_FILE)
        held_out.recipe.require_same(recipe, str(run / OUT_OF_FOLD_FILE))
    return TrainedNetwork(
        network=network,
        labels=tuple(stored["labels"]),
        framing=replace(framing, region=Region(framing.region)),
        config=config,
        history=tuple(EpochMetrics(**epoch) for epoch in stored["history"]),
        fingerprint=recipe.data,
        settings=recipe.settings,
        held_out=held_out,
        trained_on=stored.get("trained_on", ""),
    )


def write_history(run: Path, history: Sequence[EpochMetrics]) -> None:
    """Write the metrics of all epochs so far as CSV, one row per epoch."""
    if not history:
        return
    partial = run / f"{HISTORY_FILE}.partial"
    with partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, asdict(history[0]).keys())
        writer.writeheader()
        writer.writerows(asdict(epoch) for epoch in history)
    partial.replace(run / HISTORY_FILE)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(
            f"{path} is not a readable checkpoint", f"remove {path.parent} and train again"
        ) from error
    return stored


def make_recipe(data: Dataset, config: Config) -> Recipe:
    """Make the recipe of a training, the same for a cross-validation and its final network."""
    return _parse_recipe(_describe_training(data, config))


def _parse_recipe(identity: str) -> Recipe:
    fingerprint, settings = json.loads(identity)
    settings.pop("learn_from", None)  # a cross-validation always learns from folds
    text = json.dumps(settings, sort_keys=True)
    return Recipe(fingerprint, hashlib.sha256(text.encode()).hexdigest())


def _describe_training(data: Dataset, config: Config) -> str:
    """Describe what must not change to resume a run: all but threads and teachers' paths."""
    settings = {k: v for k, v in asdict(config).items() if k != "threads"}
    settings["teacher"] = hash_teachers(config)
    if data.reviewed is None:  # it has no effect, and checkpoints of earlier releases lack it
        settings.pop("review_weight")
    return json.dumps([data.fingerprint, settings], sort_keys=True)
