from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.errors import InputError
from batch.path_text import path_text
from batch.records import Region
from tests.support.review_data import is_held
from tests.support.trainer_data import CONFIG, write_folders
from trainer.datasets.dataset import Dataset, Framing
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.labelled_files import load_folders
from trainer.datasets.pseudo_labels import add_pseudo_labels
from trainer.training.cross_validation import cross_validate

WHOLE = Framing(Region.IMAGE, 0.0, 32, 3)


def write_report(folder: Path, rows: list[tuple[Path, str, str]]) -> Path:
    report = folder / "report.csv"
    with report.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "status", "label", "confidence"])
        writer.writerows((path_text(path), status, label, "0.9") for path, status, label in rows)
    return report


def draw_snapshots(
    folder: Path, mood: Mood, count: int, first: int, held: bool = False
) -> list[Path]:
    """Draw photos that a review would use for training, or hold out."""
    paths: list[Path] = []
    for n in range(first, first + 100 * count):
        path = folder / f"{mood.value} {n}\n.png"
        Image.fromarray(draw_snapshot(mood, 40, 3, n)).save(path)
        if is_held(path) is held:
            paths.append(path)
        if len(paths) == count:
            break
    return paths


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return load_folders(write_folders(tmp_path_factory.mktemp("own"), 20), WHOLE)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    happy = draw_snapshots(tmp_path, Mood.HAPPY, 9, 5000)
    sad = draw_snapshots(tmp_path, Mood.SAD, 4, 6000)
    unsure = draw_snapshots(tmp_path, Mood.SAD, 3, 7000)
    return write_report(
        tmp_path,
        [(p, "ok", "happy") for p in happy]
        + [(p, "ok", "sad") for p in sad]
        + [(p, "unsure", "sad") for p in unsure]
        + [(tmp_path / "gone.png", "ok", "sad"), (tmp_path / "failed.png", "failed", "")],
    )


@pytest.fixture(autouse=True)
def many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainer.datasets.pseudo_labels.MAX_PSEUDO_SHARE", 1.0)


def test_pseudo_labels_are_a_small_share_of_the_data(
    data: Dataset, report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.datasets.pseudo_labels.MAX_PSEUDO_SHARE", 0.1)
    beside = add_pseudo_labels(data, report).pseudo_labelled
    assert beside is not None
    assert beside.votes.sum(axis=0).tolist() == [2.0, 2.0]


def test_each_label_gets_the_same_number_of_pseudo_labels(data: Dataset, report: Path) -> None:
    beside = add_pseudo_labels(data, report).pseudo_labelled
    assert beside is not None
    assert beside.votes.sum(axis=0).tolist() == [4.0, 4.0]
    assert beside.pixels.shape == (8, 32, 32, 3)


def test_photos_that_a_review_would_hold_out_get_no_pseudo_labels(
    data: Dataset, tmp_path: Path
) -> None:
    happy, sad = (draw_snapshots(tmp_path, mood, 3, 5000) for mood in Mood)
    more = draw_snapshots(tmp_path, Mood.HAPPY, 5, 6000, held=True)
    more += draw_snapshots(tmp_path, Mood.SAD, 5, 6000, held=True)
    rows = [(path, "ok", path.name.split()[0]) for path in (*happy, *sad, *more)]
    beside = add_pseudo_labels(data, write_report(tmp_path, rows)).pseudo_labelled
    assert beside is not None
    assert beside.votes.sum(axis=0).tolist() == [3.0, 3.0]


def test_the_answers_of_people_are_no_pseudo_labels(
    data: Dataset, report: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = report.read_text().splitlines()
    sources = ["source", *["face"] * 9, "review", *["both"] * 8]
    # The labels of four sad photos are a model's, and one of these is now a person's.
    text = "".join(f"{line},{one}\n" for line, one in zip(lines, sources, strict=True))
    report.write_text(text)
    with caplog.at_level(logging.INFO):
        beside = add_pseudo_labels(data, report).pseudo_labelled
    assert beside is not None
    assert beside.votes.sum(axis=0).tolist() == [3.0, 3.0]
    assert "1 rows with a person's answer skipped" in caplog.text


def test_pseudo_labels_are_part_of_the_fingerprint(data: Dataset, report: Path) -> None:
    more = add_pseudo_labels(data, report)
    assert more.fingerprint != data.fingerprint
    assert len(more.get_split("all")) == len(data.get_split("all"))


def test_a_photo_that_is_already_in_the_data_is_skipped(
    data: Dataset, report: Path, tmp_path: Path
) -> None:
    own = Image.fromarray(data.test.pixels[0]).resize((64, 64))
    own.save(tmp_path / "own.png")
    rows = [(tmp_path / "own.png", "ok", "sad")]
    rows += [(p, "ok", "happy") for p in draw_snapshots(tmp_path, Mood.HAPPY, 2, 8000)]
    with pytest.raises(InputError, match="not have a photo with status ok for each of happy, sad"):
        add_pseudo_labels(data, write_report(tmp_path, rows))


def test_pseudo_labels_are_in_every_fold_and_never_held_out(
    data: Dataset, report: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, epochs=1)
    plain = cross_validate(data, config, tmp_path / "plain", folds=2, seed=1)
    more = cross_validate(
        add_pseudo_labels(data, report), config, tmp_path / "more", folds=2, seed=1
    )
    assert more.names == plain.names
    assert not np.array_equal(more.logits, plain.logits)


def test_a_file_that_is_not_a_report_is_named(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.csv can't be read as a report"):
        add_pseudo_labels(data, tmp_path / "gone.csv")
    table = tmp_path / "table.csv"
    table.write_text("path,label\na.png,happy\n")
    with pytest.raises(InputError, match="not have the columns"):
        add_pseudo_labels(data, table)


def test_only_labels_need_pseudo_labels(data: Dataset, report: Path) -> None:
    abstaining = replace(data, labels=("happy", "sad", "neither"))
    wider = {
        name: replace(part, votes=np.hstack([part.votes, np.zeros((len(part), 1), np.float32)]))
        for name in ("train", "validation", "test")
        for part in [getattr(data, name)]
    }
    found = add_pseudo_labels(replace(abstaining, **wider), report).pseudo_labelled
    assert found is not None
    assert np.bincount(found.targets, minlength=3).tolist() == [4, 4, 0]
