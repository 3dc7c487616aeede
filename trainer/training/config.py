"""What a training run is told, as one frozen record read from TOML."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from batch.errors import UsageError
from trainer.training.augment import Augmentation

Record = TypeVar("Record", "Config", Augmentation)

ARCHITECTURES = ("residual", "efficientnet-lite0", "efficientnet-lite2")
# Which part learns: everything, the classifier, or the last N blocks with what follows them.
TRAINABLE_PATTERN = re.compile(r"all|head|last-[1-9]\d*")

SETTINGS_REMEDY = "docs/training.md lists all settings"


class ConfigError(UsageError):
    """A setting does not exist or has a value of the wrong kind."""

    def __init__(self, problem: str, remedy: str = SETTINGS_REMEDY) -> None:
        super().__init__(problem, remedy)


@dataclass(frozen=True)
class Config:
    """All settings of one training.

    ``learn_from`` is a part of the data, or ``all`` where figures come from cross-validation;
    ``widths`` are the channels of the residual network's stages; ``init`` and
    ``trainable`` are explained in ``pretrained``; ``pretrained_rate`` is the factor on the
    learning rate of all but the classifier; ``probe`` is the decay of a first logistic
    regression, 0 leaves the first classifier random, and with ``epochs`` 0 it is all;
    ``warm_up`` is a share of all steps, ``settle`` the share of the last epochs, in which the
    augmentation goes half as far; ``ema`` is the decay a step of the averaged weights;
    ``teacher`` is explained in ``distill``; with ``box_jitter`` above 0 every sample is seen twice,
    the second time by a box that has moved by up to that share of its side, and ``consistency``
    weighs the divergence of the two answers against the loss; ``review_weight`` is how often each
    reviewed sample counts; ``patience`` is a number of epochs, 0 means to
    the end; ``threads`` 0 leaves the number to PyTorch.
    """

    learn_from: str = "train"
    network: str = "residual"
    widths: tuple[int, ...] = (32, 64, 128, 192)
    init: str = ""
    trainable: str = "all"
    pretrained_rate: float = 1.0
    probe: float = 0.0
    dropout: float = 0.2
    label_smoothing: float = 0.0
    teacher: str = ""
    teacher_share: float = 0.5
    box_jitter: float = 0.0
    consistency: float = 1.0
    review_weight: int = 1
    balanced: bool = False
    patience: int = 0
    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warm_up: float = 0.05
    settle: float = 0.1
    ema: float = 0.998
    seed: int = 1
    threads: int = 0
    augmentation: Augmentation = field(default_factory=Augmentation)


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML file (or take the defaults) and apply overrides that are not None.

    Raises:
        BadConfig: an unknown setting or a value of the wrong kind; the message names it.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"{path} can't be read ({error.strerror})") from error
        except ValueError as error:  # neither UTF-8 nor TOML
            raise ConfigError(f"{path} is not TOML ({error})") from error
    values.update({k: v for k, v in (overrides or {}).items() if v is not None})
    augmentation = values.pop("augmentation", {})
    config = _apply_settings(Config(), values, where="setting")
    if not isinstance(augmentation, dict):
        raise ConfigError("augmentation must be a table")
    _check_ranges(config)
    return replace(
        config,
        augmentation=_apply_settings(Augmentation(), augmentation, where="augmentation setting"),
    )


def _check_ranges(config: Config) -> None:
    for name in ("batch_size", "learning_rate", "pretrained_rate", "review_weight"):
        # Not `value <= 0`, which is False for what is not a number.
        if not 0 < getattr(config, name) < math.inf:
            raise ConfigError(f"setting {name!r} must be above 0, not {getattr(config, name)}")
    for name in (
        "dropout",
        "warm_up",
        "settle",
        "ema",
        "label_smoothing",
        "teacher_share",
        "box_jitter",
    ):
        if not 0 <= getattr(config, name) < 1:
            raise ConfigError(
                f"setting {name!r} must be at least 0 and below 1, not {getattr(config, name)}"
            )
    if config.learn_from not in ("train", "all"):
        raise ConfigError(f"setting 'learn_from' must be train or all, not {config.learn_from!r}")
    if config.network not in ARCHITECTURES:
        raise ConfigError(f"setting 'network' must be one of: {', '.join(ARCHITECTURES)}")
    if not TRAINABLE_PATTERN.fullmatch(config.trainable):
        raise ConfigError(
            f"setting 'trainable' must be all, head or last-N, not {config.trainable!r}"
        )
    for name in ("epochs", "patience", "probe", "consistency"):
        if not 0 <= getattr(config, name) < math.inf:
            raise ConfigError(f"setting {name!r} must be at least 0, not {getattr(config, name)}")
    if not config.epochs and not config.probe:
        raise ConfigError("setting 'epochs' must be above 0 where there is no probe")
    if config.probe and config.network == "residual":
        raise ConfigError(
            'setting \'probe\' needs network = "efficientnet-lite0" or "efficientnet-lite2"'
        )


def _apply_settings(record: Record, values: Mapping[str, Any], where: str) -> Record:
    known = {f.name: getattr(record, f.name) for f in fields(record)}
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"unknown {where} {name!r}; there are: {', '.join(sorted(known))}")
        changes[name] = _coerce_value(known[name], value, f"{where} {name!r}")
    return replace(record, **changes)


def _coerce_value(default: Any, value: Any, what: str) -> Any:
    if isinstance(default, tuple) and isinstance(value, (list, tuple)):
        if value and all(type(v) is int and v > 0 for v in value):
            return tuple(value)
        raise ConfigError(f"{what} must be a list of positive whole numbers, not {value!r}")
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise ConfigError(f"{what} must be {type(default).__name__}, not {value!r}")
    return value
