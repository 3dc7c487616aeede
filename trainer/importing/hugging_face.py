"""Labels and preprocessing from the files beside a Hugging Face model.

Formats: ``config.json`` and ``preprocessor_config.json`` as ``transformers`` saves them,
https://huggingface.co/docs/transformers/main_classes/image_processor
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from batch.errors import InputError
from batch.models.model import ResizeRule
from batch.path_text import printable_text
from trainer.importing.preprocessing import Preprocessing

PROCESSOR_FILE = "preprocessor_config.json"
GIVE_OPTIONS = "give --range, --mean, --std and --resize instead of --processor"
# Steps of processors that change pixels in ways that no option expresses, each with the value that
# means it is off.
UNSUPPORTED_STEPS = {
    "do_pad": False,
    "do_thumbnail": False,
    "do_align_long_axis": False,
    "do_crop_margin": False,
    "do_color_quantize": False,
    "include_top": False,
}
# Processors that resize by rules of their own, whatever their file says.
UNSUPPORTED_TYPES = ("Levit", "Flava", "ImageGPT", "Donut", "Siglip2", "Pix2Struct")
# From this side, ConvNeXt stretches pictures instead of cropping them.
MIN_STRETCHED_SIDE = 384


def read_id2label(path: Path) -> tuple[str, ...]:
    """Read the labels of a ``config.json``, in the order of the outputs.

    Raises:
        InputError: the file can't be read, or has no ``id2label`` for each number from 0.
    """
    names = _read_object(path).get("id2label")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{path} has no id2label", "give the labels as --labels a,b,c")
    try:
        labels = {int(number): name for number, name in names.items()}
    except ValueError as error:
        raise InputError(
            f"the id2label of {path} has a key that is not a number", "correct it"
        ) from error
    if sorted(labels) != list(range(len(names))):
        raise InputError(
            f"the id2label of {path} does not number its labels from 0 to {len(names) - 1}",
            "give the labels as --labels a,b,c",
        )
    return tuple(labels[number] for number in range(len(labels)))


def read_processor(path: Path) -> Preprocessing:
    """Read the preprocessing of a ``preprocessor_config.json``, or of one in a folder.

    Raises:
        InputError: the file can't be read, or describes a step that can't be imported.
    """
    path = path / PROCESSOR_FILE if path.is_dir() else path
    config = _read_object(path)
    kind = str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")
    if kind.startswith(UNSUPPORTED_TYPES):
        raise _refuse(path, f"the type {kind}, whose resizing its file does not describe")
    for step, off in UNSUPPORTED_STEPS.items():
        if config.get(step, off) not in (off, None):
            raise _refuse(path, f"the step {step}")
    try:
        return _convert(path, config, kind)
    except (TypeError, ValueError, KeyError) as error:
        raise _refuse(path, f"a value that is not understood ({error})") from error


def _convert(path: Path, config: dict[str, Any], kind: str) -> Preprocessing:
    normalise = config.get("do_normalize", True)
    rescale = config.get("do_rescale", True)
    resize, side, shorter_side = _find_resize(path, config, kind)
    return Preprocessing(
        scale=float(config.get("rescale_factor", 1 / 255)) if rescale else 1.0,
        # EfficientNet's processors move values to -1..1 by this flag.
        shift=-1.0 if rescale and config.get("rescale_offset") else 0.0,
        mean=_to_numbers(config["image_mean"]) if normalise else (0.0,),
        std=_to_numbers(config["image_std"]) if normalise else (1.0,),
        bgr=bool(config.get("do_flip_channel_order", False)),
        resize=resize,
        shorter_side=shorter_side,
        side=side,
        resample=Image.Resampling(int(config.get("resample") or Image.Resampling.BILINEAR)),
    )


def _find_resize(
    path: Path, config: dict[str, Any], kind: str
) -> tuple[str, int | None, int | None]:
    """Find the resize rule, the side of the network's input, and the shorter side before a crop."""
    if not config.get("do_resize", True):
        raise _refuse(path, "no resizing (do_resize is false)")
    size = config["size"]
    shortest = size.get("shortest_edge") if isinstance(size, dict) else None
    cropped = config.get("do_center_crop", False)
    if isinstance(size, int):  # of older files: the shorter side if a crop follows
        shortest, size = (size, {}) if cropped else (None, {"height": size, "width": size})
    share = config.get("crop_pct")
    if share and shortest:
        if shortest >= MIN_STRETCHED_SIDE and kind.startswith("ConvNext"):
            return ResizeRule.STRETCH, shortest, None
        return ResizeRule.CROP, shortest, int(shortest / share)
    if shortest:
        if not cropped:
            raise _refuse(path, "a size that depends on the picture (shortest_edge, no crop)")
        side = _read_square(path, config.get("crop_size", shortest))
        if side > shortest:
            raise _refuse(path, f"a crop of {side} pixels from a shorter side of {shortest}")
        return ResizeRule.CROP, side, None if side == shortest else int(shortest)
    side = _read_square(path, size)
    if cropped and (inner := _read_square(path, config["crop_size"])) != side:
        raise _refuse(path, f"a crop of {inner} pixels from a stretched picture of {side}")
    return ResizeRule.STRETCH, side, None


def _read_square(path: Path, size: Any) -> int:
    height, width = (size["height"], size["width"]) if isinstance(size, dict) else (size, size)
    if height != width:
        raise _refuse(path, f"a size of {width} x {height} pixels, which is not square")
    return int(height)


def _to_numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in (values if isinstance(values, list) else [values]))


def _refuse(path: Path, what: str) -> InputError:
    return InputError(f"{path} has {printable_text(what)}, which can't be imported", GIVE_OPTIONS)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror})", "correct the path") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not JSON ({printable_text(str(error))})", "correct it"
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{path} is not a JSON object", "give a file of transformers")
    return values
