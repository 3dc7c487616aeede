"""Photos that a model has labelled, not a person: learnt from beside the data, never judged by.

Lee 2013, "Pseudo-Label". A network that looks at whole photos learns from few; what it has
never seen, such as close portraits, it takes for what looks alike by chance. A face model's sure
answers show it such photos.
"""

from __future__ import annotations

import csv
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from batch.errors import InputError, UsageError
from batch.path_text import parse_path_text
from batch.records import Abstain, Region, Status
from trainer.datasets.dataset import (
    Dataset,
    Framing,
    Split,
    canonical_label,
    concatenate,
    select_samples,
)
from trainer.datasets.drawn_faces import STARTER_NAME as STARTER
from trainer.datasets.drawn_faces import load_starter
from trainer.datasets.duplicates import find_near_duplicates
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
from trainer.datasets.review import Review, is_review
from trainer.datasets.reviewed_samples import add_review
from trainer.datasets.samples import LabelledFile, build_split, read_samples

REPORT_COLUMNS = {"path", "status", "label"}
# Of the data's own number. Measured on 564 photos of people: 30 portraits beside them keep a
# whole-photo model from overruling sure faces in 865 others (1 of 422, without them 24 of 444) and
# cost nothing; 80 cost 0.8 points, 212 a point.
MAX_PSEUDO_SHARE = 0.05
REPORT_REMEDY = "give a CSV report that batch-label wrote, and start where it was written"

logger = logging.getLogger(__name__)


def add_pseudo_labels(data: Dataset, report: Path) -> Dataset:
    """Add photos of a report (CSV) whose answers are sure, as many of each label.

    At most ``MAX_PSEUDO_SHARE`` of the data's own number are taken; which depends on their bytes alone.
    Near duplicates of the data's own photos, and of reviewed ones, are passed over.

    Raises:
        InputError: it is no report, or one of the labels has no photo.
    """
    labels = {canonical_label(label): n for n, label in enumerate(data.labels)}
    files = [
        LabelledFile(path, str(path), labels[canonical_label(label)], "train")
        for path, label in _read_sure_labels(report)
        if canonical_label(label) in labels
    ]
    samples, _ = read_samples(files, data.framing)
    unique = {sample.digest: sample for sample in samples}
    ordered = [unique[digest] for digest in sorted(unique)]
    part = build_split(ordered, len(labels), data.framing)
    own = len(data.train) + len(data.validation) + len(data.test)
    count = len(data.labels) - len(data.abstain)
    part = _balance_labels(
        _drop_near_duplicates(part, data), count, most=max(1, int(own * MAX_PSEUDO_SHARE / count))
    )
    if not len(part):
        raise InputError(
            f"{report} has no sure photo for each of {', '.join(data.labels)}", REPORT_REMEDY
        )
    logger.info("%s: %s photos beside the data", report, f"{len(part):,}")
    return replace(data, pseudo_labelled=part)


def _read_sure_labels(report: Path) -> Iterator[tuple[Path, str]]:
    try:
        with report.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if REPORT_COLUMNS - set(rows.fieldnames or ()):
                raise InputError(f"{report} lacks the columns of a report", REPORT_REMEDY)
            for row in rows:
                if row["status"] == Status.OK:
                    yield Path(parse_path_text(row["path"])), row["label"]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{report} can't be read as a report ({error})", REPORT_REMEDY) from error


def _drop_near_duplicates(part: Split, data: Dataset) -> Split:
    others = (data.train, data.validation, data.test, data.reviewed, data.held)
    own = concatenate(tuple(part for part in others if part is not None))
    return select_samples(part, find_near_duplicates(part.pixels, own.pixels) < 0)


def _balance_labels(part: Split, labels: int, most: int) -> Split:
    """Keep as many samples of each label as the rarest has, the first of each, but not more."""
    classes = [np.flatnonzero(part.targets == n) for n in range(labels)]
    fewest = min(most, *map(len, classes))
    return select_samples(part, np.sort(np.concatenate([chosen[:fewest] for chosen in classes])))


# == Where labelled pictures come from: tells the layouts apart, and chooses where none is given.

SOURCE_FILE = "source.txt"
SKIPPED_FILE = "left-out.csv"
NO_DATA_REMEDY = "give --data PATH, or get FER+ with `trainer data`"

# Reasons for leaving files out that are logged, the most frequent ones.
MAX_REASONS = 5

logger = logging.getLogger(__name__)


def load_dataset(
    source: Path,
    framing: Framing | None,
    beside: Path | None = None,
    review: Review | None = None,
    abstain: AbstainNames | None = None,
) -> Dataset:
    """Read FER+ (pictures or tables), a table of photos, folders of them, or the starter set.

    The starter set goes by the name ``drawn`` where no file has it. ``framing`` says how
    samples are cut, None leaves it to the data. ``beside`` is a report, see there, and
    ``review`` what people said of one. ``abstain`` has names that photos in folders or tables use
    for the abstain classes, each with its class. How many files are left out is logged, and so is
    the data's warning.

    Raises:
        InputError: there is nothing, or it is none of these.
        UsageError: FER+ can't be had in that framing, or the starter set with a review.
    """
    data = _load_by_layout(source, framing, abstain)
    if data.skipped:
        logger.info("%s: %s left out", data.name, f"{len(data.skipped):,}")
        reasons = Counter(reason for _, reason in data.skipped)
        for reason, count in reasons.most_common(MAX_REASONS):
            logger.info("  %s: %s", f"{count:,}", reason)
    if data.framing.region is Region.FACE and Abstain.NO_PERSON in data.labels:
        logger.warning(
            "WARNING: samples are faces, so %s pictures without a face teach nothing; for a model "
            "of whole photos give --region image",
            Abstain.NO_PERSON,
        )
    if data.warning:
        logger.warning("WARNING: %s", data.warning)
    if review:
        data = add_review(data, review)
    return add_pseudo_labels(data, beside) if beside else data


def list_photo_files(source: Path, abstain: AbstainNames | None = None) -> list[LabelledFile]:
    """List the photos of a table or of folders without reading them.

    Raises:
        InputError: it is neither.
    """
    if is_label_table(source):
        return list_table_files(source, abstain)[1]
    return list_folder_files(source, abstain)[1]


def choose_source(
    given: Path | None,
    run: Path,
    home: Path = FERPLUS_FOLDER,
    bring: Callable[[Path], None] = obtain_ferplus,
) -> Path:
    """Choose what a run learns from: never nothing.

    It is what is given; else what the run has learnt from so far; else FER+ at ``home``,
    which ``bring`` downloads if it is not there; else, where it can't be had, the starter set.
    """
    recorded = run / SOURCE_FILE
    if given is not None:
        return given
    if recorded.is_file():
        return Path(recorded.read_text(encoding="utf-8").rstrip("\n"))
    if home.exists():
        return home
    try:
        bring(home)
    except DownloadError as error:
        logger.warning("%s", error)
        logger.warning("WARNING: without FER+, the drawn starter set takes its place")
        return Path(STARTER)
    return home


def record_source(run: Path, source: Path, data: Dataset) -> None:
    """Note in a run's folder what it learns from, and in ``left-out.csv`` what it does not."""
    run.mkdir(parents=True, exist_ok=True)
    place = source.resolve() if source.exists() else source
    (run / SOURCE_FILE).write_text(f"{place}\n", encoding="utf-8")
    listed = run / SKIPPED_FILE
    with listed.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(("name", "reason"))
        rows.writerows(data.skipped)
    if data.skipped:
        logger.info("%s says which, and why", listed)


def make_framing(
    region: str | None, side: int | None, rgb: bool, margin: float | None
) -> Framing | None:
    """Fill up what was said of the samples with the usual, None where nothing was said."""
    if region is None and side is None and margin is None and not rgb:
        return None
    usual = Framing()
    return Framing(
        region=usual.region if region is None else Region(region),
        margin=usual.margin if margin is None else margin,
        side=side or usual.side,
        channels=3 if rgb else usual.channels,
    )


def _load_by_layout(source: Path, framing: Framing | None, abstain: AbstainNames | None) -> Dataset:
    if not source.exists():
        if source == Path(STARTER):
            return load_starter(framing or Framing())
        raise InputError(
            f"there are no data at {source}", "give --data PATH, or get FER+ with `trainer data`"
        )
    for known, load in ((is_ferplus, load_ferplus), (is_fer2013, load_fer2013)):
        if known(source):
            if framing not in (None, FERPLUS_FRAMING):
                raise UsageError(
                    f"{source} is FER+, whose samples are grey faces {FERPLUS_FRAMING.side} pixels wide",
                    "give photos in folders for other samples",
                )
            return load(source)
    if is_review(source):
        raise UsageError(
            f"{source} is a review: a network that learns from it alone knows the least certain "
            f"photos and no others",
            "give it as --review beside --data, or see `trainer adjust`, which needs no data",
        )
    if is_label_table(source):
        return load_label_table(source, framing or Framing(), abstain)
    return load_folders(source, framing or Framing(), abstain)
