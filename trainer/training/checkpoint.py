"""Checkpoints: the state of a training run on disk, written after every epoch."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from batch.errors import BatchLabelError, InputError, OutputError
from batch.os_errors import translate_write_errors
from batch.records import Region
from trainer.datasets.dataset import Dataset, Framing
from trainer.evaluation.out_of_fold import OUT_OF_FOLD_FILE, OutOfFold, Recipe, read_out_of_fold
from trainer.networks import Network
from trainer.training.config import Augmentation, Config
from trainer.training.epoch_metrics import (
    EpochMetrics,
    count_epochs,
    find_best_epoch,
    find_finite,
    is_finished,
    write_history,
)
from trainer.training.precision import AUTO, EARLIER_STATE, Precision
from trainer.training.pretrained import build_network, describe_error, hash_init
from trainer.training.teacher import hash_teachers
from trainer.training.validation import Losses

CHECKPOINT_FILE = "checkpoint.pt"


@dataclass
class BestEpoch:
    """The epoch with the lowest validation loss.

    Attributes:
        epoch: its number, -1 before the first.
        weights: its averaged weights.
        losses: its loss of each validation sample, float32 [n].
    """

    epoch: int = -1
    weights: dict[str, Tensor] = field(default_factory=dict)
    losses: Tensor = field(default_factory=lambda: torch.zeros(0))


@dataclass
class TrainingState:
    """Everything that changes during a training run.

    Attributes:
        network: the network.
        ema: copy of the network with averaged weights.
        optimizer: its optimizer.
        precision: the format that it computes in.
        history: the metrics of each epoch so far.
        best: the epoch with the lowest validation loss, if its weights are kept.
        trained_on: the samples, see ``merge_trained_on``.
    """

    network: Network
    ema: Network
    optimizer: torch.optim.Optimizer
    precision: Precision
    history: list[EpochMetrics] = field(default_factory=list)
    best: BestEpoch = field(default_factory=BestEpoch)
    trained_on: str = ""

    @property
    def epoch(self) -> int:
        """The number of the last complete epoch, 0 before the first."""
        return count_epochs(self.history)

    def keep_best(self, losses: Losses) -> None:
        """Keep the averaged weights if the last epoch of the history has the lowest loss so far.

        Args:
            losses: its loss of each validation sample, float32 [n].
        """
        earlier = [epoch.validation_loss for epoch in find_finite(self.history[:-1])]
        last = self.history[-1]
        if last.is_finite and last.validation_loss < min(earlier, default=math.inf):
            weights = copy.deepcopy(self.ema.state_dict())
            self.best = BestEpoch(last.epoch, weights, torch.from_numpy(losses.copy()))


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network and the record of its training.

    Attributes:
        network: the network, with averaged weights.
        labels: its classes.
        framing: the framing of its samples.
        config: the settings.
        history: the metrics of each epoch.
        epoch: the epoch whose weights these are, 0 for the probe.
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
    epoch: int
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
    """Write the checkpoint and ``history.csv`` of a run, each atomically.

    Raises:
        OutputError: a file can't be written.
    """
    stored = {
        "identity": _describe_training(data, config),
        "network": state.network.state_dict(),
        "ema": state.ema.state_dict(),
        "best": asdict(state.best),
        "optimizer": state.optimizer.state_dict(),
        "precision": state.precision.state_dict(),
        "history": [asdict(epoch) for epoch in state.history],
        "labels": list(data.labels),
        "trained_on": state.trained_on,
        "config": asdict(config),
        "framing": asdict(data.framing)
        | {"region": data.framing.region.value, "resize": str(data.framing.resize)},
    }
    path = run / CHECKPOINT_FILE
    partial = run / f"{CHECKPOINT_FILE}.partial"
    with translate_write_errors(f"checkpoint {path}", "choose another --run", path):
        try:
            with partial.open("wb") as file:
                _save(stored, file)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(path)
        write_history(run, state.history)


def _save(stored: dict[str, Any], file: BinaryIO) -> None:
    """Save as PyTorch does, but raise the error of the system, such as that of a full disk.

    PyTorch raises its own one while it handles that of the system.
    """
    try:
        torch.save(stored, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


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
    with _name_unreadable(path):
        if stored["identity"] != _describe_training(data, config):
            raise OutputError(
                f"{path} belongs to a training run with other data or settings",
                "choose another --run folder, or remove this one",
            )
        state.network.load_state_dict(stored["network"])
        state.ema.load_state_dict(stored["ema"])
        state.best = _read_best_epoch(stored)
        state.optimizer.load_state_dict(stored["optimizer"])
        state.precision.load_state_dict(stored.get("precision", EARLIER_STATE))
        state.history.extend(_parse_history(stored))
    write_history(run, state.history)


def read_progress(run: Path, data: Dataset, config: Config) -> Progress:
    """Read how far the training in a folder is, and compare it with other data and settings.

    Raises:
        InputError: the checkpoint can't be read.
    """
    path = run / CHECKPOINT_FILE
    stored = _read_checkpoint(path)
    with _name_unreadable(path):
        history = _parse_history(stored)
        fingerprint, settings = json.loads(stored["identity"])
        settings = dict(settings)
    other_fingerprint, others = json.loads(_describe_training(data, config))
    differences = ["other data"] if fingerprint != other_fingerprint else []
    names = [name for name in others if settings.get(name, others[name]) != others[name]]
    if not differences and settings.keys() != others.keys():  # of another release
        names += sorted(settings.keys() ^ others.keys())
    if names:
        differences.append(f"other settings ({', '.join(names)})")
    return Progress(count_epochs(history), is_finished(history, config), tuple(differences))


def read_last_epoch(run: Path) -> int:
    """Read the last epoch that a run has done, 0 for the probe; -1 for a new run.

    Raises:
        InputError: the checkpoint can't be read.
    """
    path = run / CHECKPOINT_FILE
    if not path.exists():
        return -1
    stored = _read_checkpoint(path)
    with _name_unreadable(path):
        history = _parse_history(stored)
    return count_epochs(history) if history else -1


def load_trained_network(run: Path) -> TrainedNetwork:
    """Load the averaged weights of the epoch that a run keeps: the best, else the last one.

    Raises:
        InputError: there is no checkpoint, it can't be read, or the run trained on all samples and
            has no cross-validation of the same data and settings.
    """
    path = run / CHECKPOINT_FILE
    if not path.exists():
        raise InputError(f"{path} does not exist", f"run `trainer train --run {run}` first")
    stored = _read_checkpoint(path)
    with _name_unreadable(path):
        augmentation = Augmentation(**stored["config"]["augmentation"])
        config = Config(**{**stored["config"], "augmentation": augmentation})
        framing = Framing(**stored["framing"]) if "framing" in stored else Framing()
        framing = replace(framing, region=Region(framing.region))
        labels = tuple(stored["labels"])
        network = build_network(config, len(labels), framing.channels)
        history = tuple(_parse_history(stored))
        best = _read_best_epoch(stored)
        network.load_state_dict(best.weights or stored["ema"])
        recipe = _parse_recipe(stored["identity"])
    network.eval().requires_grad_(False)
    held_out = None
    if config.learn_from == "all":
        held_out = read_out_of_fold(run / OUT_OF_FOLD_FILE)
        held_out.recipe.require_same(recipe, str(run / OUT_OF_FOLD_FILE))
    return TrainedNetwork(
        network=network,
        labels=labels,
        framing=framing,
        config=config,
        history=history,
        epoch=best.epoch if best.weights else count_epochs(history),
        fingerprint=recipe.data,
        settings=recipe.settings,
        held_out=held_out,
        trained_on=stored.get("trained_on", ""),
    )


def _read_checkpoint(path: Path) -> dict[str, Any]:
    with _name_unreadable(path):
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(stored, dict):
            raise TypeError(f"a {type(stored).__name__} instead of a dictionary")
    return stored


@contextmanager
def _name_unreadable(path: Path) -> Iterator[None]:
    """Turn any error while a checkpoint is read into one that names the file.

    A damaged file, another program's or a later release's can make PyTorch or the parsing raise
    nearly every type of exception.

    Raises:
        InputError: the block raised an exception that is not one of the project's.
    """
    try:
        yield
    except BatchLabelError:
        raise
    except Exception as error:
        raise InputError(
            f"{path} is not a readable checkpoint of this release ({describe_error(error)})",
            f"remove {path.parent} and train again",
        ) from error


def _parse_history(stored: Mapping[str, Any]) -> list[EpochMetrics]:
    return [EpochMetrics(**epoch) for epoch in stored["history"]]


def _read_best_epoch(stored: Mapping[str, Any]) -> BestEpoch:
    """Read the best epoch of a checkpoint; one of an earlier release has only its weights."""
    best = stored.get("best") or {}
    if best.keys() == {"epoch", "weights", "losses"}:
        return BestEpoch(**best)
    if not best:
        return BestEpoch()
    history = _parse_history(stored)
    return BestEpoch(find_best_epoch(history), dict(best))


def make_recipe(data: Dataset, config: Config) -> Recipe:
    """Make the recipe of a training, the same for a cross-validation and its final network."""
    return _parse_recipe(_describe_training(data, config))


def _parse_recipe(identity: str) -> Recipe:
    fingerprint, settings = json.loads(identity)
    settings.pop("learn_from", None)  # a cross-validation always learns from folds
    text = json.dumps(settings, sort_keys=True)
    return Recipe(fingerprint, hashlib.sha256(text.encode()).hexdigest())


def _describe_training(data: Dataset, config: Config) -> str:
    """Describe what must not change to resume a run: all but the threads and paths of models."""
    settings = {k: v for k, v in asdict(config).items() if k != "threads"}
    settings["teacher"] = hash_teachers(config)
    settings["init"] = hash_init(config.init)
    if data.reviewed is None:  # it has no effect, and checkpoints of earlier releases lack it
        settings.pop("review_weight")
    if config.precision == AUTO:  # a resumed training keeps its format, also one of these releases
        settings.pop("precision")
    return json.dumps([data.fingerprint, settings], sort_keys=True)
