"""What reviewing teaches and finds, by the rule that chooses the reviewed photos.

    python -m bench.review_choice PEOPLE [--seeds 1 2 3 4 5] [--reviewed 40 100]

PEOPLE has a sub-folder of photos for each of two labels. As in ``bench.loop``, a whole-photo model
is trained on one part of the photos and labels the second, the incoming photos. Some of these are
chosen by each rule and added to the training data with the labels of their folders, and the model
is evaluated on the third part. The settings are those of ``bench.loop``, and two more: incoming
photos with a part of a new kind (no face), and incoming photos with three in ten
in series of four similar shots. With two labels, the margin orders photos as the confidence does.

Tables state the accuracy, its difference to that of random photos, and the share of wrong answers
among the reviewed photos; photos of one series count once. Intervals are 95 % bootstrap
intervals over the evaluated photos.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batch.page.review_sets import MAX_SERIES_DIFFERENCE
from bench.loop_data import (
    FURTHER_SHOTS,
    LabelledPhotos,
    LoopSplit,
    split_alike,
    split_by_face,
    split_series,
    split_with_new_kind,
)
from bench.tables import Table
from trainer.evaluation.metrics import Estimate, Figures, Targets, estimate_from_means
from trainer.evaluation.tables import format_difference, format_interval
from trainer.exporting.linear_head import Floats

RANDOM = "random"
FIRST = "none: the first model"
RANDOM_DRAWS = 5
# Candidates of a diverse choice, as a multiple of the number of chosen photos.
POOL_FACTOR = 3
SERIES_SHARE = 0.3

# Chooses the positions of photos among the incoming ones.
Rule = Callable[[], Targets]


def main() -> int:
    """Measure and print all tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("people", type=Path, help="folder with a sub-folder of photos per label")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--reviewed", type=int, nargs="+", default=[40, 100])
    asked = parser.parse_args()
    for table in measure_tables(asked.people, asked.seeds, asked.reviewed):
        print(table.markdown(), flush=True)
    return 0


def measure_tables(people: Path, seeds: Sequence[int], counts: Sequence[int]) -> Iterator[Table]:
    """Measure all rules in all settings."""
    photos = LabelledPhotos(people)
    settings: Mapping[str, Callable[[], Iterator[LoopSplit]]] = {
        "Incoming photos like the training data": lambda: split_alike(photos, seeds),
        "Photos without a face after photos with one": lambda: split_by_face(photos, seeds, True),
        "Photos with a face after photos without": lambda: split_by_face(photos, seeds, False),
        "A part of the incoming photos of a new kind": lambda: split_with_new_kind(photos, seeds),
    }
    for title, make_splits in settings.items():
        yield from _make_tables(title, photos, list(make_splits()), counts)
    photos = LabelledPhotos(people, SERIES_SHARE)
    title = f"{SERIES_SHARE:.0%} of the incoming photos in series of {1 + FURTHER_SHOTS}"
    yield from _make_tables(title, photos, list(split_series(photos, seeds)), counts)


def _make_tables(
    title: str, photos: LabelledPhotos, splits: Sequence[LoopSplit], counts: Sequence[int]
) -> Iterator[Table]:
    fewest = min(len(split.incoming) for split in splits)
    for count in (count for count in counts if 1.5 * count < fewest):
        yield _measure_rules(f"{title}, {count} reviewed", photos, splits, count)


def _measure_rules(
    title: str, photos: LabelledPhotos, splits: Sequence[LoopSplit], count: int
) -> Table:
    right: dict[str, list[Figures]] = {}
    wrong: dict[str, list[float]] = {}
    for n, split in enumerate(splits):
        first, head = photos.fit_network(split.train)
        logits = head.logits(photos.compute_features(first, split.incoming))
        series = photos.groups[split.incoming]
        is_wrong = logits.argmax(axis=1) != photos.targets[split.incoming]
        ways = make_rules(
            photos,
            split,
            logits,
            photos.compute_features(first, split.incoming),
            count,
            np.random.default_rng(n),
        )
        _add_right(
            right,
            FIRST,
            photos,
            split,
            head.logits(photos.compute_features(first, split.evaluation)),
        )
        for way, rule in ways.items():
            for _ in range(RANDOM_DRAWS if RANDOM in way else 1):
                picked = rule()
                assert len(np.unique(picked)) == count, way
                network, fitted = photos.fit_network(
                    np.concatenate([split.train, split.incoming[picked]])
                )
                features = photos.compute_features(network, split.evaluation)
                _add_right(right, way, photos, split, fitted.logits(features))
                wrong.setdefault(way, []).append(_share_found(is_wrong[picked], series[picked]))
    return _tabulate(title, right, wrong)


def make_rules(
    photos: LabelledPhotos,
    split: LoopSplit,
    logits: Floats,
    features: Floats,
    count: int,
    rng: np.random.Generator,
) -> dict[str, Rule]:
    """Make the rules that choose ``count`` of the incoming photos.

    Args:
        photos: the photos.
        split: their split.
        logits: the first model's, float32 [n, 2], of the incoming photos.
        features: those of the classifier, float32 [n, D].
        count: the number of photos to choose.
        rng: chooses at random.
    """
    doubt = np.argsort(np.abs(logits[:, 0] - logits[:, 1]), kind="stable")
    pool = doubt[: POOL_FACTOR * count]
    colours = photos.colours[split.incoming]
    is_new = photos.has_face[split.incoming] != photos.has_face[split.train].mean().round()
    rules: dict[str, Rule] = {
        RANDOM: lambda: rng.choice(len(logits), count, replace=False),
        "least certain": lambda: doubt[:count],
        "least certain, no near duplicates": lambda: choose_distinct(doubt, colours, count),
        "diverse (colours)": lambda: choose_spread(doubt, colours, count),
        f"diverse (colours) of the {POOL_FACTOR}-fold least certain": lambda: choose_spread(
            pool, colours, count
        ),
        f"diverse (features) of the {POOL_FACTOR}-fold least certain": lambda: choose_spread(
            pool, features, count
        ),
        "half least certain, half random": lambda: _fill(doubt[: count // 2], rng, logits, count),
        f"random of the {POOL_FACTOR}-fold least certain": lambda: rng.choice(
            pool, count, replace=False
        ),
    }
    if is_new.any() and not is_new.all():
        new_first = np.concatenate([doubt[is_new[doubt]], doubt[~is_new[doubt]]])
        of_new = doubt[is_new[doubt]][: count // 2]
        rules["new kind first, least certain"] = lambda: new_first[:count]
        rules["half new kind, half least certain"] = lambda: np.concatenate(
            [of_new, doubt[~np.isin(doubt, of_new)][: count - len(of_new)]]
        )
    return rules


def choose_spread(order: Targets, places: Floats, count: int) -> Targets:
    """Choose photos far from each other by the greedy k-centre rule (Gonzalez 1985).

    Args:
        order: candidates; the first one is chosen first.
        places: float32 [n, D], the descriptors of all photos.
        count: the number of photos to choose.
    """
    own = places[order].astype(np.float64)
    nearest = np.full(len(order), np.inf)
    chosen = [0]
    for _ in range(count - 1):
        nearest = np.minimum(nearest, ((own - own[chosen[-1]]) ** 2).sum(axis=1))
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    found: Targets = order[chosen]
    return found


def choose_distinct(order: Targets, places: Floats, count: int) -> Targets:
    """Choose the first photos that are not near duplicates of each other; then the skipped ones."""
    chosen: list[int] = []
    skipped: list[int] = []
    for one in order:
        distances = np.abs(places[chosen] - places[one]).mean(axis=1)
        (skipped if (distances < MAX_SERIES_DIFFERENCE).any() else chosen).append(int(one))
    return np.array([*chosen, *skipped][:count])


def _fill(picked: Targets, rng: np.random.Generator, logits: Floats, count: int) -> Targets:
    others = np.setdiff1d(np.arange(len(logits)), picked)
    return np.concatenate([picked, rng.choice(others, count - len(picked), replace=False)])


def _add_right(
    right: dict[str, list[Figures]],
    way: str,
    photos: LabelledPhotos,
    split: LoopSplit,
    logits: Floats,
) -> None:
    row = np.full(len(photos.targets), np.nan)
    row[split.evaluation] = logits.argmax(axis=1) == photos.targets[split.evaluation]
    right.setdefault(way, []).append(row)


def _share_found(is_wrong: npt.NDArray[np.bool_], series: Targets) -> float:
    """Return the share of photos with a wrong answer; those of a series count as one."""
    return len(np.unique(series[is_wrong])) / len(series)


def _tabulate(
    title: str, right: Mapping[str, list[Figures]], wrong: Mapping[str, list[float]]
) -> Table:
    evaluated = ~np.isnan(right[FIRST]).all(axis=0)
    means = {way: np.nanmean(np.stack(rows)[:, evaluated], axis=0) for way, rows in right.items()}
    rows = []
    for way, of_photos in means.items():
        beyond = ""
        if way not in (RANDOM, FIRST):
            beyond = format_difference(_estimate(of_photos - means[RANDOM]))
        found = f"{np.mean(wrong[way]):.1%}" if way in wrong else ""
        rows.append((way, format_interval(_estimate(of_photos)), beyond, found))
    columns = ("Reviewed", "Right", "Beyond random", "Wrong answers found")
    return Table(f"{title}, {evaluated.sum():,} to judge by", columns, rows)


def _estimate(values: Figures) -> Estimate:
    return estimate_from_means(lambda means: means[..., 0], values[:, None])


if __name__ == "__main__":
    raise SystemExit(main())
