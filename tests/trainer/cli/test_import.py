"""The command ``trainer import``, from an exported network to a labelled photo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from batch.cli.main import cli as batch_label
from batch.models.contract import load_model
from tests.conftest import REPOSITORY
from tests.support.exported_networks import make_network, save
from tests.trainer.cli.test_cli import WITHOUT_TORCH
from trainer.cli.import_model import RANGE_NAMES
from trainer.cli.main import cli
from trainer.importing.preprocessing import RANGES


def trainer(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("BATCH_LABEL_MODELS", raising=False)
    return tmp_path / "home" / "batch-label" / "models"


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return save(make_network(), tmp_path / "network.onnx")


GIVEN = ("--region", "image", "--range", "0-1", "--created", "2026-03-04")


def test_an_imported_network_labels_photos_by_its_name(
    network: Path, home: Path, tmp_path: Path, astronaut: Image.Image
) -> None:
    ran = trainer(
        "import", network, "--labels", "happy, sad,neither", *GIVEN, "--mean", "0.4,0.5,0.6",
        "--std", "0.5", "--resize", "letterbox", "--unsure-below", 0, "--name", "mine",
        "--credit", "By me, CC0.", "--model-version", "7",
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "Parity on 26 rendered pictures: largest difference " in ran.stdout
    assert ran.stdout.endswith(f"The model is {home / 'mine.onnx'}\n")
    model = load_model(home / "mine.onnx")
    assert (model.spec.labels, model.spec.abstain) == (("happy", "sad"), ("neither",))
    assert (model.spec.resize, model.spec.version, model.spec.name) == ("letterbox", "7", "mine")
    card = (home / "mine.md").read_text()
    assert "By me, CC0." in card
    assert model.digest in card
    assert "letterbox to 12 x 12 pixels" in card
    astronaut.save(tmp_path / "a.jpg")
    report = tmp_path / "r.csv"
    label = [str(tmp_path / "a.jpg"), "-o", str(report), "--model", "mine", "--provider", "cpu"]
    labelled = CliRunner().invoke(batch_label, label)
    assert labelled.exit_code == 0, labelled.output
    assert report.read_text().splitlines()[1].split(",")[1] in ("ok", "neither")


def test_labels_and_preprocessing_come_from_files(network: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\N{BOM}happy\nsad\nneither\n\n", encoding="utf-8")
    names = {"2": "neither", "0": "happy", "1": "sad"}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    processor = {"size": {"shortest_edge": 14}, "do_center_crop": True, "crop_size": 12,
                 "image_mean": [0.5], "image_std": [0.5]}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    output = tmp_path / "out" / "mine.onnx"
    for labels in ("labels.txt", "config.json"):
        ran = trainer(
            "import", network, "--labels", tmp_path / labels, "--processor", tmp_path,
            "--region", "image", "--output", output,
        )  # fmt: skip
        assert ran.exit_code == 0, ran.output
        model = load_model(output)
        assert model.spec.outputs == ("happy", "sad", "neither")
        assert (model.height, model.spec.resize, model.spec.name) == (14, "crop", "mine")
    ran = trainer(
        "import", network, "--labels", tmp_path / labels, "--processor", tmp_path, "--region",
        "image", "--output", output, "--resize", "stretch", "--mean", "0",
    )  # fmt: skip
    assert load_model(output).spec.resize == "stretch", "options override the file"
    assert "| Mean | 0 |" in output.with_suffix(".md").read_text()


def test_pictures_of_a_folder_are_compared_and_broken_ones_named(
    network: Path, tmp_path: Path, astronaut: Image.Image
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        astronaut.rotate(number * 20).save(folder / f"{number}.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    command = ("import", network, "--labels", "a,b,c", *GIVEN, "--output", tmp_path / "m.onnx")
    ran = trainer(*command, "--pictures", folder)
    assert ran.exit_code == 0, ran.output
    assert f"Parity on 3 pictures of {folder}" in ran.stdout
    assert f"1 pictures skipped, such as {folder / 'broken.jpg'}: " in ran.stdout
    for path in folder.glob("?.jpg"):
        path.unlink()
    ran = trainer(*command, "--pictures", folder)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "has no picture that can be read, such as" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--labels", "a,b,c", "--region", "face"), "range of the network's input is not known"),
        (("--labels", "a,b", *GIVEN), "gives 3 numbers per picture, but --labels has 2 names"),
        (("--labels", "none.txt", *GIVEN), "none.txt is neither a list of names nor a file"),
        (("--labels", "gap.txt", *GIVEN), "line 2 of gap.txt is empty"),
        (("--labels", "a,b,c", *GIVEN, "--mean", "0.5,x"), "--mean 0.5,x is not a list of numbers"),
        (("--labels", "a,b,c", *GIVEN, "--abstain", "neither=d"), "--abstain names d"),
        (("--labels", "a,b,c", *GIVEN, "--processor", "none"), "none can't be read"),
        (("--labels", "a,b,c", *GIVEN, "--output", "network.onnx"), "would replace the network"),
        (("--labels", "a,b,c", *GIVEN, "--output", "", "--name", "people"), "a shipped model"),
        (("--labels", "a,b,c", *GIVEN, "--output", "", "--name", "a/b"), "is not a file name"),
        (("--labels", "a,b,c", *GIVEN, "--output", ""), "the model has no name"),
    ],
)
def test_an_error_names_the_cause_and_the_remedy_and_writes_nothing(
    arguments: tuple[str, ...], words: str, network: Path, monkeypatch: pytest.MonkeyPatch,
    home: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(network.parent)
    Path("gap.txt").write_text("a\n\nc\n")
    rest = list(arguments)
    if "--output" not in rest:
        rest += ["--output", "m.onnx"]
    elif rest[at := rest.index("--output") + 1] == "":
        del rest[at - 1 : at + 1]
    before = network.read_bytes()
    ran = trainer("import", "network.onnx", *rest)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert network.read_bytes() == before
    assert not Path("m.onnx").exists()
    assert not home.exists()


def test_a_name_that_another_folder_takes_first_is_refused(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "mine.onnx").touch()
    monkeypatch.setenv("BATCH_LABEL_MODELS", str(first))
    ran = trainer("import", network, "--labels", "a,b,c", *GIVEN, "--name", "mine")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert f"the name mine means {first / 'mine.onnx'}, in a folder that is searched" in ran.stderr


def test_an_earlier_model_of_the_name_is_kept(network: Path, home: Path) -> None:
    given = ("import", network, *GIVEN, "--name", "mine")
    assert trainer(*given, "--labels", "a,b,c").exit_code == 0
    (model,) = home.rglob("mine.onnx")
    before = model.read_bytes()
    again = trainer(*given, "--labels", "red,green,blue")
    assert (again.exit_code, again.stdout) == (2, "")
    assert f"there is a model mine already: {model}" in again.stderr
    assert model.read_bytes() == before


def test_it_needs_no_pytorch(network: Path, tmp_path: Path) -> None:
    command = [
        "import", str(network), "--labels", "a,b,c", *GIVEN, "--output", str(tmp_path / "m.onnx"),
    ]  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *command],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert load_model(tmp_path / "m.onnx").spec.labels == ("a", "b", "c")


def test_the_option_offers_the_known_ranges() -> None:
    assert tuple(RANGES) == RANGE_NAMES
