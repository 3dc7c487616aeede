"""Data sources: detects the layout of data, and chooses default data if none are given."""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from batch.errors import InputError, UsageError
from batch.path_text import cell_text, escape_formula, printable_text
from batch.reading.reviews import is_review
from batch.records import Abstain, Region
from trainer.datasets.dataset import Dataset, Framing
from trainer.datasets.drawn_faces import STARTER_NAME, load_starter
from trainer.datasets.ferplus import (
    FERPLUS_FRAMING,
    is_fer2013,
    is_ferplus,
    load_fer2013,
    load_ferplus,
)
from trainer.datasets.ferplus_download import FERPLUS_FOLDER, DownloadError, obtain_ferplus
from trainer.datasets.labelled_files import (
    AbstainNames,
    is_label_table,
    list_folder_files,
    list_table_files,
    load_folders,
    load_label_table,
)
from trainer.datasets.pseudo_labels import add_pseudo_labels
from trainer.datasets.review import Review
from trainer.datasets.reviewed_samples import add_review
from trainer.datasets.samples import (
    TEST,
    TRAIN,
    VALIDATION,
    LabelledFile,
    format_file_cell,
    generalise_reason,
)

SOURCE_FILE = "source.txt"
SKIPPED_FILE = "left-out.csv"
NO_DATA_REMEDY = "give --data PATH, or download FER+ with `trainer data`"
# Reasons for skipped files that are logged, the most frequent ones.
MAX_REASONS = 5

logger = logging.getLogger(__name__)


def load_dataset(
    source: Path,
    framing: Framing | None,
    beside: Path | None = None,
    review: Review | None = None,
    abstain: AbstainNames | None = None,
    cache: Path | None = None,
) -> Dataset:
    """Read FER+ (pictures or tables), a table of photos, folders of photos, or the starter set.

    Skipped files and the data's warning are logged.

    Args:
        source: the path, or ``drawn`` for the starter set, if there is no file of that name.
        framing: how photos are turned into samples; None for the data's default.
        beside: a report whose confident labels are added, see ``add_pseudo_labels``.
        review: reviews whose samples are added, see ``add_review``.
        abstain: map from a name in folders or tables to its abstain class.
        cache: folder of the cache of crops, see ``CropCache``; None for none.

    Raises:
        InputError: the source does not exist, or is not one of these layouts.
        UsageError: FER+ does not have samples of that framing, the source is a review, or reviews
            are added to the starter set.
    """
    data = _load_by_layout(source, framing, abstain, cache)
    if data.skipped:
        logger.info("%s: %s skipped", data.name, f"{len(data.skipped):,}")
        reasons = Counter(generalise_reason(reason) for _, reason in data.skipped)
        # Reversed, so that the first file of each reason stays.
        firsts = {generalise_reason(reason): name for name, reason in reversed(data.skipped)}
        for reason, count in reasons.most_common(MAX_REASONS):
            example = f" ({printable_text(firsts[reason])}{', ...' if count > 1 else ''})"
            logger.info("  %s: %s%s", f"{count:,}", reason, example if firsts[reason] else "")
    if data.framing.region is Region.FACE and Abstain.NO_PERSON in data.labels:
        logger.warning(
            "WARNING: samples are faces, so %s pictures without a face are skipped; give --region "
            "image for a model of whole photos",
            Abstain.NO_PERSON,
        )
    unlearnt = _list_missing(data, TRAIN)
    if unlearnt and len(data.train):
        logger.warning(
            "WARNING: no photo of %s in %s is for training, so a model can't learn it: all are "
            "held out; add photos of it",
            ", ".join(unlearnt),
            data.name,
        )
    for split in (VALIDATION, TEST):
        missing = _list_missing(data, split)
        if missing:
            logger.warning(
                "WARNING: the %s split of %s has no sample of %s; add photos of it",
                split,
                data.name,
                ", ".join(missing),
            )
    if data.warning:
        logger.warning("WARNING: %s", data.warning)
    if review:
        data = add_review(data, review)
    return add_pseudo_labels(data, beside, cache) if beside else data


def has_published_recipe(source: Path) -> bool:
    """Tell whether data are FER+ or the starter set, whose framing and settings are fixed."""
    if not source.exists():
        return source == Path(STARTER_NAME)
    return is_ferplus(source) or is_fer2013(source)


def list_photo_files(
    source: Path, abstain: AbstainNames | None = None
) -> tuple[tuple[str, ...], list[LabelledFile]]:
    """List the classes and the photos of a table or of folders without reading them.

    Raises:
        InputError: the source does not exist, or is neither of the two.
    """
    if not source.exists():
        raise InputError(f"{source} does not exist", NO_DATA_REMEDY)
    if is_label_table(source):
        return list_table_files(source, abstain)[:2]
    return list_folder_files(source, abstain)


def choose_source(
    given: Path | None,
    run: Path,
    home: Path = FERPLUS_FOLDER,
    download: Callable[[Path], None] = obtain_ferplus,
) -> Path:
    """Choose the data of a run.

    In this order: the given data; the data recorded in the run's folder; FER+ at ``home``, which is
    downloaded if it is missing; the starter set, if the download fails.

    Args:
        given: path of the data, None if the user gave none.
        run: the run's folder.
        home: the folder of FER+.
        download: function that downloads FER+ to a folder.
    """
    recorded = run / SOURCE_FILE
    if given is not None:
        return given
    if recorded.is_file():
        return Path(recorded.read_text(encoding="utf-8").rstrip("\n"))
    if home.exists():
        return home
    try:
        download(home)
    except DownloadError as error:
        logger.warning("%s", error)
        logger.warning("WARNING: FER+ is not available, so the drawn starter set is used")
        return Path(STARTER_NAME)
    return home


def record_source(run: Path, source: Path, data: Dataset) -> None:
    """Record a run's data in its folder, and the skipped files in ``left-out.csv``.

    No cell of the list runs as a formula; ``parse_path_text`` parses its names.
    """
    run.mkdir(parents=True, exist_ok=True)
    resolved = source.resolve() if source.exists() else source
    (run / SOURCE_FILE).write_text(f"{resolved}\n", encoding="utf-8")
    listed = run / SKIPPED_FILE
    with listed.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("name", "reason"))
        for name, reason in data.skipped:
            rows.writerow((format_file_cell(name), escape_formula(cell_text(reason))))
    if data.skipped:
        logger.info("%s lists the skipped files with the reasons", listed)


def make_framing(
    region: str | None, side: int | None, rgb: bool, margin: float | None
) -> Framing | None:
    """Build a framing from options and defaults; None if no option is given."""
    if region is None and side is None and margin is None and not rgb:
        return None
    default = Framing() if region is None else Framing(Region(region))
    return override_framing(default, side, rgb, margin)


def override_framing(
    default: Framing, side: int | None, rgb: bool, margin: float | None
) -> Framing:
    """Override a framing by those options that are given."""
    return replace(
        default,
        margin=default.margin if margin is None else margin,
        side=side or default.side,
        channels=3 if rgb else default.channels,
    )


def _list_missing(data: Dataset, split: str) -> list[str]:
    """List the classes without a sample in a split."""
    present = np.bincount(getattr(data, split).targets, minlength=len(data.labels))
    return [label for label, n in zip(data.labels, present.tolist(), strict=True) if not n]


def _load_by_layout(
    source: Path, framing: Framing | None, abstain: AbstainNames | None, cache: Path | None
) -> Dataset:
    if not source.exists():
        if source == Path(STARTER_NAME):
            return load_starter(framing or Framing())
        raise InputError(f"{source} does not exist", NO_DATA_REMEDY)
    for is_layout, load in ((is_ferplus, load_ferplus), (is_fer2013, load_fer2013)):
        if is_layout(source):
            if framing not in (None, FERPLUS_FRAMING):
                raise UsageError(
                    f"{source} is FER+, whose samples are grey faces {FERPLUS_FRAMING.side} pixels "
                    "wide",
                    "omit --region, --side, --rgb and --margin, or give folders of photos",
                )
            return load(source)
    if is_review(source):
        raise UsageError(
            f"{source} is a review, which has only the least certain photos",
            "give it as --review beside --data, or use `trainer adjust`, which needs no data",
        )
    if is_label_table(source):
        return load_label_table(source, framing or Framing(), abstain, cache)
    return load_folders(source, framing or Framing(), abstain, cache)
