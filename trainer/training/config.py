"""Settings of a training run: read from TOML and validated.

The annotations of ``Config`` and ``Augmentation`` hold the range of each setting. Validation, error
messages and the test of the table in docs/training-settings.md use them.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from batch.errors import UsageError

MAX_SEED = 2**32 - 1
MAX_EPOCHS = 100_000

Share = Annotated[float, Meta(ge=0, lt=1)]
Probability = Annotated[float, Meta(ge=0, le=1)]
# A setting f means a random factor from 1 / f to f; 1 changes nothing.
Factor = Annotated[float, Meta(ge=1, le=10)]
GreyLevels = Annotated[float, Meta(ge=0, le=255)]
EpochCount = Annotated[int, Meta(ge=0, le=MAX_EPOCHS)]

SETTINGS_REMEDY = "docs/training-settings.md lists all settings"

# Valid values by setting, see ``read_settings``.
GivenSettings = Mapping[str, Any]


class ConfigError(UsageError):
    """The settings can't be read, or one is unknown or out of its range."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, SETTINGS_REMEDY)


@dataclass(frozen=True)
class Augmentation:
    """The strength of each random change; the defaults suit faces of 48 pixels.

    Attributes:
        rotation: largest angle, in degrees to either side.
        scale: largest factor of the size.
        shift: largest shift, as a share of the side, in each direction.
        low_resolution: probability of shrinking and enlarging again.
        min_side: smallest side after shrinking, in pixels.
        contrast: largest factor of the contrast.
        brightness: largest change of the brightness, in grey levels up or down.
        noise: largest standard deviation of the noise, in grey levels.
        erase: probability of painting over a box.
        erase_side: largest side of that box, as a share of the side; the smallest is 0.1.
        crop: smallest share of the area that is kept; 1 keeps all.
        aspect: largest factor by which a crop is stretched, in either direction.
        saturation: largest factor of the saturation.
        grey: probability of removing all colour.
        tint: standard deviation of the logarithm of each colour's factor.
        jpeg: probability of a JPEG compression.
    """

    rotation: Annotated[float, Meta(ge=0, le=180)] = 20.0
    scale: Factor = 1.22
    shift: Probability = 0.08
    low_resolution: Probability = 0.4
    min_side: Annotated[int, Meta(ge=1, le=512)] = 16
    contrast: Factor = 1.5
    brightness: GreyLevels = 25.0
    noise: GreyLevels = 10.0
    erase: Probability = 0.3
    erase_side: Annotated[float, Meta(ge=0.1, le=1)] = 0.45
    crop: Annotated[float, Meta(ge=0.01, le=1)] = 1.0
    aspect: Factor = 1.0
    saturation: Factor = 1.0
    grey: Probability = 0.0
    tint: Probability = 0.0
    jpeg: Probability = 0.0

    def halve(self) -> Augmentation:
        """Halve the strength and probability of all changes but the size of erased boxes."""
        return replace(
            self,
            rotation=self.rotation / 2,
            scale=math.sqrt(self.scale),
            shift=self.shift / 2,
            low_resolution=self.low_resolution / 2,
            contrast=math.sqrt(self.contrast),
            brightness=self.brightness / 2,
            noise=self.noise / 2,
            erase=self.erase / 2,
            crop=(1 + self.crop) / 2,
            aspect=math.sqrt(self.aspect),
            saturation=math.sqrt(self.saturation),
            grey=self.grey / 2,
            tint=self.tint / 2,
            jpeg=self.jpeg / 2,
        )


@dataclass(frozen=True)
class Config:
    """All settings of one training run.

    Attributes:
        learn_from: the split to train on, or ``all`` if the model is evaluated by
            cross-validation.
        network: the architecture.
        widths: channels of each stage of the residual network.
        init: initial weights: empty for random ones, ``imagenet``, the name of a shipped face
            model, or the path of a checkpoint or an exported model, see ``initialise_network``.
        trainable: the layers that are trained: ``all``, ``head`` for the classifier, or ``last-N``
            for the last N blocks and the classifier.
        pretrained_rate: factor on the learning rate of all layers but the classifier.
        probe: weight decay of the logistic regression that initialises the classifier; 0 leaves it
            random.
        dropout: share of features dropped in front of the classifier.
        label_smoothing: share of each sample's votes that is spread over all classes.
        teacher: name or path of a model to learn from, or several, empty for none, see
            ``mix_teacher_votes``.
        teacher_share: weight of the teachers' probabilities against the votes.
        box_jitter: if above 0, every sample is seen a second time with its box moved and resized by
            up to this share of its side.
        consistency: weight of the divergence between the two predictions of such a pair.
        review_weight: number of times that each reviewed sample counts.
        balanced: give every class the same weight in the loss.
        patience: epochs without a lower validation loss after which training stops; 0 never stops
            early.
        epochs: passes over the samples; 0 only fits the probe.
        batch_size: samples per step; batch normalisation needs two.
        learning_rate: largest learning rate, at the end of the warm-up.
        weight_decay: decay of kernels and matrices in AdamW.
        warm_up: share of all steps in which the learning rate rises.
        settle: share of the epochs, at the end, with half the augmentation.
        ema: decay per step of the averaged weights.
        seed: seed of all random numbers.
        threads: PyTorch's threads; 0 leaves the number to PyTorch.
        precision: the number format of the network's passes, see ``choose_precision``.
        augmentation: random changes of each training sample.
    """

    learn_from: Literal["train", "all"] = "train"
    network: Literal["residual", "efficientnet-lite0", "efficientnet-lite2"] = "residual"
    widths: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=4096)], ...], Meta(min_length=1, max_length=16)
    ] = (32, 64, 128, 192)
    init: str = ""
    trainable: Annotated[
        str,
        Meta(pattern=r"^(all|head|last-[1-9][0-9]*)\Z", description='"all", "head" or "last-N"'),
    ] = "all"
    pretrained_rate: Annotated[float, Meta(gt=0, le=100)] = 1.0
    probe: Annotated[float, Meta(ge=0, le=1_000_000)] = 0.0
    dropout: Share = 0.2
    label_smoothing: Share = 0.0
    teacher: Annotated[str | tuple[str, ...], Meta(description="text, or a list of texts")] = ""
    teacher_share: Share = 0.5
    box_jitter: Share = 0.0
    consistency: Annotated[float, Meta(ge=0, le=1000)] = 1.0
    review_weight: Annotated[int, Meta(ge=1, le=1000)] = 1
    balanced: bool = False
    patience: EpochCount = 0
    epochs: EpochCount = 60
    batch_size: Annotated[int, Meta(ge=2, le=65_536)] = 128
    learning_rate: Annotated[float, Meta(gt=0, le=10)] = 2e-3
    weight_decay: Annotated[float, Meta(ge=0, le=10)] = 0.05
    warm_up: Share = 0.05
    settle: Share = 0.1
    ema: Share = 0.998
    seed: Annotated[int, Meta(ge=0, le=MAX_SEED)] = 1
    threads: Annotated[int, Meta(ge=0, le=1024)] = 0
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    augmentation: Augmentation = field(default_factory=Augmentation)

    @property
    def teachers(self) -> tuple[str, ...]:
        """Names or paths of all teachers."""
        if isinstance(self.teacher, tuple):
            return self.teacher
        return (self.teacher,) if self.teacher else ()


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read settings from a TOML file and apply options of the command line, over the defaults.

    Args:
        path: the file; None for the defaults.
        overrides: values by setting; None is ignored.

    Raises:
        ConfigError: the file can't be read, or a setting is unknown or out of its range.
    """
    return make_config(read_settings(path, overrides))


def read_settings(path: Path | None, overrides: Mapping[str, Any] | None = None) -> GivenSettings:
    """Read the settings that a TOML file or options of the command line give.

    Args:
        path: the file; None for none.
        overrides: values by setting, which override the file; None is ignored.

    Returns:
        The valid values by setting; those of the augmentation are a map too.

    Raises:
        ConfigError: the file can't be read, or a setting is unknown or out of its range.
    """
    settings = {} if path is None else _check_settings(Config, _read_toml(path), f"{path}: ")
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    return settings | _check_settings(Config, given, "--")


def make_config(given: GivenSettings, base: Config | None = None) -> Config:
    """Apply given settings over others, by default the defaults.

    Raises:
        ConfigError: settings contradict each other.
    """
    base = base or Config()
    changes = dict(given)
    if "augmentation" in changes:
        changes["augmentation"] = replace(base.augmentation, **changes["augmentation"])
    config = replace(base, **changes)
    if not config.epochs and not config.probe:
        raise ConfigError("setting 'epochs' must be above 0 if there is no 'probe'")
    if config.probe and not config.init:
        raise ConfigError(
            "setting 'probe' needs 'init': random weights give no features to fit it to"
        )
    return config


def list_settings(record: type[Config | Augmentation] = Config, prefix: str = "") -> dict[str, str]:
    """List all settings by name, those of the augmentation too, with the range of each as text."""
    ranges: dict[str, str] = {}
    for name, hint in get_type_hints(record, include_extras=True).items():
        if hint is Augmentation:
            ranges |= list_settings(Augmentation, f"{name}.")
        else:
            ranges[f"{prefix}{name}"] = _describe_range(hint)
    return ranges


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror})") from error
    except ValueError as error:  # neither UTF-8 nor TOML
        raise ConfigError(f"{path} is not TOML ({error})") from error


def _check_settings(
    record: type[Config | Augmentation], values: Mapping[str, Any], source: str
) -> dict[str, Any]:
    """Check and convert settings of a record; ``source`` is the prefix of error messages."""
    hints = get_type_hints(record, include_extras=True)
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            known = ", ".join(sorted(f.name for f in fields(record)))
            raise ConfigError(f"{source}{name} is not a setting; the settings are {known}")
        if hints[name] is Augmentation:
            if not isinstance(value, dict):
                raise ConfigError(f"{source}{name} must be a table, not {value!r}")
            checked[name] = _check_settings(Augmentation, value, f"{source}{name}.")
            continue
        try:
            checked[name] = msgspec.convert(value, hints[name])
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"{source}{name} must be {_describe_range(hints[name])}, not {value!r}"
            ) from error
    return checked


def _describe_range(hint: Any) -> str:
    """Describe the values that an annotation allows, such as ``a number from 0 to 180``."""
    if get_origin(hint) is Literal:
        *others, last = (f'"{value}"' for value in get_args(hint))
        return f"{', '.join(others)} or {last}"
    if get_origin(hint) is not Annotated:
        return {bool: "true or false", str: "text"}[hint]
    kind, limits = get_args(hint)
    if limits.description:
        return str(limits.description)
    if limits.max_length:
        limits_of_each = get_args(get_args(kind)[0])[1]
        return (
            f"a list of {limits.min_length} to {limits.max_length} whole numbers from "
            f"{limits_of_each.ge} to {limits_of_each.le:,}"
        )
    number = "a whole number" if kind is int else "a number"
    if limits.gt is not None:
        return f"{number} above {limits.gt}, at most {limits.le:,}"
    high = f"below {limits.lt}" if limits.lt is not None else f"{limits.le:,}"
    return f"{number} from {limits.ge} to {high}"
