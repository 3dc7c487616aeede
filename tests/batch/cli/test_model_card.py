from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from batch.cli.main import cli
from batch.cli.model import make_card
from batch.errors import ExitCode
from batch.models.contract import load_model, to_metadata
from batch.models.fusion import pack_fusion
from batch.models.model import GoldenSamples
from batch.models.shipped import find_model
from tests.conftest import REPOSITORY, Command
from tests.support.tiny_models import bright_model, bright_spec, save_model


def _json(command: Command, *args: str) -> dict[str, Any]:
    ran = command("model", *args, "--json")
    assert (ran.returncode, ran.stderr) == (ExitCode.OK, "")
    card: dict[str, Any] = json.loads(ran.stdout)
    return card


def test_the_card_is_what_the_file_says_of_itself(command: Command) -> None:
    model = load_model(find_model("happy-sad"))
    (card,) = _json(command, "happy-sad")["models"]
    spec = model.spec
    said = {key: json.loads(value) for key, value in to_metadata(spec).items() if value[0] in "{["}
    assert card["metrics"] == said["metrics"]
    assert card["label_shares"] == said["label_shares"]
    assert (card["name"], card["version"], card["region"]) == ("happy-sad", spec.version, "face")
    assert (card["sha256"], card["bytes"]) == (model.digest, model.path.stat().st_size)
    assert card["input"] == {"height": 48, "width": 48, "channels": 1}
    assert (card["abstain"], card["abstain_from"]) == (["neither"], dict(spec.abstain_from))
    samples = len(spec.golden.inputs)
    assert card["golden"] == {"samples": samples, "checked": False, "largest_difference": None}
    assert (card["notes"], card["fusion"]) == ({}, None)
    assert card["card"].endswith("happy-sad.md")


def test_people_read_the_figures_with_their_intervals(command: Command, tmp_path: Path) -> None:
    figure = {"value": 0.97891, "low": 0.95, "high": 0.99}
    metrics = {"accuracy": figure, "recall": {"happy": 1, "sad": figure}}
    spec = bright_spec(metrics=metrics, abstain_from={"neither": 0.5, "no_person": 0.3})
    save_model(bright_model(spec), tmp_path / "own.onnx")
    ran = command("model", "own.onnx")
    lines = dict(line.strip().split("  ", 1) for line in ran.stdout.splitlines()[1:])
    lines = {name: text.strip() for name, text in lines.items()}
    assert lines["accuracy"] == lines["recall, sad"] == "0.9789 (0.95 to 0.99)"
    assert (lines["labels"], lines["unsure below"]) == ("happy, sad", "0.6")
    assert (lines["neither from"], lines["no_person from"]) == ("0.5", "0.3")
    assert "--check" in lines["golden samples"]


def test_by_default_both_models_and_how_they_answer_together(command: Command) -> None:
    card = _json(command)
    names = [model["name"] for model in card["models"]]
    assert names == ["happy-sad", "people"]
    fusion = load_model(find_model("people")).spec.fusion
    assert fusion is not None
    assert card["pair"] == json.loads(pack_fusion(fusion))
    text = command("model").stdout
    _, _, pair = text.partition("The two together\n")
    lines = dict(line.strip().split("  ", 1) for line in pair.splitlines())
    lines = {name: words.strip() for name, words in lines.items()}
    assert f"face {fusion.both.face:.4g}, label {fusion.both.label:.4g}" in lines["face and photo"]
    assert f"bias of no_person {fusion.photo.bias[3]:.4g}" in lines["photo alone"]
    assert f"score {fusion.alone_score:.4g} and side" in lines["a face alone"]
    assert lines["no_person from"] == f"{fusion.abstain_from['no_person']:.4g}"


def test_a_check_runs_the_golden_samples(command: Command) -> None:
    card = _json(command, "happy-sad+people", "--check")
    for model in card["models"]:
        assert model["golden"]["checked"]
        assert 0 <= model["golden"]["largest_difference"] <= 0.01
    assert "right on the CPU" in command("model", "--check").stdout


def test_without_a_check_onnx_runtime_is_not_loaded() -> None:
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "batch", "model"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    ).stderr
    assert "onnx\n" in loaded
    assert "onnxruntime" not in loaded


def test_golden_samples_that_come_out_wrong_are_a_failure(command: Command, tmp_path: Path) -> None:
    right = bright_spec().golden
    spec = bright_spec(golden=GoldenSamples(right.inputs, right.outputs[::-1].copy()))
    save_model(bright_model(spec), tmp_path / "wrong.onnx")
    assert command("model", "wrong.onnx").returncode == ExitCode.OK
    ran = command("model", "wrong.onnx", "--check")
    assert (ran.returncode, ran.stdout) == (ExitCode.FAILED, "")
    assert "wrong.onnx answers its own golden samples wrongly" in ran.stderr


def test_what_the_contract_does_not_know_is_a_note(command: Command, tmp_path: Path) -> None:
    model = bright_model()
    model.metadata_props.append(onnx.StringStringEntryProto(key="licence", value="CC0-1.0"))
    save_model(model, tmp_path / "own.onnx")
    (card,) = _json(command, "own.onnx")["models"]
    assert card["notes"] == {"licence": "CC0-1.0"}
    assert card["card"] is None
    assert "CC0-1.0" in command("model", "own.onnx").stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.onnx", "text.onnx is not an ONNX file"),
        ("bare.onnx", "bare.onnx breaks the model contract"),
        ("happy-sad+happy-sad", "only a face model and a whole-photo model go together"),
    ],
)
def test_what_is_no_model_is_refused_as_in_a_run(
    command: Command, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    bare = bright_model()
    del bare.metadata_props[:]
    save_model(bare, tmp_path / "bare.onnx")
    ran = command("model", name)
    assert (ran.returncode, ran.stdout) == (ExitCode.FAILED, "")
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_model_can_say_anything_of_itself(command: Command, tmp_path: Path) -> None:
    deep: object = 1
    for _ in range(300):
        deep = {"deeper": deep}
    metrics = {"\x1b[2J\nname": float("nan"), "text": "\x1b]0;title\x07", "deep": deep}
    odd = bright_spec(metrics=metrics, label_shares={"happy": float("inf")}, created="\n")
    save_model(bright_model(odd), tmp_path / "odd.onnx")
    ran = command("model", "odd.onnx")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert not set(map(chr, (*range(10), *range(11, 32), 127))) & set(ran.stdout)
    (card,) = _json(command, "odd.onnx")["models"]
    assert card["metrics"]["\x1b[2J\nname"] is None
    assert card["label_shares"] == {"happy": None}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_metrics_that_have_no_end_are_refused(tmp_path: Path, form: tuple[str, ...]) -> None:
    model = bright_model()
    path = tmp_path / "deep.onnx"
    codes = []
    # Where Python's readers and writers give up depends on who called them.
    for depth in range(700, 1001, 10):
        for entry in model.metadata_props:
            if entry.key == "metrics":
                entry.value = '{"a":' * depth + "1" + "}" * depth
        save_model(model, path)
        ran = CliRunner().invoke(cli, ["model", str(path), *form])
        assert ran.exception is None or isinstance(ran.exception, SystemExit), depth
        codes.append(ran.exit_code)
    assert set(codes) == {ExitCode.OK, ExitCode.FAILED}
    assert "deep.onnx breaks the model contract" in ran.stderr


def test_the_largest_difference_is_that_of_the_samples() -> None:
    model = load_model(find_model("happy-sad"))
    near = GoldenSamples(model.spec.golden.inputs, model.spec.golden.outputs + np.float32(0.005))
    moved = replace(model, spec=replace(model.spec, golden=near))
    difference = make_card(moved, check=True).golden_difference
    assert difference == pytest.approx(0.005, abs=1e-4)
