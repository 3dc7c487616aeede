"""What is read of an exported network, and which files are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from batch.errors import InputError
from tests.support.exported_networks import make_network, save
from trainer.importing.network import Layout, read_network


@pytest.mark.parametrize(
    ("how", "layout", "size", "batch"),
    [
        ({}, Layout.NCHW, (12, 12, 3), 0),
        ({"layout": "nhwc", "channels": 1, "batch": "unk__21"}, Layout.NHWC, (12, 12, 1), 0),
        ({"batch": 4}, Layout.NCHW, (12, 12, 3), 4),
        ({"shape": ["b", 3, 20, 30]}, Layout.NCHW, (20, 30, 3), 0),
        ({"shape": ["b", "num_channels", 12, 12]}, Layout.NCHW, (12, 12, 3), 0),
        ({"shape": ["b", 12, 12, "channels"], "layout": "nhwc"}, Layout.NHWC, (12, 12, 3), 0),
    ],
)
def test_layout_and_size_are_found(
    how: dict[str, Any], layout: Layout, size: tuple[int, int, int], batch: int, tmp_path: Path
) -> None:
    network = read_network(save(make_network(**how), tmp_path / "n.onnx"))
    assert network.layout is layout
    assert (network.height, network.width, network.channels) == size
    assert (network.fixed_batch, network.opset) == (batch, 17)
    assert network.producer == "exporter 1"


def test_layout_and_size_can_be_given(tmp_path: Path) -> None:
    path = save(make_network(shape=["b", "x", "y", "z"]), tmp_path / "n.onnx")
    with pytest.raises(InputError, match=r"does not show which axis has the channels; .*--layout"):
        read_network(path)
    with pytest.raises(InputError, match=r"has no fixed height and width; .*--size"):
        read_network(path, Layout.NCHW)
    network = read_network(path, Layout.NCHW, 48)
    assert (network.height, network.width, network.channels) == (48, 48, 3)
    fixed = save(make_network(), tmp_path / "fixed.onnx")
    with pytest.raises(InputError, match="has 12 x 12 pixels, not 48 x 48; omit --size"):
        read_network(fixed, None, 48)
    with pytest.raises(InputError, match="has 12 channels in the layout nhwc"):
        read_network(fixed, Layout.NHWC)


BRANCH = helper.make_graph([], "branch", [], [])


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"shape": ["b", 3]}, "does not have the four axes of a batch of pictures"),
        ({"shape": ["b", 3, 8, 100_000]}, r"has 100000 x 8 pixels, more than 4,096 on a side"),
        ({"channels": 4}, "does not show which axis has the channels"),
        ({"kind": TensorProto.FLOAT16}, "the input of .*, input, is float16, not float32"),
        ({"kind": TensorProto.UINT8}, "is uint8, not float32"),
        ({"extra_outputs": ["scores"]}, "has 2 outputs .answer, scores., not one"),
        (
            {"extra_nodes": [helper.make_node("If", ["x"], ["y"], then_branch=BRANCH)]},
            r"loops or branches \(If\); export only the network",
        ),
        (
            {"extra_nodes": [helper.make_node("FusedConv", ["x"], ["y"], domain="com.microsoft")]},
            r"operators outside the ONNX standard \(com.microsoft.FusedConv\)",
        ),
        ({"opset": 6}, "operators of opset 6, older than 7"),
    ],
)
def test_a_network_that_can_not_be_imported_is_named_with_the_reason(
    how: dict[str, Any], words: str, tmp_path: Path
) -> None:
    path = save(make_network(**how), tmp_path / "n.onnx")
    with pytest.raises(InputError, match=words) as caught:
        read_network(path)
    assert str(path) in caught.value.problem


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    model = make_network()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["b"]))
    with pytest.raises(InputError, match=r"has 2 inputs \(input, mask\), not one"):
        read_network(save(model, tmp_path / "n.onnx"))


def test_files_that_are_no_networks_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    os.mkfifo(tmp_path / "pipe.onnx")
    for name, words in (
        ("text.onnx", "is not an ONNX file"),
        ("pipe.onnx", "is not a regular file"),
        ("none.onnx", "can't be read"),
    ):
        with pytest.raises(InputError, match=words):
            read_network(tmp_path / name)


def test_weights_outside_the_network_s_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret.bin").write_bytes(bytes(4096))
    (tmp_path / "folder").mkdir()
    model = make_network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    with pytest.raises(InputError, match="can't be read from"):
        read_network(save(model, tmp_path / "folder" / "n.onnx"))
