"""Broken models: the shipped ones with bytes, nodes, attributes, constants or metadata changed."""

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

LONGEST = 2000  # characters of a message


@functools.cache
def sound_models() -> dict[str, bytes]:
    """Give the models that are broken: a tiny one and those that ship."""
    shipped = {name: path.read_bytes() for name, path in list_shipped_models().items()}
    return {"bright": bright_model().SerializeToString()} | shipped


def model_case(seed: int, number: int) -> Case:
    """Make a broken model from its number."""
    chance = random.Random(f"model {seed} {number}")
    # The tiny one mostly, which is quick and has few bytes that do not matter.
    name = chance.choice(("bright",) * 8 + tuple(sound_models()))
    data = sound_models()[name]
    if chance.random() < 0.3:
        change = chance.choice(BYTES)
        return Case(f"{number:06}-{name}-{change.__name__}", change(data, chance))
    proto = onnx.load_model_from_string(data)
    done = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        alter = chance.choice(ALTERATIONS)
        alter(proto, chance)
        done.append(alter.__name__)
    return Case(f"{number:06}-{name}-{done[-1]}", proto.SerializeToString())


def check_model(case: Case) -> str:
    """Open a case as a run does; tell in a word whether it was refused, or answers rightly."""
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
    assert len(str(refusal)) < LONGEST, "a message without end"
    return type(refusal).__name__


def _drop_node(model: onnx.ModelProto, chance: random.Random) -> None:
    nodes = model.graph.node
    del nodes[chance.randrange(len(nodes))]
    if not nodes:
        nodes.add(op_type="Identity")


def _repeat_node(model: onnx.ModelProto, chance: random.Random) -> None:
    node = chance.choice(model.graph.node)
    model.graph.node.add().CopyFrom(node)


def _other_operator(model: onnx.ModelProto, chance: random.Random) -> None:
    chance.choice(model.graph.node).op_type = chance.choice(OPERATORS)


def _other_wiring(model: onnx.ModelProto, chance: random.Random) -> None:
    node = chance.choice(model.graph.node)
    names = [name for other in model.graph.node for name in (*other.input, *other.output)] + [""]
    side = chance.choice((node.input, node.output))
    if side:
        side[chance.randrange(len(side))] = chance.choice(names)


def _other_attribute(model: onnx.ModelProto, chance: random.Random) -> None:
    attributes = [a for node in model.graph.node for a in node.attribute]
    if not attributes:
        return
    attribute = chance.choice(attributes)
    value = chance.choice(EXTREMES) % 2**63 * chance.choice((1, -1))
    if attribute.ints:
        attribute.ints[chance.randrange(len(attribute.ints))] = value
    else:
        attribute.i = value


def _other_shape(model: onnx.ModelProto, chance: random.Random) -> None:
    tensor = chance.choice(model.graph.initializer)
    value = chance.choice((*EXTREMES[:12], -1, 2**40, 2**62))
    if tensor.dims:
        tensor.dims[chance.randrange(len(tensor.dims))] = value % 2**63
    else:
        tensor.dims.append(value % 2**63)


def _other_type(model: onnx.ModelProto, chance: random.Random) -> None:
    chance.choice(model.graph.initializer).data_type = chance.randrange(30)


def _other_values(model: onnx.ModelProto, chance: random.Random) -> None:
    tensor = chance.choice(model.graph.initializer)
    if tensor.raw_data:
        tensor.raw_data = overwrite_run(tensor.raw_data, chance)


def _other_version(model: onnx.ModelProto, chance: random.Random) -> None:
    if chance.random() < 0.5:
        model.opset_import[0].version = chance.choice((*EXTREMES[:10], 2**62))
    else:
        model.ir_version = chance.choice((*EXTREMES[:10], 2**62))


def _other_metadata(model: onnx.ModelProto, chance: random.Random) -> None:
    chance.choice(model.metadata_props).value = chance.choice(WORDS)


ALTERATIONS: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    *(_drop_node, _repeat_node, _other_operator, _other_operator, _other_wiring),
    *(_other_attribute, _other_shape, _other_type, _other_values, _other_version),
    *(_other_metadata, _other_metadata),
)
