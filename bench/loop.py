"""Gain of one turn of the loop: label, review the least certain answers, retrain, label again.

    python -m bench.loop PEOPLE [--seeds 1 2 3 4 5] [--reviewed 40] [--ferplus FERPLUS]

PEOPLE has a sub-folder of photos for each of two labels. The photos are split into three parts
that share no near duplicates. A whole-photo model is trained on the first part and labels the
second, the incoming photos. It learns the folder labels of its least certain answers there, and
is evaluated on the third part.

First all parts are alike: the photos are dealt into five folds, two to train on, two incoming and
one to evaluate on, each in turn. Then the parts differ: the model is trained on all photos with a
face, and halves of the photos without a face are the incoming ones and the evaluation; and the
other way round. With --ferplus, the shipped face model also learns from the faces in PEOPLE
without its training data, and FER+'s test part shows what it forgets. All reviewed photos are
used for training. Intervals are 95 % bootstrap intervals over photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from bench.loop_data import LabelledPhotos, LoopSplit, split_alike, split_by_face
from bench.tables import Table
from trainer.datasets.duplicates import compute_perceptual_hash, group_near_duplicates
from trainer.datasets.ferplus import load_ferplus
from trainer.datasets.labelled_files import load_folders
from trainer.evaluation.calibration import softmax
from trainer.evaluation.evaluate import match_to_model
from trainer.evaluation.exported_models import derive_framing, open_model
from trainer.evaluation.metrics import Estimate, Figures, Targets, estimate_from_means
from trainer.evaluation.out_of_fold import assign_folds
from trainer.evaluation.tables import format_difference, format_interval
from trainer.exporting.adjust import DECAY, refit_head
from trainer.exporting.linear_head import Floats, LinearHead, compute_features, find_head
from trainer.networks import PhotoNet

FACE_MODEL = "happy-sad"
WEIGHTS = (1, 2, 3)
DECAYS = (0.1, DECAY, 1.0)
FIRST = "nothing: the first model"


def main() -> int:
    """Measure and print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("people", type=Path, help="folder with a sub-folder of photos per label")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--reviewed", type=int, default=40, help="reviewed photos per turn")
    parser.add_argument("--ferplus", type=Path, help="FER+, to measure what the face model forgets")
    asked = parser.parse_args()
    for table in measure_tables(asked.people, asked.seeds, asked.reviewed):
        print(table.markdown(), flush=True)
    if asked.ferplus:
        for table in face_tables(asked.people, asked.ferplus, asked.seeds, asked.reviewed, DECAYS):
            print(table.markdown())
    return 0


def measure_tables(people: Path, seeds: Sequence[int], count: int) -> Iterator[Table]:
    """Measure the whole-photo model, on incoming photos like the training data and unlike it."""
    photos = LabelledPhotos(people)
    yield photo_table(
        "Incoming photos like the training data", photos, split_alike(photos, seeds), count
    )
    for title, faces_first in (
        ("Photos without a face after photos with one", True),
        ("Photos with a face after photos without", False),
    ):
        yield photo_table(title, photos, split_by_face(photos, seeds, faces_first), count)


def photo_table(
    title: str, photos: LabelledPhotos, splits: Iterator[LoopSplit], count: int
) -> Table:
    """Retrain the whole-photo model of each split in all ways, and tabulate the gains."""
    answers = RightAnswers(photos.targets)
    for n, split in enumerate(splits):
        for way, network, head in fit_ways(photos, split, count, np.random.default_rng(n)):
            features = photos.compute_features(network, split.evaluation)
            answers.add(way, split.evaluation, head.logits(features))
    return answers.table(title)


def fit_ways(
    photos: LabelledPhotos, split: LoopSplit, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, PhotoNet, LinearHead]]:
    """Fit the first model and every way of learning from the incoming photos.

    Args:
        photos: the photos.
        split: the split of the photos.
        count: the number of reviewed photos.
        rng: chooses the photos that are reviewed at random.

    Yields:
        The name of the way of learning, the network, and its classifier.
    """
    first, head = photos.fit_network(split.train)
    yield FIRST, first, head
    incoming = split.incoming
    own = head.logits(photos.compute_features(first, incoming))
    picked = find_least_certain(own, count)
    learnt = {
        **{
            f"the data and {count} reviewed, weight {n}": [split.train, *[incoming[picked]] * n]
            for n in WEIGHTS
        },
        f"the data and {count} at random": [
            split.train,
            rng.choice(incoming, count, replace=False),
        ],
        "the data and all incoming photos": [split.train, incoming],
        f"{count} reviewed alone": [incoming[picked]],
    }
    for way, learn in learnt.items():
        yield way, *photos.fit_network(np.concatenate(learn))
    votes = softmax(own, 1.0)
    votes[picked] = photos.votes[incoming][picked]
    features = np.concatenate(
        [photos.compute_features(first, incoming, mirrored) for mirrored in (False, True)]
    )
    for decay in DECAYS:
        refitted = refit_head(head, features, np.concatenate([votes, votes]), decay)
        yield f"{count} reviewed and own answers, decay {decay:g}", first, refitted


def face_tables(
    people: Path, ferplus: Path, seeds: Sequence[int], count: int, decays: Sequence[float]
) -> list[Table]:
    """Refit the shipped face model on one half of the faces.

    Returns:
        A table of the gain on the other half, and a table of the loss on FER+'s test part.
    """
    model = open_model(FACE_MODEL)
    graph = onnx.load_from_string(model.graph)
    head = find_head(graph, model.path)
    own, old = load_folders(people, derive_framing(model)).get_split("all"), load_ferplus(ferplus)
    known = match_to_model(old.test, old.labels, model)
    features, mirrored, known_features = (
        compute_features(model, graph, head, pixels)
        for pixels in (own.pixels, own.pixels[:, :, ::-1], known.pixels)
    )
    groups = group_near_duplicates(compute_perceptual_hash(own.pixels))
    gained, kept = RightAnswers(own.targets), RightAnswers(known.targets)
    for seed in seeds:
        folds = assign_folds(groups, own.targets, 2, seed)
        for half in range(2):
            incoming, evaluation = np.flatnonzero(folds == half), np.flatnonzero(folds != half)
            answers = head.logits(features[incoming])
            votes, picked = softmax(answers, 1.0), find_least_certain(answers, count)
            votes[picked] = own.votes[incoming][picked]
            both = np.concatenate([features[incoming], mirrored[incoming]])
            heads = {FIRST: head}
            for decay in decays:
                way = f"{count} reviewed and own answers, decay {decay:g}"
                heads[way] = refit_head(head, both, np.concatenate([votes, votes]), decay)
            for way, refitted in heads.items():
                gained.add(way, evaluation, refitted.logits(features[evaluation]))
                kept.add(way, np.arange(len(known)), refitted.logits(known_features))
    return [gained.table("Faces of web photos"), kept.table("Faces of FER+'s test part")]


def find_least_certain(logits: Floats, count: int) -> Targets:
    """Return the indices of the photos that are reviewed first, from logits float32 [n, 2]."""
    order: Targets = np.argsort(np.abs(logits[:, 0] - logits[:, 1]), kind="stable")[:count]
    return order


class RightAnswers:
    """Right answers of each way of learning: a row per turn, a column per photo.

    A photo that is not in the evaluation part of a turn is NaN in its row.
    """

    def __init__(self, targets: Targets) -> None:
        self._right: dict[str, list[Figures]] = {}
        self._targets = targets

    def add(self, way: str, evaluation: Targets, logits: Floats) -> None:
        """Add the answers of a turn, float32 [n, K], to the photos at the indices [n]."""
        row = np.full(len(self._targets), np.nan)
        row[evaluation] = logits.argmax(axis=1) == self._targets[evaluation]
        self._right.setdefault(way, []).append(row)

    def table(self, title: str) -> Table:
        """Tabulate accuracy and gain of each way, from the mean of each photo over its turns."""
        evaluated = ~np.isnan(self._right[FIRST]).all(axis=0)
        means = {
            way: np.nanmean(np.stack(rows)[:, evaluated], axis=0)
            for way, rows in self._right.items()
        }
        rows = []
        for way, right in means.items():
            gain = format_difference(_estimate(right - means[FIRST])) if way != FIRST else ""
            rows.append((way, format_interval(_estimate(right)), gain))
        columns = ("Learnt from", "Right", "Gain")
        return Table(f"{title}, {evaluated.sum():,} to judge by", columns, rows)


def _estimate(values: Figures) -> Estimate:
    return estimate_from_means(lambda means: means[..., 0], values[:, None])


if __name__ == "__main__":
    raise SystemExit(main())
