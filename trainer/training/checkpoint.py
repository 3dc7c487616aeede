"""A training's state on disk: written after every epoch, read to go on or to export."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from batch.errors import InputError, OutputError
from batch.models.shipped import find_model
from batch.records import Region
from trainer.datasets.dataset import Dataset, Framing
from trainer.evaluation.out_of_fold import OUT_OF_FOLD_FILE, OutOfFold, read_out_of_fold
from trainer.networks import Network
from trainer.training.augment import Augmentation
from trainer.training.config import Config
from trainer.training.pretrained import build_network

CHECKPOINT_FILE = "checkpoint.pt"
HISTORY_FILE = "history.csv"


@dataclass(frozen=True)
class EpochMetrics:
    """Figures of one pass: losses in nats, accuracies as shares of 1."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class TrainingState:
    """All that changes while a network learns.

    ``ema`` is its averaged copy, ``best`` the one of these with the least validation loss
    so far, which only a training with ``patience`` keeps.
    """

    network: Network
    ema: Network
    optimizer: torch.optim.Optimizer
    history: list[EpochMetrics] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with averaged weights and all that is known of how it came to be.

    ``held_out`` are the answers of a cross-validation with the same settings, which judge
    a network that has learnt from all samples; None for one that has not.
    """

    network: Network
    labels: tuple[str, ...]
    framing: Framing
    config: Config
    history: tuple[EpochMetrics, ...]
    fingerprint: str
    held_out: OutOfFold | None = None


def save_checkpoint(run: Path, data: Dataset, config: Config, progress: TrainingState) -> None:
    """Write the checkpoint and ``history.csv`` of a run, each in one piece.

    What has these names in the folder of a run is the trainer's.
    """
    state = {
        "identity": _describe_training(data, config),
        "network": progress.network.state_dict(),
        "ema": progress.ema.state_dict(),
        "best": progress.best,
        "optimizer": progress.optimizer.state_dict(),
        "history": [asdict(epoch) for epoch in progress.history],
        "labels": list(data.labels),
        "config": asdict(config),
        "framing": asdict(data.framing) | {"region": data.framing.region.value},
    }
    partial = run / f"{CHECKPOINT_FILE}.partial"
    with partial.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(run / CHECKPOINT_FILE)
    write_history(run, progress.history)


def restore_checkpoint(run: Path, data: Dataset, config: Config, progress: TrainingState) -> None:
    """Bring ``progress`` to where the run's checkpoint stands, if there is one.

    Raises:
        OutputError: the checkpoint is of other data or settings, or can't be read.
    """
    path = run / CHECKPOINT_FILE
    if not path.exists():
        return
    state = _read_checkpoint(path)
    if state["identity"] != _describe_training(data, config):
        raise OutputError(
            f"{path} is of a training with other data or settings",
            "give this one another --run folder, or remove that one",
        )
    progress.network.load_state_dict(state["network"])
    progress.ema.load_state_dict(state["ema"])
    progress.best.update(state.get("best", {}))
    progress.optimizer.load_state_dict(state["optimizer"])
    progress.history.extend(EpochMetrics(**epoch) for epoch in state["history"])
    write_history(run, progress.history)


def load_trained_network(run: Path) -> TrainedNetwork:
    """Read the averaged network of a run, after its last or, with ``patience``, best epoch.

    Raises:
        InputError: there is no checkpoint, or it can't be read, or the run learnt from all
            samples and has no cross-validation to judge it by.
    """
    path = run / CHECKPOINT_FILE
    if not path.exists():
        raise InputError(f"{path} does not exist", f"run `trainer train --run {run}` first")
    state = _read_checkpoint(path)
    config = _parse_config(state["config"])
    framing = Framing(**state["framing"]) if "framing" in state else Framing()
    network = build_network(config, len(state["labels"]), framing.channels)
    network.load_state_dict(state.get("best") or state["ema"])
    network.eval().requires_grad_(False)
    return TrainedNetwork(
        network=network,
        labels=tuple(state["labels"]),
        framing=Framing(Region(framing.region), framing.margin, framing.side, framing.channels),
        config=config,
        history=tuple(EpochMetrics(**epoch) for epoch in state["history"]),
        fingerprint=json.loads(state["identity"])[0],
        held_out=read_out_of_fold(run / OUT_OF_FOLD_FILE) if config.learn_from == "all" else None,
    )


def write_history(run: Path, history: Sequence[EpochMetrics]) -> None:
    """Write the figures of all epochs so far as CSV, one line an epoch."""
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
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise InputError(f"{path} is not a readable checkpoint", "train anew") from error
    return state


def _parse_config(settings: Mapping[str, Any]) -> Config:
    augmentation = Augmentation(**settings["augmentation"])
    return Config(**{**settings, "augmentation": augmentation})


def _describe_training(data: Dataset, config: Config) -> str:
    """What must be equal for a training to go on: all but threads and the teacher's path."""
    settings = {k: v for k, v in asdict(config).items() if k != "threads"}
    settings["teacher"] = hash_teacher(config)
    if data.reviewed is None:  # then it changes nothing, and older trainings go on
        settings.pop("review_weight")
    return json.dumps([data.fingerprint, settings], sort_keys=True)


def hash_teacher(config: Config) -> str:
    """SHA-256 of the teacher's file, empty without one."""
    if not config.teacher:
        return ""
    return hashlib.sha256(find_model(config.teacher).read_bytes()).hexdigest()
