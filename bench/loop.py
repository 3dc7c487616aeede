"""What a turn of the loop gains: label, review the least certain, learn, label other photos.

    python -m bench.loop PEOPLE [--seeds 1 2 3 4 5] [--reviewed 40] [--ferplus FERPLUS]

PEOPLE has a sub-folder of photos for each of two labels. A whole-photo model is trained on some of
them, labels others, its night, learns what these folders say of the least certain, and is judged
by the rest, from which near duplicates are kept apart. At first nights and data are alike: photos
are dealt out to five parts, two for the data, two for the night and one to judge by, each in turn.
Then they differ: the data are all photos with a face and the night, and what is judged by, halves
of those without; and the other way round. With FER+ the shipped face model learns from the faces
in PEOPLE, without its data, and shows on FER+'s test part what it forgets. All that is reviewed
is learnt from. Intervals are 95 % bootstrap intervals over photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bench.forgetting import face_tables
from bench.nights import LabelledPhotos, LoopSplit, split_alike, split_by_face
from bench.right_answers import FIRST, RightAnswers, find_least_certain
from bench.tables import Table
from trainer.evaluation.calibration import softmax
from trainer.exporting.adjust import DECAY, refit_head
from trainer.exporting.linear_head import LinearHead
from trainer.networks import PhotoNet

WEIGHTS = (1, 2, 3)
DECAYS = (0.1, DECAY, 1.0)


def photo_table(
    title: str, photos: LabelledPhotos, nights: Iterator[LoopSplit], count: int
) -> Table:
    """Let first models learn from their nights, with their data and without."""
    turns = RightAnswers(photos.targets)
    for n, night in enumerate(nights):
        for way, network, head in fit_ways(photos, night, count, np.random.default_rng(n)):
            turns.note(way, night.judged, head.logits(photos.seen(network, night.judged)))
    return turns.table(title)


def fit_ways(
    photos: LabelledPhotos, turn: LoopSplit, count: int, rng: np.random.Generator
) -> Iterator[tuple[str, PhotoNet, LinearHead]]:
    """Fit networks to the photos of one turn."""
    data, night = turn.data, turn.night
    first, head = photos.fit_network(data)
    yield FIRST, first, head
    own = head.logits(photos.seen(first, night))
    picked = find_least_certain(own, count)
    learnt = {
        **{
            f"the data and {count} reviewed, weight {n}": [data, *[night[picked]] * n]
            for n in WEIGHTS
        },
        f"the data and {count} at random": [data, rng.choice(night, count, replace=False)],
        "the data and the whole night": [data, night],
        f"{count} reviewed alone": [night[picked]],
    }
    for way, learn in learnt.items():
        yield way, *photos.fit_network(np.concatenate(learn))
    votes = softmax(own, 1.0)
    votes[picked] = photos.votes[night][picked]
    seen = np.concatenate([photos.seen(first, night, mirrored) for mirrored in (False, True)])
    for decay in DECAYS:
        moved_head = refit_head(head, seen, np.concatenate([votes, votes]), decay)
        yield f"{count} reviewed and own answers, decay {decay:g}", first, moved_head


def measure_tables(people: Path, seeds: Sequence[int], count: int) -> Iterator[Table]:
    """Measure nights that are as the data, and nights that are not."""
    photos = LabelledPhotos(people)
    yield photo_table("Nights as the data", photos, split_alike(photos, seeds), count)
    for title, faces_first in (
        ("Photos without a face after photos with one", True),
        ("Photos with a face after photos without", False),
    ):
        yield photo_table(title, photos, split_by_face(photos, seeds, faces_first), count)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a turn of the loop gains.")
    parser.add_argument("people", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--reviewed", type=int, default=40)
    parser.add_argument("--ferplus", type=Path)
    asked = parser.parse_args()
    for table in measure_tables(asked.people, asked.seeds, asked.reviewed):
        print(table.markdown(), flush=True)
    if asked.ferplus:
        for table in face_tables(asked.people, asked.ferplus, asked.seeds, asked.reviewed, DECAYS):
            print(table.markdown())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
