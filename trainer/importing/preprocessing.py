"""Preprocessing of an imported network: how a picture becomes the numbers of its input.

``prepare`` and ``resize_plainly`` state it in plain numpy and Pillow; ``wrapping`` builds the same
as a graph, and both are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from batch.errors import UsageError
from batch.models.model import MAX_GOLDEN_SIDE, ResizeRule
from batch.records import Pixels
from trainer.importing.network import Floats, Layout, Network

# Scale and shift of each ``--range``: value = pixel * scale + shift.
RANGES = {"0-1": (1 / 255, 0.0), "0-255": (1.0, 0.0), "-1-1": (1 / 127.5, -1.0)}


@dataclass(frozen=True)
class Preprocessing:
    """From uint8 pixels to a network's input: (pixel * scale + shift - mean) / std.

    Attributes:
        scale: factor of a pixel of 0 to 255.
        shift: added to it.
        mean: subtracted; one number, or one for each channel in the network's order.
        std: divides; as ``mean``.
        bgr: whether the network's channels are blue, green, red.
        resize: how a face or photo is resized, see ``ResizeRule``.
        shorter_side: side to which the centre square is resized before the network's input is cut
            from its centre; None if it is the input's. Only with ``crop``.
        side: height and width of the network's input, if they are known; None otherwise.
        resample: the filter that the network was trained with; the runner's is bilinear.
    """

    scale: float
    shift: float = 0.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False
    resize: str = ResizeRule.STRETCH
    shorter_side: int | None = None
    side: int | None = None
    resample: Image.Resampling = Image.Resampling.BILINEAR

    @property
    def factor(self) -> npt.NDArray[np.float64]:
        """The product of scale and 1 / std, for each channel: with ``offset``, all in one step."""
        factor: npt.NDArray[np.float64] = self.scale / np.asarray(self.std, np.float64)
        return factor

    @property
    def offset(self) -> npt.NDArray[np.float64]:
        """What is added after ``factor``, for each channel."""
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        offset: npt.NDArray[np.float64] = (self.shift - mean) / std
        return offset


def check_preprocessing(prep: Preprocessing, network: Network) -> None:
    """Check that a preprocessing fits a network.

    Raises:
        UsageError: it does not; the message names the option.
    """
    for name, values in (("--mean", prep.mean), ("--std", prep.std)):
        if len(values) not in (1, network.channels):
            raise UsageError(
                f"{name} has {len(values)} numbers, but {network.path} takes {network.channels} "
                f"channel{'s' if network.channels > 1 else ''}",
                f"give one number, or {network.channels}",
            )
        if not all(map(math.isfinite, values)):
            raise UsageError(f"{name} has a number that is not finite", "correct it")
    if min(prep.std) <= 0:
        raise UsageError(f"--std has the number {min(prep.std):g}", "give numbers above 0")
    if prep.bgr and network.channels == 1:
        raise UsageError(f"--bgr needs a colour input, but {network.path} is grey", "omit --bgr")
    if prep.shorter_side is None:
        return
    if prep.resize != ResizeRule.CROP or network.height != network.width:
        raise UsageError(
            "--shorter-side applies to square inputs with --resize crop only", "omit it"
        )
    if not network.height <= prep.shorter_side <= MAX_GOLDEN_SIDE:
        raise UsageError(
            f"--shorter-side {prep.shorter_side} is not from {network.height}, the side of the "
            f"network's input, to {MAX_GOLDEN_SIDE}",
            "omit it, or give the side that pictures were resized to before they were cropped",
        )


def find_input_size(prep: Preprocessing, network: Network) -> tuple[int, int]:
    """Find height and width of the model's input, which may be larger than the network's."""
    if prep.shorter_side is not None:
        return prep.shorter_side, prep.shorter_side
    return network.height, network.width


def find_centre(prep: Preprocessing, network: Network) -> tuple[int, int]:
    """Find top and left of the network's input inside the model's."""
    height, width = find_input_size(prep, network)
    return (height - network.height) // 2, (width - network.width) // 2


def prepare(pixels: Pixels, prep: Preprocessing, network: Network) -> Floats:
    """Prepare a model's inputs for the network, in numpy.

    Args:
        pixels: uint8 [n, height, width, channels].
        prep: the preprocessing.
        network: the network.

    Returns:
        float32 [n, ...] in the network's layout.
    """
    top, left = find_centre(prep, network)
    values = pixels[:, top : top + network.height, left : left + network.width]
    if prep.bgr:
        values = values[..., ::-1]
    mean, std = np.asarray(prep.mean, np.float32), np.asarray(prep.std, np.float32)
    scaled = values.astype(np.float32) * np.float32(prep.scale) + np.float32(prep.shift)
    prepared: Floats = ((scaled - mean) / std).astype(np.float32)
    return prepared.transpose(0, 3, 1, 2) if network.layout is Layout.NCHW else prepared


def resize_plainly(image: Image.Image, prep: Preprocessing, network: Network) -> Pixels:
    """Resize a picture to the model's input as other programs do, with Pillow alone.

    Returns:
        uint8 [1, height, width, channels].
    """
    height, width = find_input_size(prep, network)
    image = image.convert("L" if network.channels == 1 else "RGB")
    if prep.resize == ResizeRule.STRETCH:
        resized = image.resize((width, height), prep.resample)
    elif prep.resize == ResizeRule.CROP:
        scale = max(width / image.width, height / image.height)
        size = max(width, round(image.width * scale)), max(height, round(image.height * scale))
        left, top = (size[0] - width) // 2, (size[1] - height) // 2
        resized = image.resize(size, prep.resample)
        resized = resized.crop((left, top, left + width, top + height))
    else:
        scale = min(width / image.width, height / image.height)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        resized = Image.new(image.mode, (width, height))
        corner = (width - size[0]) // 2, (height - size[1]) // 2
        resized.paste(image.resize(size, prep.resample), corner)
    return np.asarray(resized).reshape(1, height, width, network.channels)
