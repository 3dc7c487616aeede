"""Data sets of drawn faces and tiny networks trained on them, cached for all tests."""

from __future__ import annotations

import csv
import os
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from PIL import Image

from trainer.datasets.dataset import Dataset, Framing, Split
from trainer.datasets.drawn_faces import Mood, draw_face, draw_snapshot
from trainer.datasets.ferplus import PIXEL_FILE, USAGES, VOTE_COLUMNS, VOTE_FILE, read_ferplus
from trainer.exporting.export import ExportedModel, ExportOptions, export_model
from trainer.training.checkpoint import TrainedNetwork, load_trained_network
from trainer.training.config import Augmentation, Config
from trainer.training.loop import train

SIDE = 24
FRAMING = Framing(side=SIDE)
CONFIG = Config(
    widths=(4, 8),
    dropout=0.1,
    epochs=4,
    batch_size=32,
    learning_rate=1e-2,
    threads=1,
    augmentation=Augmentation(min_side=12),
)
LABELS = ("happiness", "sadness", "neutral")
REPOSITORY = Path(__file__).parent.parent.parent


def make_drawn_split(count: int, first_seed: int) -> Split:
    """Make equal shares of happy, sad and neutral (upside-down happy); every tenth uncertain."""
    faces = []
    for n in range(count):
        mood = Mood.SAD if n % 3 == 1 else Mood.HAPPY
        face = draw_face(mood, SIDE, 1, first_seed + n)
        faces.append(face[::-1] if n % 3 == 2 else face)
    return Split(
        pixels=np.stack(faces),
        votes=np.eye(3, dtype=np.float32)[[n % 3 for n in range(count)]],
        certain=np.arange(count) % 10 != 9,
    )


@cache
def drawn_dataset() -> Dataset:
    return Dataset(
        name="drawn",
        labels=LABELS,
        framing=FRAMING,
        train=make_drawn_split(180, 0),
        validation=make_drawn_split(66, 1000),
        test=make_drawn_split(60, 2000),
        credit="Drawn for the tests.",
    )


@cache
def tiny_run() -> Path:
    run = Path(mkdtemp(prefix="tiny-run-"))
    train(drawn_dataset(), CONFIG, run)
    return run


@cache
def tiny_training() -> TrainedNetwork:
    return load_trained_network(tiny_run())


@cache
def tiny_export() -> ExportedModel:
    options = ExportOptions(
        name="tiny", created="2026-01-02", labels={"happy": "happiness", "sad": "sadness"}
    )
    return export_model(tiny_training(), drawn_dataset(), options)


# Long enough that the network is right on nearly all drawn faces, whatever the random numbers are.
WIDE_CONFIG = replace(CONFIG, epochs=30, learning_rate=2e-2, widths=(8, 16))
WIDE_LABELS = ("happiness", "sadness", "neutral", "anger")


def make_wide_split(count: int, first_seed: int) -> Split:
    """Make happy and sad faces, and both upside down as labels of their own."""
    faces = []
    for n in range(count):
        face = draw_face(Mood.SAD if n % 2 else Mood.HAPPY, SIDE, 1, first_seed + n)
        faces.append(face[::-1] if n % 4 >= 2 else face)
    return Split(
        pixels=np.stack(faces),
        votes=np.eye(4, dtype=np.float32)[np.arange(count) % 4],
        certain=np.arange(count) % 10 != 9,
        kinds=np.array(["drawn", "drawn", "turned", "turned"])[np.arange(count) % 4],
    )


@cache
def wide_dataset() -> Dataset:
    return replace(
        drawn_dataset(),
        labels=WIDE_LABELS,
        train=make_wide_split(200, 0),
        validation=make_wide_split(80, 1000),
        test=make_wide_split(80, 2000),
    )


@cache
def wide_training() -> TrainedNetwork:
    run = Path(mkdtemp(prefix="wide-run-"))
    train(wide_dataset(), WIDE_CONFIG, run)
    return load_trained_network(run)


@cache
def abstaining_training() -> tuple[TrainedNetwork, Dataset]:
    """The wide training with the upside-down faces as abstain outputs."""
    labels = ("happiness", "sadness", "neither", "no_person")
    data = replace(wide_dataset(), labels=labels)
    return replace(wide_training(), labels=labels, fingerprint=data.fingerprint), data


def write_ferplus(root: Path, votes: dict[str, list[list[int]]]) -> Path:
    """Write different drawn faces in the layout of FER+, one per row of ten votes."""
    for part, (folder, rows) in enumerate(votes.items()):
        (root / folder).mkdir(parents=True)
        with (root / folder / "label.csv").open("w", newline="") as file:
            for n, row in enumerate(rows):
                name = f"fer{n:07}.png"
                csv.writer(file).writerow([name, "(0, 0, 48, 48)", *row])
                face = draw_snapshot(Mood.HAPPY, 48, 1, 1000 * part + n)[:, :, 0]
                Image.fromarray(face).save(root / folder / name)
    return root


# Votes for each of ``VOTE_COLUMNS`` of FER+.
HAPPY_VOTES = [0, 9, 1, 0, 0, 0, 0, 0, 0, 0]
UNCERTAIN_VOTES = [3, 3, 2, 2, 0, 0, 0, 0, 0, 0]
NOT_A_FACE_VOTES = [0, 2, 0, 0, 0, 0, 0, 0, 0, 8]
SINGLE_VOTES = [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
FERPLUS_ROWS = {
    "FER2013Train": [HAPPY_VOTES, UNCERTAIN_VOTES, NOT_A_FACE_VOTES, SINGLE_VOTES],
    "FER2013Valid": [HAPPY_VOTES],
    "FER2013Test": [UNCERTAIN_VOTES, HAPPY_VOTES],
}


def write_fer2013_tables(root: Path, pictures: Path) -> Path:
    """Write FER+ as its two tables, with a row that FERPlus removed after each split."""
    pixels = [["emotion", "pixels", "Usage"]]
    votes = [["Usage", "Image name", *VOTE_COLUMNS]]
    for split, faces in read_ferplus(pictures).items():
        for name, counts, face in zip(faces.names, faces.counts, faces.pixels, strict=True):
            pixels.append(["3", " ".join(map(str, face.ravel())), USAGES[split]])
            votes.append([USAGES[split], name, *map(str, counts)])
        pixels.append(["0", " ".join(["7"] * 48 * 48), USAGES[split]])
        votes.append([USAGES[split], "", *["0"] * 10])
    root.mkdir()
    for file_name, table in ((PIXEL_FILE, pixels), (VOTE_FILE, votes)):
        with (root / file_name).open("w", newline="") as file:
            csv.writer(file).writerows(table)
    return root


def write_folders(root: Path, count: int) -> Path:
    """Write small drawn faces into a folder per class."""
    for mood in Mood:
        (root / mood.value).mkdir(parents=True)
        for n in range(count):
            face = Image.fromarray(draw_snapshot(mood, 32, 3, n))
            face.save(root / mood.value / f"{n:03}.png")
    return root


def find_real_data(name: str) -> Path:
    """Return the path of a real data set; skip the test if it is missing."""
    home = Path(os.environ.get("BATCH_LABEL_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (home / name).exists():
        pytest.skip(f"real data {name} not found; set BATCH_LABEL_DATA to its folder")
    return home / name
