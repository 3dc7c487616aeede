"""Pages of real trainings: what they say, what they escape, and how large they get."""

from __future__ import annotations

import csv
import html
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.errors import OutputError
from batch.path_text import parse_path_text
from tests.support.trainer_data import CONFIG, SIDE, drawn_dataset, write_folders
from trainer.datasets.dataset import Dataset, Framing, Split
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.labelled_files import load_folders
from trainer.evaluation.calibration_error import MIN_CALIBRATION_SAMPLES
from trainer.page.make import PAGE_FILE, PROBLEMS_FILE, make_training_page
from trainer.training.config import Config
from trainer.training.cross_validation import cross_validate
from trainer.training.epoch_metrics import HISTORY_FILE
from trainer.training.loop import train

FAST = replace(CONFIG, epochs=2)
HOSTILE_LABEL = "<script>alert('label')<&"
HOSTILE_NAMES = (
    "<img src=x onerror=alert(1)>.png",
    '"></figure><script>alert(2)</script>.png'.replace("/", "\u2215"),
    "{{ 7 * 7 }}{% raw %}.png",
    "=HYPERLINK(1).png",
    "line\nbreak\u202e.png",
    os.fsdecode(b"not-utf8-\xff.png"),
)


def save_face(path: Path, mood: Mood, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(draw_snapshot(mood, 32, 3, seed)).save(path, "PNG")


def train_and_make(data: Dataset, run: Path, config: Config = FAST) -> str:
    train(data, config, run)
    return make_training_page(run, data, config).read_text(encoding="utf-8")


def read_problems(run: Path) -> list[dict[str, str]]:
    with (run / PROBLEMS_FILE).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_text(page: str) -> str:
    """Return the words of a page, without its markup."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset, str]:
    """A run on folders with a known fault of each kind, its data and its page."""
    root = write_folders(tmp_path_factory.mktemp("spoilt") / "photos", 60)
    for n in range(6):  # sad faces in the folder of happy ones
        save_face(root / "happy" / f"wrong{n}.png", Mood.SAD, 500 + n)
    for folder in ("happy", "sad"):  # the same bytes in two classes
        save_face(root / folder / "both.png", Mood.SAD, 600)
    original = Image.open(root / "sad" / "007.png")  # nearly the same in two classes
    original.resize((40, 40)).resize((32, 32)).save(root / "happy" / "near.png")
    (root / "sad" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for n in range(8):
        save_face(root / "rare" / f"{n}.png", Mood.HAPPY, 700 + n)
    data = load_folders(root, Framing(side=SIDE))
    run = root.parent / "run"
    return run, data, train_and_make(data, run)


def test_every_planted_problem_is_listed(spoilt: tuple[Path, Dataset, str]) -> None:
    run, data, page = spoilt
    rows = read_problems(run)
    of_kind = {
        kind: {row["path"]: row for row in rows if row["problem"] == kind}
        for kind in ("wrong-label", "two-labels", "skipped")
    }
    wrong = of_kind["wrong-label"]
    planted = [wrong[f"happy/wrong{n}.png"] for n in range(6) if f"happy/wrong{n}.png" in wrong]
    assert len(planted) >= 5
    assert {(row["label"], row["suggested"]) for row in planted} == {("happy", "sad")}
    assert {"happy/both.png", "sad/both.png"} <= set(of_kind["two-labels"])
    assert {"happy/near.png", "sad/007.png"} & set(of_kind["two-labels"])
    assert "sad/torn.png" in of_kind["skipped"]
    text = read_text(page)
    assert f"Labels to check: {len(wrong)}" in text
    assert f"Copies with two labels: {len(of_kind['two-labels'])}" in text
    assert f"Skipped files: {len(data.skipped)}" in text
    rare = int((data.train.targets == data.labels.index("rare")).sum())
    assert f"these have a fifth or less: rare {rare} ." in text
    assert "Classes with few held-out samples: 3" in text


def test_figures_are_those_of_the_run(spoilt: tuple[Path, Dataset, str]) -> None:
    _, data, page = spoilt
    text = read_text(page)
    for n, label in enumerate(data.labels):
        counts = [
            int((part.targets == n).sum()) for part in (data.train, data.validation, data.test)
        ]
        assert f"{label} {' '.join(map(str, counts))}" in text
    assert f"Epochs {FAST.epochs} of {FAST.epochs}" in text
    assert f"{len(data.test)} test samples" in text
    assert "widths [4, 8] [32, 64, 128, 192]" in text
    assert "augmentation.min_side 12 16" in text
    # Right answers of a class, the sum of which is the accuracy.
    shares = re.findall(r"(\d+) of (\d+) (?:\* )?(?:[\d.]+ %|\u2013)", text)
    right, total = (sum(int(pair[n]) for pair in shares) for n in (0, 1))
    assert total == len(data.test)
    assert f"{100 * right / total:.1f} % right" in text


def test_a_picture_is_what_the_network_saw(spoilt: tuple[Path, Dataset, str]) -> None:
    from base64 import b64decode
    from io import BytesIO

    _, data, page = spoilt
    pictures = re.findall(
        r'src="data:image/webp;base64,([^"]+)"[^>]*>\s*.*\n.*\n.*<bdi>([^<]+)', page
    )
    assert pictures
    everything = [data.train, data.validation, data.test]
    seen = {
        name: one for part in everything for name, one in zip(part.names, part.pixels, strict=True)
    }
    for encoded, name in pictures:
        with Image.open(BytesIO(b64decode(encoded))) as image:
            shown = np.asarray(image.convert("L"), np.float64)
        assert np.abs(shown - seen[name][:, :, 0]).mean() < 10  # lossy


def test_hostile_names_and_labels_are_escaped(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "photos", 20)
    for n, name in enumerate(HOSTILE_NAMES):
        save_face(root / HOSTILE_LABEL / name, Mood.SAD, 800 + n)
        (root / HOSTILE_LABEL / f"torn{name}").write_bytes(b"\x89PNG\r\n\x1a\n")
        save_face(root / "happy" / name, Mood.SAD, 900 + n)
    data = load_folders(root, Framing(side=SIDE))
    run = tmp_path / "<b>run"
    train_and_make(data, run)
    page = make_training_page(run, data, FAST).read_text(encoding="utf-8")
    assert "<script" not in page
    for raw in ("<script", "<img src=x", "<b>", "onerror=alert(1)>", "\u202e", "\udcff", "49"):
        assert raw not in re.sub(
            r'<(svg|style).*?</\1>|data:[^"]*|[\d,.]*49[\d,.]*', "", page, flags=re.S
        )
    assert html.escape(HOSTILE_LABEL, quote=True) in page.replace("&#39;", "&#x27;")
    named = {row["path"] for row in read_problems(run)}
    for name in HOSTILE_NAMES:
        path = f"{HOSTILE_LABEL}/torn{name}"
        assert any(os.fspath(parse_path_text(text)) == path for text in named)
    for row in read_problems(run):
        assert not row["path"].startswith("=")


def test_the_page_is_bounded(tmp_path: Path) -> None:
    """Many classes, samples, epochs, problems, and long names."""
    classes, count = 150, 900
    chance = np.random.default_rng(1)
    names = np.array([f"{'long name ' * 20}{n}.jpg" for n in range(count)], np.object_)
    votes = np.eye(classes, dtype=np.float32)[np.arange(count) % classes]
    pixels = chance.integers(0, 256, (count, 128, 128, 3), np.uint8)
    # Each is a copy of another with another label.
    pixels[1::2] = pixels[::2]
    part = Split(pixels, votes, np.ones(count, np.bool_), names=names)
    held = Split(pixels[::5], votes[::5], part.certain[::5], names=names[::5])
    labels = tuple(f"label {n:03} {'x' * 60}" for n in range(classes))
    skipped = tuple((f"{name}.txt", f"reason {n}") for n, name in enumerate(names))
    data = Dataset("large", labels, Framing(side=128, channels=3), part, held, held, skipped)
    config = replace(FAST, epochs=1, widths=(1,), batch_size=1024)
    train(data, config, tmp_path)
    columns = ["epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]
    columns += [f"recall_{label}" for label in labels]
    with (tmp_path / HISTORY_FILE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for epoch in range(1, 2001):
            writer.writerow([epoch, *np.round(chance.random(len(columns) - 1), 6)])
    page = make_training_page(tmp_path, data, config)
    assert page.stat().st_size < 1_200_000
    text = read_text(page.read_text(encoding="utf-8"))
    assert "And 50 more classes" in text
    assert "a matrix of 150 classes would be too large" in text
    assert re.search(r"24 of [\d,]+ wrong answers to 360 held-out samples", text)
    assert "and 880 more reasons" in text
    assert len(read_problems(tmp_path)) >= 2 * count


def test_the_recall_of_each_class_is_drawn(tmp_path: Path) -> None:
    data = drawn_dataset()
    page = train_and_make(data, tmp_path)
    assert "Recall of each class, validation" in page
    assert all(f"> {label}</text>" in page for label in data.labels)


def test_a_training_on_all_samples_has_the_figures_of_its_cross_validation(tmp_path: Path) -> None:
    data, config = drawn_dataset(), replace(FAST, learn_from="all")
    page = train_and_make(data, tmp_path, config)
    assert "run `trainer crossvalidate" in html.unescape(page)
    assert "Worst mistakes" not in page
    assert "The validation samples were trained on too" in page
    # Without the cross-validation only the probe can judge labels.
    assert "judged by a linear classifier" in page
    answers = cross_validate(data, config, tmp_path, 3, 1)
    text = read_text(make_training_page(tmp_path, data, config).read_text(encoding="utf-8"))
    pool = data.get_split("all")
    certain = int(pool.certain.sum())
    assert f"{certain} samples, cross-validated" in text
    assert "% calibration error, " in text
    right = int(((answers.logits.argmax(1) == answers.targets) & pool.certain).sum())
    assert f"{100 * right / certain:.1f} % right" in text
    assert "of which was not trained on the samples it judges" in text or "too seldom" in text


def test_without_test_samples_the_validation_samples_are_measured_uncalibrated(
    tmp_path: Path,
) -> None:
    data = drawn_dataset()
    data = replace(data, test=replace(data.test, certain=np.zeros(len(data.test), np.bool_)))
    text = read_text(train_and_make(data, tmp_path))
    assert f"{int(data.validation.certain.sum())} validation samples" in text
    assert "There is no test sample" in text
    assert "The logits are not calibrated" in text
    assert len(data.validation) < MIN_CALIBRATION_SAMPLES
    assert "calibration error" not in text, "so few samples can't measure it"


def test_files_of_the_user_are_not_replaced(tmp_path: Path) -> None:
    data = drawn_dataset()
    train(data, FAST, tmp_path)
    for name in (PAGE_FILE, PROBLEMS_FILE):
        (tmp_path / name).write_text("mine")
        with pytest.raises(OutputError, match=f"{name} was not written by .*; move it away"):
            make_training_page(tmp_path, data, FAST)
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    assert not list(tmp_path.glob("*.html"))
    make_training_page(tmp_path, data, FAST)
    make_training_page(tmp_path, data, FAST)


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    data = drawn_dataset()
    page = train_and_make(data, tmp_path)
    listed = (tmp_path / PROBLEMS_FILE).read_bytes()
    assert make_training_page(tmp_path, data, FAST).read_text(encoding="utf-8") == page
    assert (tmp_path / PROBLEMS_FILE).read_bytes() == listed


def test_the_reason_of_the_choice_is_shown(tmp_path: Path) -> None:
    data = drawn_dataset()
    train(data, FAST, tmp_path)
    page = make_training_page(tmp_path, data, FAST, "3m5s", "there are few photos")
    text = read_text(page.read_text(encoding="utf-8"))
    assert "widths [4, 8] [32, 64, 128, 192]" in text
    assert "Why there are few photos" in text
    assert "Time 3m5s" in text
