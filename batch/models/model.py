"""A model that meets the contract: its metadata, and golden samples with known answers."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batch.models.fusion import Fusion
from batch.records import Region

# Largest difference of a probability from its golden sample. Providers add in different orders,
# which moves single values of a model of 8-bit integers by a whole step, and one answer of 3,545
# faces by 0.011. A wrong layout, colour order or operator makes far larger differences.
GOLDEN_TOLERANCE = 1e-2
# Golden samples must differ by more than this in every output, so that no constant answer is within
# the tolerance of all.
MIN_GOLDEN_SPREAD = 2e-2
MAX_GOLDEN_SAMPLES = 64
# Of a model with more outputs, this many must differ so: more samples would not fit.
MAX_VARIED_OUTPUTS = 32
MAX_GOLDEN_SIDE = 4096  # pixels
MAX_GOLDEN_BYTES = 64 * 1024 * 1024  # bytes of all inputs, unpacked


class ResizeRule(StrEnum):
    """How a face's square, or a whole photo, is resized to a model's input.

    ``stretch``: each side by itself. ``crop``: the largest centre part with the input's aspect
    ratio. ``letterbox``: all of it with its own aspect ratio, between black bars.
    """

    STRETCH = "stretch"
    CROP = "crop"
    LETTERBOX = "letterbox"


@dataclass(frozen=True)
class GoldenSamples:
    """Sample inputs, uint8 [n, H, W, C], and their correct outputs, float32 [n, K + A]."""

    inputs: npt.NDArray[np.uint8]
    outputs: npt.NDArray[np.float32]


@dataclass(frozen=True)
class ModelSpec:
    """A model's metadata.

    Attributes:
        name: the model's name in reports.
        version: any text.
        labels: in the order of the output.
        region: the model's input: face crops or whole photos.
        margin: how far a crop extends beyond a face on each side, as a share of its longer side.
        resize: how a crop is resized to the input, see ``ResizeRule``.
        unsure_below: 0 to 1; a label less likely than this is unsure.
        data_fingerprint: digest of the training data.
        label_shares: share of each label in the training data.
        metrics: any JSON values.
        created: date, YYYY-MM-DD, UTC.
        golden: sample inputs with their outputs.
        abstain_from: 0 to 1 for each abstain output, in the order of the output after the labels;
            an output at least as likely as this replaces a label, see ``Thresholds``.
        fusion: joins a whole-photo model to a face model.
        trained_on: digests of the training samples, which only the trainer reads; may be empty.
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
    trained_on: str = ""

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
    """A model that meets the contract, ready to be opened.

    Attributes:
        path: the file.
        graph: its bytes.
        digest: their SHA-256, in hexadecimal.
        spec: its metadata.
        height: of an input, uint8 [N, height, width, channels].
        width: of an input.
        channels: of an input: 3 (RGB) or 1 (grey).
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


def pack_golden(golden: GoldenSamples) -> str:
    """Serialize golden samples for a model's metadata."""
    packed = zlib.compress(np.ascontiguousarray(golden.inputs).tobytes(), 9)
    return json.dumps(
        {
            "shape": golden.inputs.shape,
            "inputs": base64.b64encode(packed).decode(),
            "outputs": [[round(float(p), 6) for p in row] for row in golden.outputs],
        }
    )


def unpack_golden(text: str) -> GoldenSamples:
    """Parse golden samples in a model's metadata.

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
    # At most one byte more than expected: enough to detect a wrong size, and safe from zip bombs.
    raw = zlib.decompressobj().decompress(base64.b64decode(packed["inputs"]), size + 1)
    if len(raw) != size:
        raise ValueError(f"golden samples are not {size} bytes")
    return GoldenSamples(
        inputs=np.frombuffer(raw, dtype=np.uint8).reshape(shape),
        outputs=np.asarray(packed["outputs"], dtype=np.float32),
    )
