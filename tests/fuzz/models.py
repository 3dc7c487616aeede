"""Broken models: bytes, nodes, attributes, constants or metadata of shipped models changed."""

from __future__ import annotations

import functools
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from batch.errors import ModelError, ProviderError
from batch.models.contract import load_model
from batch.models.shipped import list_shipped_models
from batch.options import Provider
from batch.vision.classify import Classifier
from tests.fuzz.cases import Case
from tests.fuzz.mutations import EXTREMES, cut_end, cut_out, flip_bits, overwrite_run, repeat_slice
from tests.support.tiny_models import bright_model

BYTES = (flip_bits, flip_bits, overwrite_run, cut_out, cut_end, repeat_slice)
OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})
WORDS = ("", "0", "-1", "nan", "1e999", "9" * 5000, "[]", "{}", "[[]]", "null", "[" * 99_999,
         '{"a": 1}', '["a", "b"]', '["a", 2]', '"ab"', "\x00", "é" * 9, "a" * 9999)  # fmt: skip

MAX_MESSAGE_CHARACTERS = 2000


@functools.cache
def load_sound_models() -> dict[str, bytes]:
    """Return the sound models by name: a tiny one and the shipped ones."""
    shipped = {name: path.read_bytes() for name, path in list_shipped_models().items()}
    return {"bright": bright_model().SerializeToString()} | shipped


def make(seed: int, number: int) -> Case:
    """Make a broken model from its number."""
    rng = random.Random(f"model {seed} {number}")
    # Mostly the tiny model, which is fast and in which most bytes matter.
    name = rng.choice(("bright",) * 8 + tuple(load_sound_models()))
    data = load_sound_models()[name]
    if rng.random() < 0.3:
        change = rng.choice(BYTES)
        return Case(f"{number:06}-{name}-{change.__name__}", change(data, rng))
    proto = onnx.load_model_from_string(data)
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        alter = rng.choice(ALTERATIONS)
        alter(proto, rng)
        done.append(alter.__name__)
    return Case(f"{number:06}-{name}-{done[-1]}", proto.SerializeToString())


def check(case: Case) -> str:
    """Open a model as a run does; return whether it was refused or passed its golden samples."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(case.data)
        try:
            Classifier(load_model(path), Provider.CPU, batch_size=32)
        except (ModelError, ProviderError) as error:
            refusal = error
        else:
            return "proved"
    assert len(str(refusal).splitlines()) == 1, refusal
    assert len(str(refusal)) < MAX_MESSAGE_CHARACTERS, "an overlong message"
    return type(refusal).__name__


def _drop_node(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = model.graph.node
    del nodes[rng.randrange(len(nodes))]
    if not nodes:
        nodes.add(op_type="Identity")


def _repeat_node(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    model.graph.node.add().CopyFrom(node)


def _other_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.node).op_type = rng.choice(OPERATORS)


def _other_wiring(model: onnx.ModelProto, rng: random.Random) -> None:
    node = rng.choice(model.graph.node)
    names = [name for other in model.graph.node for name in (*other.input, *other.output)] + [""]
    side = rng.choice((node.input, node.output))
    if side:
        side[rng.randrange(len(side))] = rng.choice(names)


def _other_attribute(model: onnx.ModelProto, rng: random.Random) -> None:
    attributes = [a for node in model.graph.node for a in node.attribute]
    if not attributes:
        return
    attribute = rng.choice(attributes)
    value = rng.choice(EXTREMES) % 2**63 * rng.choice((1, -1))
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = value
    else:
        attribute.i = value


def _other_shape(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    value = rng.choice((*EXTREMES[:12], -1, 2**40, 2**62))
    if tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = value % 2**63
    else:
        tensor.dims.append(value % 2**63)


def _other_type(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.initializer).data_type = rng.randrange(30)


def _other_values(model: onnx.ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(model.graph.initializer)
    if tensor.raw_data:
        tensor.raw_data = overwrite_run(tensor.raw_data, rng)


def _other_version(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.5:
        model.opset_import[0].version = rng.choice((*EXTREMES[:10], 2**62))
    else:
        model.ir_version = rng.choice((*EXTREMES[:10], 2**62))


def _other_metadata(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.metadata_props).value = rng.choice(WORDS)


ALTERATIONS: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    *(_drop_node, _repeat_node, _other_operator, _other_operator, _other_wiring),
    *(_other_attribute, _other_shape, _other_type, _other_values, _other_version),
    *(_other_metadata, _other_metadata),
)
