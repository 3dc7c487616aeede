"""Small photos made into what a camera gives: as large, as noisy, and as many bytes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

# An enlarged photo alone is too smooth: 12 MP of it weigh 440 kB, where a camera's weigh 2 to 4 MB
# and take longer to decode. What is missing is the sensor's noise, whose variance grows with the
# light (photons come by Poisson's law). Its standard deviation in grey levels, at middle grey:
NOISE, MIDDLE_GREY = 4.0, 128.0
SEED = 20260101
SQUARES = 12  # along each side, for photos that are shuffled
# Tried in this order until the file weighs what it should.
QUALITIES = (95, 93, 90, 97, 85, 99, 75)


class CameraError(Exception):
    """No quality gives a file of the wanted size."""


@dataclass(frozen=True)
class Camera:
    """Square photos of ``side`` pixels a side that weigh ``least`` to ``most`` bytes.

    If ``shuffled``, they are cut into squares that are put together in another order: then there is
    no face to be found, and they cost what a photo without people does.
    """

    side: int
    least: int
    most: int
    shuffled: bool = False

    def enlarge(self, jpeg: bytes) -> bytes:
        """Enlarge a photo, add noise, and save it as a JPEG (4:2:0) of the right weight.

        Raises:
            CameraError: no quality gives that.
        """
        with Image.open(BytesIO(jpeg)) as image:
            size = (self.side, self.side)
            large = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            light = np.asarray(
                _shuffle_squares(large) if self.shuffled else large, dtype=np.float32
            )
        noisy = light + np.sqrt(light / MIDDLE_GREY) * _draw_noise(self.side)
        picture = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
        for quality in QUALITIES:
            file = BytesIO()
            picture.save(file, "JPEG", quality=quality)
            if self.least <= file.tell() <= self.most:
                return file.getvalue()
        raise CameraError(
            f"no JPEG quality brings a photo of {self.side} x {self.side} pixels to between "
            f"{self.least:,} and {self.most:,} bytes: use photos that are less plain or less busy"
        )


def _shuffle_squares(image: Image.Image) -> Image.Image:
    side = image.width // SQUARES
    corners = [(x * side, y * side) for x in range(SQUARES) for y in range(SQUARES)]
    others = np.random.default_rng(SEED).permutation(corners).tolist()
    result = image.copy()
    for corner, (x, y) in zip(corners, others, strict=True):
        result.paste(image.crop((x, y, x + side, y + side)), corner)
    return result


@functools.lru_cache(maxsize=1)
def _draw_noise(side: int) -> npt.NDArray[np.float32]:
    """Noise of one size, float32 [side, side, 3]; the same for all photos, as it takes long."""
    drawn = np.random.default_rng(SEED).standard_normal((side, side, 3), dtype=np.float32)
    return drawn * np.float32(NOISE)
