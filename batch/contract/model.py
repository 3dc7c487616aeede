"""A model that keeps the contract, and what it says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch.contract.golden import Golden
from batch.fusion import Fusion
from batch.records import Region


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
    golden: Golden
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
