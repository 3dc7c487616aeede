"""Imports a classifier: wraps its graph, compares both, and adds golden samples and metadata."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from batch.errors import BatchLabelError, InputError, ModelError, UsageError
from batch.inference.session import Session
from batch.models.contract import check_labels, to_metadata
from batch.models.graph import MAX_MODEL_BYTES
from batch.models.model import GoldenSamples, ModelSpec
from batch.path_text import printable_text
from batch.records import ABSTAIN_OUTPUTS, Pixels, Probabilities, Region
from trainer.exporting.answer_changes import MAX_DIFFERENCE
from trainer.importing.golden_search import ConstantOutput, make_pool, search_golden_samples
from trainer.importing.network import Floats, Network, open_network
from trainer.importing.parity import Comparison, Picture, compare
from trainer.importing.preprocessing import (
    Preprocessing,
    check_preprocessing,
    find_input_size,
    prepare,
)
from trainer.importing.wrapping import Head, wrap_network

# From an abstain output of this probability, there is no label: nothing better is known of a
# network without data to choose thresholds on.
ABSTAIN_FROM = 0.5
# Probabilities of a picture sum to 1 within this.
SUM_TOLERANCE = 1e-3
# Pixels per call of the model while pictures are searched, to limit the memory.
CALL_PIXELS = 4_000_000

logger = logging.getLogger(__name__)


class ImportParityError(BatchLabelError):
    """The wrapped model's answers differ from its network's."""


@dataclass(frozen=True)
class ImportOptions:
    """Options of an import.

    Attributes:
        name: the model's name.
        version: any text.
        created: date, YYYY-MM-DD.
        outputs: names of the network's outputs, in its order: labels and abstain outputs.
        region: what the model looks at.
        margin: margin around faces, as a share of their side.
        unsure_below: 0 to 1; a label less likely than this is unsure.
        softmax: whether the network gives logits; None to find out.
    """

    name: str
    version: str
    created: str
    outputs: tuple[str, ...]
    region: Region
    margin: float = 0.0
    unsure_below: float = 0.5
    softmax: bool | None = None


@dataclass(frozen=True)
class ImportedModel:
    """An imported model.

    Attributes:
        graph: the model file's bytes.
        spec: its metadata.
        network: the network inside.
        prep: its preprocessing.
        head: from its output to probabilities.
        comparison: how much the model's answers differ from the network's.
    """

    graph: bytes
    spec: ModelSpec
    network: Network
    prep: Preprocessing
    head: Head
    comparison: Comparison

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.graph).hexdigest()


def import_model(
    network: Network, prep: Preprocessing, options: ImportOptions, pictures: Sequence[Picture]
) -> ImportedModel:
    """Import a network.

    Args:
        network: the network.
        prep: its preprocessing.
        options: the metadata.
        pictures: what both are compared on.

    Raises:
        InputError: the network can't be imported.
        UsageError: an option does not fit the network.
        ImportParityError: the model's answers differ from the network's.
    """
    check_preprocessing(prep, network)
    try:
        return _import(network, prep, options, pictures)
    except MemoryError as error:
        height, width = find_input_size(prep, network)
        raise InputError(
            f"there is not enough memory for pictures of {width} x {height} pixels in batches of "
            f"{network.fixed_batch or 1:,}, as {network.path} takes them",
            "export it with smaller pictures or a dynamic batch size",
        ) from error


def _import(
    network: Network, prep: Preprocessing, options: ImportOptions, pictures: Sequence[Picture]
) -> ImportedModel:
    labels, abstain, order = order_outputs(network.path, options.outputs)
    height, width = find_input_size(prep, network)
    pool = make_pool(height, width, network.channels)
    head = find_head(network, network.predict(prepare(pool, prep, network)), order, options.softmax)
    proto = wrap_network(network, prep, head)
    session = open_network(network.path, proto)
    comparison = compare(network, prep, head, session, pictures)
    if not comparison.largest <= MAX_DIFFERENCE:
        raise _make_parity_error(network, comparison)
    golden = _find_golden(network, session, (*labels, *abstain), (height, width))
    spec = ModelSpec(
        name=options.name,
        version=options.version,
        labels=labels,
        region=options.region,
        margin=options.margin,
        resize=prep.resize,
        unsure_below=options.unsure_below,
        abstain_from=dict.fromkeys(abstain, ABSTAIN_FROM),
        data_fingerprint=f"unknown: imported, SHA-256 of the network {network.digest}",
        label_shares={},
        metrics={},
        created=options.created,
        golden=golden,
    )
    onnx.helper.set_model_props(proto, to_metadata(spec))
    graph: bytes = proto.SerializeToString(deterministic=True)
    if len(graph) > MAX_MODEL_BYTES:
        raise InputError(
            f"{network.path} becomes a model of {len(graph):,} bytes, more than "
            f"{MAX_MODEL_BYTES:,}",
            "use a smaller network, or store its weights as float16",
        )
    return ImportedModel(graph, spec, network, prep, head, comparison)


def order_outputs(
    path: Path, outputs: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """Separate labels from abstain outputs.

    Returns:
        The labels, the abstain outputs, and for each of them its column in ``outputs``.

    Raises:
        InputError: a label is not allowed.
    """
    labels = tuple(name for name in outputs if name not in ABSTAIN_OUTPUTS)
    abstain = tuple(name for name in ABSTAIN_OUTPUTS if name in outputs)
    try:
        check_labels(path, labels)
    except ModelError as error:
        raise InputError(error.problem, "give other names with --labels") from error
    if len(set(outputs)) != len(outputs):
        raise InputError(
            f"--labels names an abstain output twice ({', '.join(abstain)})",
            "give each output a name of its own",
        )
    return labels, abstain, tuple(outputs.index(name) for name in (*labels, *abstain))


def rename_abstain(outputs: Sequence[str], names: Mapping[str, str]) -> tuple[str, ...]:
    """Rename labels to the abstain outputs that they stand for.

    Args:
        outputs: names of the network's outputs.
        names: maps a label to an abstain output, as ``--abstain`` does.

    Raises:
        UsageError: a name is not one of ``outputs``.
    """
    unknown = [name for name in names if name not in outputs]
    if unknown:
        raise UsageError(
            f"--abstain names {printable_text(unknown[0])}, which is not one of the labels "
            f"{printable_text(', '.join(outputs[:20]))}",
            "name a label",
        )
    return tuple(names.get(name, name) for name in outputs)


def find_head(
    network: Network, answers: Floats, order: tuple[int, ...], softmax: bool | None
) -> Head:
    """Find how a network's output becomes probabilities.

    Args:
        network: the network.
        answers: its output for some pictures: float32 [n, ...].
        order: the columns of labels and abstain outputs.
        softmax: whether it gives logits; None to find out by the sums of ``answers``.

    Raises:
        InputError: the output has another number of values than there are labels, or another form.
        UsageError: the output is not probabilities, although ``softmax`` says so.
    """
    shape = answers.shape[1:]
    has_planes = len(shape) == 3 and shape[1:] == (1, 1)
    if not has_planes and len(shape) != 1:
        raise InputError(
            f"the output of {network.path} has the shape {[*shape]} per picture, not one number "
            "per label",
            "export a classifier with its last layers",
        )
    if not np.isfinite(answers).all():
        raise InputError(
            f"{network.path} gives NaN or infinity for a picture", "check --range, --mean and --std"
        )
    is_binary = shape[0] == 1 and len(order) == 2
    if shape[0] != len(order) and not is_binary:
        raise InputError(
            f"{network.path} gives {shape[0]} numbers per picture, but --labels has {len(order)} "
            "names",
            "give one name for each output, in its order",
        )
    values = answers.reshape(len(answers), -1)
    sums = values.sum(axis=1) if not is_binary else np.ones(1)
    is_probability = bool(
        (values >= 0).all() and (values <= 1).all() and np.abs(sums - 1).max() <= SUM_TOLERANCE
    )
    if softmax is False and not is_probability:
        raise UsageError(
            f"the outputs of {network.path} are not probabilities: they go from "
            f"{values.min():.4g} to {values.max():.4g} and sum to {sums.min():.4g} to "
            f"{sums.max():.4g}",
            "omit --no-softmax",
        )
    return Head(order, not is_probability if softmax is None else softmax, is_binary, has_planes)


def _find_golden(
    network: Network, session: Session, outputs: Sequence[str], size: tuple[int, int]
) -> GoldenSamples:
    step = max(1, CALL_PIXELS // (size[0] * size[1]))

    def run(pixels: Pixels) -> Probabilities:
        parts = [session.run(pixels[at : at + step])[0] for at in range(0, len(pixels), step)]
        return np.concatenate(parts)

    try:
        return search_golden_samples(run, outputs, *size, network.channels)
    except ConstantOutput as error:
        raise InputError(
            f"{network.path} gives {printable_text(outputs[error.output])} about the same "
            f"probability for all of {error.pictures} pictures, {error.low:.3g} to "
            f"{error.high:.3g}, so that no sample tells it from a broken model",
            "check --range, --mean, --std and --softmax, and that the network is trained",
        ) from error


def _make_parity_error(network: Network, comparison: Comparison) -> BatchLabelError:
    if network.fixed_batch and not comparison.one_by_one > MAX_DIFFERENCE:
        return InputError(
            f"{network.path} takes exactly {network.fixed_batch} pictures per call: with another "
            "number its answers change or it fails",
            "export it with a dynamic batch size",
        )
    return ImportParityError(
        f"the model's answers differ by {comparison.largest:.2g} from those of {network.path}",
        "export the network again, without operators that depend on the batch",
    )
