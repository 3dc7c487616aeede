"""The loop from a report through a review to a model that replaces the old one."""

from __future__ import annotations

import csv
import json
import logging
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from PIL import Image, ImageChops

from batch.cli.main import cli as batch_label
from batch.models.contract import load_model
from tests.batch.page.test_review import downloaded
from tests.support.browser import BrowserPage, open_page
from tests.support.review_data import Row, is_held, write_review, write_snapshots
from tests.support.trainer_data import write_folders
from trainer.cli.main import cli
from trainer.datasets.drawn_faces import Mood

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SETTINGS = """
widths = [8, 16, 32]
batch_size = 16
learning_rate = 0.01
epochs = 24
threads = 1
dropout = 0.0
review_weight = 5
[augmentation]
rotation = 5.0
scale = 1.05
contrast = 1.0
brightness = 0.0
low_resolution = 0.0
noise = 0.0
erase = 0.0
"""
SAMPLES = ("--region", "image", "--side", "32", "--rgb")


def trainer(*arguments: object) -> Result:
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert result.exit_code in (0, 1), result.output
    return result


def label(*arguments: object) -> None:
    result = CliRunner().invoke(batch_label, ["--provider", "cpu", *map(str, arguments)])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A first model, and a folder of inverted pictures that it labels happy."""
    home = tmp_path_factory.mktemp("loop")
    (home / "mine.toml").write_text(SETTINGS)
    data = write_folders(home / "data", 120)
    arguments = ("--data", data, "--run", home / "first", "--config", home / "mine.toml", *SAMPLES)
    assert trainer("train", *arguments).exit_code == 0
    output = home / "models" / "mine.onnx"
    assert trainer("export", "--run", home / "first", "--output", output).exit_code == 0
    for mood in Mood:
        for path in write_snapshots(home / "night", mood, learn=24, held=12, first_seed=9000):
            invert(path)
    return home


def invert(path: Path) -> None:
    """Invert a picture so that it stays in its split."""
    before = is_held(path)
    with Image.open(path) as image:
        negative = ImageChops.invert(image)
    for level in range(10):
        negative.save(path, compress_level=level)
        if is_held(path) is before:
            return


def review(report: Path, home: Path) -> Path:
    """Write a review with the right label of every row, from the names of the pictures."""
    with report.open(newline="", encoding="utf-8") as file:
        rows: list[Row] = [
            {
                "path": row["path"],
                "said": row["label"],
                "confidence": row["confidence"],
                "label": Path(row["path"]).name.split("-")[0],
            }
            for row in csv.DictReader(file)
        ]
    return write_review(home / "review.csv", rows)


def test_a_model_learns_from_a_review_and_replaces_the_old_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(home)
    label("night", "-o", "results.csv", "--model", "models/mine.onnx")
    reviewed = review(home / "results.csv", home)
    learn = ("--data", "data", "--review", reviewed, "--run", "second")
    assert trainer("train", *learn, "--config", "mine.toml", *SAMPLES).exit_code == 0
    without = CliRunner().invoke(cli, ["export", "--run", "second", "--output", "new.onnx"])
    assert "give the same --data, --abstain, --beside and --review" in without.stderr
    exported = trainer("export", *learn, "--name", "mine", "--output", "new.onnx")
    assert exported.exit_code == 0, exported.output
    assert "reviewed answers" in Path("new.md").read_text()
    found = {}
    for model in ("models/mine.onnx", "new.onnx"):
        arguments = ("evaluate", model, "--review", reviewed, "--json", "figures.json")
        result = trainer(*arguments)
        assert "not a random sample" in result.stdout
        found[model] = json.loads(Path("figures.json").read_text())
    before, after = found["models/mine.onnx"], found["new.onnx"]
    # The old model gives the answers in the report again.
    assert before["now"] == before["before"] == after["before"]
    assert after["reviewed"] == before["reviewed"] >= 12
    assert after["now"]["value"] > before["now"]["value"] + 0.2
    gate = trainer(
        "gate", "new.onnx", "models/mine.onnx", "--review", reviewed, "--data", "data",
        "--split", "all", "--dry-run",
    )  # fmt: skip
    assert "On held-out reviewed answers:" in gate.stdout
    # Both were trained on the train part of these data, which is excluded.
    said = r"\d+ of \d+ samples are excluded, .*: they were used to train new\.onnx"
    assert re.search(said, caplog.text)
    for source in (("--data", "data"), ("--review", reviewed)):
        caplog.clear()
        trainer("evaluate", "new.onnx", *source, "--split", "all")
        assert re.search(said, caplog.text)
    opened = trainer("gate", "new.onnx", "models/mine.onnx", "--review", reviewed)
    assert opened.exit_code == 0, opened.output
    assert Path("models/mine.onnx").read_bytes() == Path("new.onnx").read_bytes()
    label("night", "-o", "results.csv", "--model", "models/mine.onnx")
    with Path("results.csv").open(newline="", encoding="utf-8") as file:
        right = [Path(r["path"]).name.startswith(r["label"]) for r in csv.DictReader(file)]
    assert sum(right) / len(right) > after["before"]["value"]


def answer_all(shown: BrowserPage) -> None:
    """Answer all photos of the list by keys, from the names of the pictures."""
    focused = "document.activeElement.querySelector('.path bdi').textContent"
    shown.page.keyboard.press("j")
    for _ in range(int(shown.text("#count").split()[0])):
        mood = shown.page.evaluate(focused).split("-")[0]
        shown.page.keyboard.press({"happy": "1", "sad": "2"}[mood])


def test_the_random_sample_of_the_page_measures_both_models(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    browser: Browser,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "night", "night")
    arguments = ("export", "--run", home / "first", "--name", "mine", "--output", "first.onnx")
    assert trainer(*arguments).exit_code == 0
    label("night", "-o", "results.csv", "--model", "first.onnx")
    assert CliRunner().invoke(batch_label, ["report", "results.csv"]).exit_code == 0
    with open_page(browser, Path("results.html").resolve()) as shown:
        for name in ("sample", "chosen"):
            shown.page.click(f"#show-{name}")
            answer_all(shown)
        held = [path for path in Path("night").iterdir() if is_held(path)]
        assert shown.text("#show-sample") == f"Random sample: {len(held)} of {len(held)} reviewed"
        measured = shown.text("#accuracy")
        # Some photos to train on, which are not chosen because they look like others.
        shown.page.click("#as-list")
        shown.fill(review="open", sort="name")
        answer_all(shown)
        assert shown.text("#accuracy") == measured
        Path("review.csv").write_text(downloaded(shown))
    applied = CliRunner().invoke(batch_label, ["review", "apply", "review.csv", "results.csv"])
    assert applied.exit_code == 0, applied.output
    (line,) = (line for line in applied.stderr.splitlines() if line.startswith("random sample"))
    found = re.fullmatch(r"random sample: the model had (\d+) of (\d+) right: (.*) %", line[:-1])
    assert found
    share, *ends = re.findall(r"[\d.]+", found[3] + " %")
    assert measured == (
        f"The model was right on {share} % of the random sample ({ends[0]} % to {ends[1]} %)."
    )
    assert int(found[2]) == len(held)
    reviews = "results.csv.reviews.csv"
    learn = ("--data", home / "data", "--review", reviews, "--run", "second")
    with caplog.at_level(logging.INFO):
        trained = trainer("train", *learn, "--config", home / "mine.toml", *SAMPLES)
    assert trained.exit_code == 0
    assert f"reviewed samples to train on, {len(held)} held out, 0 skipped" in caplog.text
    assert trainer("export", *learn, "--name", "mine", "--output", "new.onnx").exit_code == 0
    caplog.clear()
    before = trainer("evaluate", "first.onnx", "--review", reviews, "--json", "first.json")
    trainer("evaluate", "new.onnx", "--review", reviews, "--json", "new.json")
    assert "excluded" not in caplog.text  # nothing of the sample was trained on
    assert "The reviewed photos are a random sample of the report" in before.stdout
    old, new = (json.loads(Path(f"{name}.json").read_text()) for name in ("first", "new"))
    assert f"{old['now']['value']:.1%}" == f"{share}%"
    assert (old["random"], old["reviewed"], new["reviewed"]) == (True, len(held), len(held))
    assert new["now"]["value"] > old["now"]["value"] + 0.2
    gate = trainer("gate", "new.onnx", "first.onnx", "--review", reviews)
    assert gate.exit_code == 0, gate.output
    assert re.search(rf"^samples +{len(held)}$", gate.stdout, re.MULTILINE)


def test_a_model_is_adjusted_without_its_data(
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(home / "night", "night")
    first = home / "first.onnx"
    arguments = ("export", "--run", home / "first", "--name", "mine", "--output", first)
    assert trainer(*arguments).exit_code == 0
    label("night", "-o", "results.csv", "--model", first)
    reviewed = review(tmp_path / "results.csv", tmp_path)
    # Half of the report is reviewed; the other half keeps the model from forgetting.
    lines = reviewed.read_text().splitlines()
    reviewed.write_text("\n".join([lines[0], *lines[1::2]]) + "\n")
    adjusted = trainer(
        "adjust", first, "--review", reviewed, "--report", "results.csv", "--output", "new.onnx",
        "--decay", "0.01",
    )  # fmt: skip
    assert adjusted.exit_code == 0, adjusted.output
    model = load_model(Path("new.onnx"))
    trainer("evaluate", "new.onnx", "--review", reviewed, "--split", "all")
    assert "excluded, because they are not held out" in caplog.text
    assert (model.spec.name, model.spec.version) == ("mine", "1, adjusted")
    assert f"{model.spec.metrics['accuracy']['value']:.4f}" in adjusted.stdout
    again = trainer("evaluate", "new.onnx", "--review", reviewed)
    assert f"right now            {model.spec.metrics['accuracy']['value']:.4f}" in again.stdout
    gate = trainer("gate", "new.onnx", first, "--review", reviewed, "--dry-run")
    assert "right by the candidate alone" in gate.stdout
    # Both are measured on the held-out answers alone, a fifth of the review.
    counts = [
        int(re.findall(r"^(?:reviewed|samples) +(\d+)$", text, re.MULTILINE)[0])
        for text in (again.stdout, gate.stdout)
    ]
    assert counts[0] == counts[1] < (len(reviewed.read_text().splitlines()) - 1) / 2


def test_options_that_exclude_each_other_are_a_usage_error(home: Path) -> None:
    for arguments, said in (
        (("evaluate", "m", "--review", "r", "--data", "d"), "--review can't be combined"),
        (("adjust", "m", "--report", "r", "--output", "o"), "give --review REVIEW.csv"),
        (
            ("train", "--review", home / "none.csv", "--data", home / "data"),
            "none.csv can't be read",
        ),
    ):
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
        assert result.exit_code == 2
        assert said in result.stderr


def test_an_export_under_a_used_name_waits_for_the_gate(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "batch-label" / "models"
    mine, candidate = folder / "mine.onnx", folder / "mine.candidate.onnx"
    run = ("--run", home / "first")
    export = ("export", *run, "--name", "mine")
    # The first model has its labels exchanged, so it is always wrong.
    swapped = trainer(*export, "--labels", "happy=sad,sad=happy")
    assert f"The model is {mine}" in swapped.stdout
    first = trainer("gate", "mine", *run)
    assert first.exit_code == 0, first.output
    assert f"{mine} has no candidate" in first.stdout
    before = mine.read_bytes()
    exported = trainer(*export)
    assert f"The model is {candidate}" in exported.stdout
    hint = f"It replaces mine if it passes `trainer gate mine --run {home / 'first'}`"
    assert hint in exported.stdout
    assert mine.read_bytes() == before
    better = candidate.read_bytes()
    opened = trainer("gate", "mine", *run)
    assert opened.exit_code == 0, opened.output
    assert mine.read_bytes() == better
    assert sorted(path.name for path in folder.iterdir()) == ["SHA256SUMS", "mine.md", "mine.onnx"]
    assert (folder / "SHA256SUMS").read_text().count("\n") == 1
    assert f"The model is unchanged: {mine}" in trainer(*export).stdout
    assert not candidate.exists()
    # A model with other labels can't take the name: the export says it before the gate refuses.
    other = trainer(*export, "--labels", "glad=happy,sad=sad")
    assert other.exit_code == 0, other.output
    assert "It replaces mine" not in other.stdout
    said = f"{candidate} can't replace {mine}, which reports and jobs rely on: it has the labels"
    assert f"WARNING: {said}" in other.stderr
    assert "glad, sad instead of happy, sad" in other.stderr
    command = re.search(r"with `(.*)` and export again", other.stderr)
    assert command
    assert command[1] == (
        f"(cd {folder} && rm -f mine.onnx mine.md mine.candidate.onnx mine.candidate.md)"
    )
    refused = trainer("gate", "mine", *run)
    assert refused.exit_code == 1
    assert said in refused.stderr
    # The same network again is not better: it stays a candidate.
    assert trainer(*export, "--model-version", "2").exit_code == 0
    refused = trainer("gate", "mine", *run)
    assert refused.exit_code == 1
    assert re.search(r"^accuracy +\d+ +0 +0 +\+0\.0000 +gain, p <= 0\.025 +1 +failed$",
                     refused.stdout, re.MULTILINE)  # fmt: skip
    assert (mine.read_bytes(), candidate.exists()) == (better, True)


def test_the_gate_takes_a_first_model_only_under_its_own_name(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    new = tmp_path / "new.onnx"
    arguments = ("export", "--run", home / "first", "--name", "mine", "--output", new)
    assert trainer(*arguments).exit_code == 0
    mistyped = CliRunner().invoke(cli, ["gate", str(new), "mien"])
    assert "there is no model mien" in mistyped.stderr
    first = trainer("gate", new, "mine")
    assert "there is no model mine yet" in first.stdout
    own = tmp_path / "batch-label" / "models" / "mine.onnx"
    assert own.read_bytes() == new.read_bytes()
