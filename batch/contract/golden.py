"""Golden samples: inputs that a model carries, with the answers that it must give."""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

# The largest difference of a probability. Providers add up in orders of their own; in a model of
# 8-bit integers that moves a value by a whole step here and there, and of 3,545 faces one answer by
# 0.011. What a wrong layout, colour or operator does is far larger.
GOLDEN_TOLERANCE = 1e-2
# Answers to golden samples differ by more than this in every output, so that no constant is within
# the tolerance of all.
GOLDEN_SPREAD = 2e-2
MAX_PICTURES = 64
MAX_SIDE = 4096  # pixels
MAX_BYTES = 64 * 1024 * 1024  # of all pictures, unpacked


@dataclass(frozen=True)
class Golden:
    """Sample inputs (uint8 [n, H, W, C]) and the outputs (float32 [n, K + A]) they must give."""

    inputs: npt.NDArray[np.uint8]
    outputs: npt.NDArray[np.float32]


def pack_golden(golden: Golden) -> str:
    """Write golden samples as the text of a model's metadata."""
    packed = zlib.compress(np.ascontiguousarray(golden.inputs).tobytes(), 9)
    return json.dumps(
        {
            "shape": golden.inputs.shape,
            "inputs": base64.b64encode(packed).decode(),
            "outputs": [[round(float(p), 6) for p in row] for row in golden.outputs],
        }
    )


def unpack_golden(text: str) -> Golden:
    """Read golden samples from the text of a model's metadata.

    Raises:
        ValueError, TypeError, KeyError, OverflowError, zlib.error: the text is not what
            ``pack_golden`` writes.
    """
    packed = json.loads(text)
    shape = tuple(int(n) for n in packed["shape"])
    if len(shape) != 4 or shape[0] > MAX_PICTURES or min(shape) < 1 or max(shape) > MAX_SIDE:
        raise ValueError(f"golden samples of shape {shape}")
    size = math.prod(shape)
    if size > MAX_BYTES:
        raise ValueError(f"golden samples of {size:,} bytes, more than {MAX_BYTES:,}")
    # One byte more than there should be is enough to see a wrong size, and bounds a bomb.
    raw = zlib.decompressobj().decompress(base64.b64decode(packed["inputs"]), size + 1)
    if len(raw) != size:
        raise ValueError(f"golden samples are not {size} bytes")
    return Golden(
        inputs=np.frombuffer(raw, dtype=np.uint8).reshape(shape),
        outputs=np.asarray(packed["outputs"], dtype=np.float32),
    )
