from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.trainer_data import CONFIG, drawn_dataset
from trainer.networks import FaceNet, Network, PhotoNet
from trainer.training import precision
from trainer.training.checkpoint import CHECKPOINT_FILE, load_trained_network
from trainer.training.config import Config
from trainer.training.loop import train
from trainer.training.precision import Precision, choose_precision
from trainer.training.pretrained import build_network

CPU = torch.device("cpu")
CONFIGS = {
    FaceNet: Config(widths=(4, 8)),
    PhotoNet: Config(network="efficientnet-lite0"),
}


def choose(network: type[Network], name: str = "auto") -> str:
    config = CONFIGS[network]
    return choose_precision(
        replace(config, precision=name),  # type: ignore[arg-type]
        build_network(config, 2, 3),
        CPU,
    ).name


def test_a_cpu_uses_bfloat16_only_where_it_is_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for instruction, faces in (
        ("avx512_bf16", "bfloat16"),
        ("amx_bf16", "bfloat16"),
        ("avx2", "float32"),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=instruction: {name: True})
        assert choose(FaceNet) == faces
        assert choose(PhotoNet) == "float32"
        assert choose(PhotoNet, "bfloat16") == "bfloat16"


def test_the_passes_are_in_the_format_and_the_weights_are_not() -> None:
    for name, expected in precision.FORMATS.items():
        network = build_network(CONFIGS[FaceNet], 2, 1)
        with Precision(name, CPU).autocast():
            logits = network(torch.rand(4, 1, 16, 16) * 255)
        assert logits.dtype == expected
        assert next(network.parameters()).dtype == torch.float32


def read_state(run: Path) -> dict[str, object]:
    stored: dict[str, object] = torch.load(run / CHECKPOINT_FILE, weights_only=True)
    return stored


def test_the_format_of_a_training_is_kept_when_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    def cut(*_: object) -> None:
        raise Cut

    config = replace(CONFIG, epochs=2)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    train(drawn_dataset(), config, tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("trainer.training.loop._log_epoch", cut)
        with pytest.raises(Cut):
            train(drawn_dataset(), config, tmp_path / "cut")
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)  # a CPU for float32
    train(drawn_dataset(), config, tmp_path / "cut")
    assert read_state(tmp_path / "cut")["precision"] == {"name": "bfloat16", "scaler": {}}
    train(drawn_dataset(), config, tmp_path / "other")
    assert read_state(tmp_path / "other")["precision"] == {"name": "float32", "scaler": {}}
    whole, resumed, other = (
        load_trained_network(tmp_path / name).network.state_dict()
        for name in ("whole", "cut", "other")
    )
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert not all(torch.equal(whole[name], other[name]) for name in whole)


def test_a_checkpoint_of_an_earlier_release_goes_on_in_bfloat16(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=1, precision="float32")
    train(drawn_dataset(), config, tmp_path)
    state = read_state(tmp_path)
    del state["precision"]
    torch.save(state, tmp_path / CHECKPOINT_FILE)
    found = Precision("float32", CPU)
    found.load_state_dict(precision.EARLIER_STATE)
    assert found.name == "bfloat16"
    train(drawn_dataset(), config, tmp_path)  # finished, and readable


def test_float16_scales_gradients_and_skips_steps_that_overflow(tmp_path: Path) -> None:
    history = train(drawn_dataset(), replace(CONFIG, epochs=2, precision="float16"), tmp_path)
    assert history[-1].train_loss < history[0].train_loss
    scaler = read_state(tmp_path)["precision"]["scaler"]  # type: ignore[index]
    resumed = Precision("float16", CPU)
    resumed.load_state_dict({"name": "float16", "scaler": scaler})
    assert resumed.state_dict()["scaler"] == scaler
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    scale = resumed.state_dict()["scaler"]["scale"]
    resumed.step((weight * float("inf")).sum(), optimizer)
    assert weight.item() == 1
    assert resumed.state_dict()["scaler"]["scale"] < scale
    resumed.step(weight.sum(), optimizer)
    assert weight.item() == pytest.approx(0.9)
