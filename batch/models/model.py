"""Golden samples: inputs that a model carries, with the answers that it must give."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.models.fusion import Fusion
from batch.records import Region

# The largest difference of a probability. Providers add up in orders of their own; in a model of
# 8-bit integers that moves a value by a whole step here and there, and of 3,545 faces one answer by
# 0.011. What a wrong layout, colour or operator does is far larger.
GOLDEN_TOLERANCE = 1e-2
# Answers to golden samples differ by more than this in every output, so that no constant is within
# the tolerance of all.
MIN_GOLDEN_SPREAD = 2e-2
MAX_GOLDEN_SAMPLES = 64
MAX_GOLDEN_SIDE = 4096  # pixels
MAX_GOLDEN_BYTES = 64 * 1024 * 1024  # of all pictures, unpacked


@dataclass(frozen=True)
class GoldenSamples:
    """Sample inputs (uint8 [n, H, W, C]) and the outputs (float32 [n, K + A]) they must give."""

    inputs: npt.NDArray[np.uint8]
    outputs: npt.NDArray[np.float32]


def pack_golden(golden: GoldenSamples) -> str:
    """Write golden samples as the text of a model's metadata."""
    packed = zlib.compress(np.ascontiguousarray(golden.inputs).tobytes(), 9)
    return json.dumps(
        {
            "shape": golden.inputs.shape,
            "inputs": base64.b64encode(packed).decode(),
            "outputs": [[round(float(p), 6) for p in row] for row in golden.outputs],
        }
    )


def unpack_golden(text: str) -> GoldenSamples:
    """Read golden samples from the text of a model's metadata.

    Raises:
        ValueError, TypeError, KeyError, OverflowError, zlib.error: the text is not what
            ``pack_golden`` writes.
    """
    packed = json.loads(text)
    shape = tuple(int(n) for n in packed["shape"])
    if (
        len(shape) != 4
        or shape[0] > MAX_GOLDEN_SAMPLES
        or min(shape) < 1
        or max(shape) > MAX_GOLDEN_SIDE
    ):
        raise ValueError(f"golden samples of shape {shape}")
    size = math.prod(shape)
    if size > MAX_GOLDEN_BYTES:
        raise ValueError(f"golden samples of {size:,} bytes, more than {MAX_GOLDEN_BYTES:,}")
    # One byte more than there should be is enough to see a wrong size, and bounds a bomb.
    raw = zlib.decompressobj().decompress(base64.b64decode(packed["inputs"]), size + 1)
    if len(raw) != size:
        raise ValueError(f"golden samples are not {size} bytes")
    return GoldenSamples(
        inputs=np.frombuffer(raw, dtype=np.uint8).reshape(shape),
        outputs=np.asarray(packed["outputs"], dtype=np.float32),
    )


# == A model that keeps the contract, and what it says of itself.


@dataclass(frozen=True)
class ModelSpec:
    """What a model says of itself in its metadata.

    Attributes:
        name: the model's name, as reports give it.
        version: any text.
        labels: in the order of the output.
        region: whether it looks at face crops or at whole photos.
        margin: share of a face's longer side by which a crop is wider on each side.
        resize: how a crop is brought to the input's size.
        unsure_below: 0 to 1; a label less likely than this is unsure.
        data_fingerprint: digest of the training data.
        label_shares: share of each label in the training data.
        metrics: figures of any form.
        created: date, YYYY-MM-DD, UTC.
        golden: sample pictures with their outputs.
        abstain_from: 0 to 1 for each abstain output, in the order of the output after the labels;
            an output at least as likely as this takes the place of a label, ``neither`` by its
            share in what ``no_person`` leaves.
        fusion: joins a whole-photo model to a face model.
    """

    name: str
    version: str
    labels: tuple[str, ...]
    region: Region
    margin: float
    resize: str
    unsure_below: float
    data_fingerprint: str
    label_shares: Mapping[str, float]
    metrics: Mapping[str, Any]
    created: str
    golden: GoldenSamples
    abstain_from: Mapping[str, float] = field(default_factory=dict)
    fusion: Fusion | None = None

    @property
    def abstain(self) -> tuple[str, ...]:
        """The abstain outputs, in the order of the output after the labels."""
        return tuple(self.abstain_from)

    @property
    def outputs(self) -> tuple[str, ...]:
        """All outputs in their order: the labels, then the abstain outputs."""
        return (*self.labels, *self.abstain_from)


@dataclass(frozen=True)
class Model:
    """A model that keeps the contract, ready to be opened.

    ``graph`` is the file's bytes, ``digest`` their SHA-256, and an input is
    uint8 [N, height, width, channels].
    """

    path: Path
    graph: bytes
    digest: str
    spec: ModelSpec
    height: int
    width: int
    channels: int

    def make_blank_input(self) -> npt.NDArray[np.uint8]:
        """Make a black input, uint8 [1, height, width, channels], to try out the model."""
        return np.zeros((1, self.height, self.width, self.channels), dtype=np.uint8)
