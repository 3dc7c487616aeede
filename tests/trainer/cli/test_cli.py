from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from batch.cli.main import cli as batch_label
from batch.models.contract import load_model
from tests.support.trainer_data import REPOSITORY, write_folders
from trainer.cli.main import cli
from trainer.evaluation.trained_on import unpack_trained_on

# As if PyTorch were not installed.
WITHOUT_TORCH = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "scipy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from trainer.cli.main import main
main()
"""


def trainer(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("photos"), 40)


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "settings.toml").write_text("widths = [4, 8]\nbatch_size = 16\n")
    result = trainer(
        "train", "--data", photos, "--config", folder / "settings.toml", "--run", folder,
        "--epochs", 2, "--seed", 3, "--threads", 1, "--side", 32, "--rgb", "--margin", 0.1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder


def test_from_photos_to_a_model_that_is_evaluated(run: Path, photos: Path) -> None:
    for name in ("checkpoint.pt", "history.csv", "logs", "curves.png"):
        assert (run / name).exists()
    output = run / "models" / "faces.onnx"
    result = trainer(
        "export", "--run", run, "--data", photos, "--output", output, "--created", "2026-03-04",
        "--labels", "cheerful=happy, sad", "--model-version", "7",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    model = load_model(output)
    assert model.spec.labels == ("cheerful", "sad")
    assert (model.spec.name, model.spec.version) == ("faces", "7")
    assert (model.spec.created, model.spec.margin) == ("2026-03-04", 0.1)
    assert (model.height, model.channels) == (32, 3)
    digest = hashlib.sha256(output.read_bytes()).hexdigest()
    assert (run / "models" / "SHA256SUMS").read_text() == f"{digest}  faces.onnx\n"
    assert digest in output.with_suffix(".md").read_text()


def test_a_model_of_the_user_is_found_by_its_name(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    export = ("export", "--run", run, "--data", photos)
    refused = trainer(*export, "--name", "people")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "people is the name of a shipped model" in refused.stderr
    exported = trainer(*export, "--name", "mine")
    assert exported.exit_code == 0, exported.output
    own = tmp_path / "batch-label" / "models" / "mine.onnx"
    assert f"The model is {own}" in exported.stdout
    assert trainer("evaluate", "mine", "--data", photos, "--split", "all").exit_code == 0
    shown = CliRunner().invoke(batch_label, ["model", "mine", "--json"])
    assert json.loads(shown.stdout)["models"][0]["file"] == str(own)
    job = ["label", str(photos), "-m", "mine", "-o", str(tmp_path / "r.csv"), "--provider", "cpu"]
    assert CliRunner().invoke(batch_label, job).exit_code == 0
    record = json.loads((tmp_path / "r.csv.run.json").read_text())
    assert record["settings"]["model"] == str(own)


def test_commands_after_the_training_decode_no_photo_again(
    run: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(path: Path, _: bytes) -> None:
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr("trainer.datasets.samples.decode_bytes", refuse)
    model, data = tmp_path / "mine.onnx", ("--data", photos)
    framing = ("--side", 32, "--rgb", "--margin", 0.1)
    settings = ("--config", run / "settings.toml", *framing, "--threads", 1)
    for arguments in (
        ("export", "--run", run, *data, "--output", model),
        ("evaluate", model, *data),
        ("gate", model, model, *data, "--dry-run"),
        ("train", *data, *settings, "--run", tmp_path / "run", "--epochs", 1),
        ("crossvalidate", *data, *settings, "--run", tmp_path / "folds", "--folds", 2),
    ):
        caplog.clear()
        result = trainer(*arguments)
        assert not isinstance(result.exception, AssertionError), result.exception
        assert caplog.text.count("80 photos taken from the cache of crops, 0 decoded") == 1


def test_labels_that_are_not_named_become_neither(photos: Path, tmp_path: Path) -> None:
    folders = tmp_path / "photos"
    shutil.copytree(photos, folders)
    (folders / "happy").rename(folders / "cheerful")
    for n in range(24):
        for name, angle in (("angry", 90), ("others", 180)):
            (folders / name).mkdir(exist_ok=True)
            with Image.open(photos / ("sad" if n % 2 else "happy") / f"{n:03}.png") as face:
                face.rotate(angle).save(folders / name / f"{n:03}.png")
    (tmp_path / "settings.toml").write_text("widths = [4, 8]\nbatch_size = 16\n")
    shared = ("--data", folders, "--abstain", "neither=others", "--run", tmp_path / "run")
    settings = ("--config", tmp_path / "settings.toml", "--epochs", 4, "--threads", 1)
    learnt = trainer("train", *shared, *settings)
    assert learnt.exit_code == 0, learnt.output
    output = tmp_path / "moods.onnx"
    exported = trainer(
        "export", *shared, "--output", output, "--labels", "cheerful,sad", "--rest", "neither",
        "--risk", 0.5, "--prior-correction", "auto",
    )  # fmt: skip
    assert exported.exit_code == 0, exported.output
    assert "By the model's own thresholds:" in exported.stdout
    spec = load_model(output).spec
    assert (spec.labels, spec.abstain) == (("cheerful", "sad"), ("neither",))
    result = trainer(
        "evaluate", output, "--data", folders, "--abstain", "neither=others", "--split", "all",
        "--json", tmp_path / "figures.json", "--plots", tmp_path / "plots",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "figures.json").read_text())["selective"]
    assert 0 < written["labelled"] < 80, "without the samples that it was trained on"
    assert set(written["kinds"]) == {"angry", "cheerful", "neither", "sad"}
    assert "AUGRC" in result.stdout


def test_evaluate_prints_a_table_and_writes_json_and_plots(run: Path, photos: Path) -> None:
    output = run / "evaluated.onnx"
    assert trainer("export", "--run", run, "--data", photos, "--output", output).exit_code == 0
    result = trainer(
        "evaluate", output, "--data", photos, "--split", "all", "--json", run / "figures.json",
        "--plots", run / "plots", "--corrupted",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "true / answer" in result.stdout
    written = json.loads((run / "figures.json").read_text())
    learnt = unpack_trained_on(load_model(output).spec.trained_on, "evaluated")
    assert written["samples"] == 80 - len(learnt.digests) > 0
    assert written["trained_on"] == len(learnt.digests)
    assert f"{written['accuracy']['value']:.4f}" in result.stdout
    corrupted = written["corrupted"]
    assert corrupted["samples"] == written["samples"]
    assert corrupted["rows"]["none"]["accuracy"]["value"] == written["accuracy"]["value"]
    assert all(name in result.stdout for name in corrupted["rows"])
    assert sorted(path.name for path in (run / "plots").iterdir()) == [
        "confusion.png", "reliability.png",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("train", "--data", "nowhere"), 2, "nowhere does not exist; give --data PATH"),
        (("train", "--config", "none.toml"), 2, "none.toml can't be read"),
        (("train", "--epochs", "0"), 2, "--epochs"),
        (("evaluate", "none.onnx"), 1, "none.onnx can't be read"),
        (("evaluate", "gloomy"), 2, "there is no model gloomy"),
        (("evaluate", "default", "--end-to-end", "--data", "none"), 2, "none is not a folder"),
        (
            ("evaluate", "happy-sad", "--end-to-end", "--corrupted"),
            2,
            "--corrupted can't be combined with --review or --end-to-end",
        ),
        (("gate", "none.onnx", "happy-sad"), 1, "none.onnx can't be read"),
        (("export", "--run", "none", "--output", "x.onnx"), 2, "run `trainer train --run none`"),
        (("export", "--output", "x.onnx", "--labels", "a,a"), 2, "empty or repeated name"),
        (
            ("export", "--output", "x.onnx", "--prior-correction", "2"),
            2,
            "is not auto or a number from 0 to 1",
        ),
        (("train", "--abstain", "neither=a,neither=b"), 2, "does not name each class once"),
        (("train", "--abstain", "nobody=empty"), 2, "with the classes neither and no_person"),
        (("export",), 2, "give --name, or a file with --output"),
    ],
)
def test_a_wrong_argument_gives_one_line_and_an_exit_code(
    arguments: tuple[str, ...],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = trainer(*arguments)
    assert result.exit_code == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not result.stdout
    assert not list(tmp_path.iterdir())


def test_ferplus_has_a_single_framing(tmp_path: Path) -> None:
    from tests.support.trainer_data import FERPLUS_ROWS, write_ferplus

    result = trainer("train", "--data", write_ferplus(tmp_path / "f", FERPLUS_ROWS), "--side", "64")
    assert result.exit_code == 2
    assert "whose samples are grey faces 48 pixels wide" in result.stderr


def test_without_torch_one_line_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "train", "--run", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "trainer: torch is not installed; run `pip install 'batch-label[train]'`\n"
    )


@pytest.mark.parametrize(
    "command",
    [(), ("data",), ("render",), ("train",), ("evaluate",), ("export",), ("adjust",), ("gate",)],
)
def test_help_imports_no_heavy_package(command: tuple[str, ...]) -> None:
    code = (
        "import sys; from trainer.cli.main import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "finally: print({'numpy', 'torch', 'onnx', 'PIL'} & set(sys.modules), file=sys.stderr)"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *command, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == "set()\n"
    assert "Usage:" in done.stdout
    assert time.monotonic() - started < 10


def test_without_data_or_network_a_model_is_trained_on_the_starter_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trainer.datasets import sources
    from trainer.datasets.ferplus_download import DownloadError

    def offline(home: Path) -> None:
        raise DownloadError("there is no network", "do it by hand")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources.choose_source, "__defaults__", (Path("data/ferplus"), offline))
    Path("small.toml").write_text("widths = [4, 8]\n")
    learnt = trainer("train", "--run", "run", "--config", "small.toml", "--epochs", 2)
    assert learnt.exit_code == 0, learnt.output
    assert Path("run/source.txt").read_text() == "drawn\n"
    assert Path("run/left-out.csv").read_text() == "name,reason\n"
    # FER+ that is downloaded later is not the data of this run.
    Path("data/ferplus").mkdir(parents=True)
    result = trainer("export", "--run", "run", "--output", "mine.onnx")
    assert result.exit_code == 0, result.output
    assert "> **Warning: These are drawn faces" in Path("mine.md").read_text()


def test_trainings_of_one_name_follow_each_other(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The README's loop: train, export, and the same again with more photos."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photos, "photos")
    Path("small.toml").write_text("widths = [4, 8]\nbatch_size = 16\nepochs = 1\n")
    learn = ("train", "--data", "photos", "--run", "runs/mine", "--config", "small.toml")
    export = ("export", "--data", "photos", "--run", "runs/mine", "--output", "mine.onnx")
    digests = []
    for words in ("new training", "finished on these data", "new training, because", "finished on"):
        if "because" in words:
            shutil.copy("photos/happy/000.png", "photos/happy/more.png")
            Image.open("photos/happy/001.png").rotate(90).save("photos/happy/turned.png")
        caplog.clear()
        learnt, exported = trainer(*learn), trainer(*export)
        assert learnt.exit_code == 0, learnt.output
        assert exported.exit_code == 0, exported.output
        assert words in caplog.text
        digests.append(load_model(Path("mine.onnx")).spec.data_fingerprint)
    assert sorted(path.name for path in Path("runs").iterdir()) == ["mine", "mine-2"]
    assert "The run is runs/mine-2" in learnt.output
    assert "Exporting the training in runs/mine-2" in exported.output
    assert digests[0] == digests[1] != digests[2] == digests[3]


def test_an_unfinished_training_is_exported_only_if_asked_for(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    import torch

    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state["config"]["epochs"] = 12
    torch.save(state, tmp_path / "checkpoint.pt")
    export = ("export", "--run", tmp_path, "--data", photos, "--output", tmp_path / "mine.onnx")
    refused = trainer(*export)
    assert refused.exit_code == 2
    assert "is not finished: 2 of 12 epochs; give the same `trainer train`" in refused.output
    assert not (tmp_path / "mine.onnx").exists()
    exported = trainer(*export, "--unfinished")
    assert exported.exit_code == 0, exported.output
    assert "are chosen on 9 samples, fewer than 30, so they may be far off" in exported.output
    assert "WARNING: The training was not finished: 2 of 12 epochs." in exported.output
    card = (tmp_path / "mine.md").read_text()
    assert "> **Warning: The training was not finished: 2 of 12 epochs.**" in card
