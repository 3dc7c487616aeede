"""Pseudo-labels: training-only photos with the labels that a model gave them.

Lee 2013, "Pseudo-Label". A whole-photo model is trained on few photos and fails on kinds of photos
that it has not seen, such as close portraits. The confident labels of a face model add such photos.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from batch.errors import InputError
from batch.path_text import parse_path_text
from batch.reading.held_out import is_held_out
from batch.records import Source, Status
from trainer.datasets.dataset import (
    Dataset,
    Split,
    canonical_label,
    concatenate,
    select_samples,
)
from trainer.datasets.duplicates import find_near_duplicates
from trainer.datasets.samples import LabelledFile, build_split, read_samples

REPORT_COLUMNS = {"path", "status", "label"}
# Largest number of pseudo-labelled photos, as a share of the number of the data's own photos.
# Measured on 564 photos of people: with 30 portraits added, the whole-photo model overrules 1 of
# 422 sure faces in 865 other portraits, without them 24 of 444, at no cost in accuracy. Adding 80
# portraits costs 0.8 points of accuracy, 212 one point.
MAX_PSEUDO_SHARE = 0.05
REPORT_REMEDY = "give a CSV report of batch-label, and run this in the folder it was written from"

logger = logging.getLogger(__name__)


def add_pseudo_labels(data: Dataset, report: Path, cache: Path | None = None) -> Dataset:
    """Add photos of a report (CSV) with status ``ok``, the same number for each label.

    At most ``MAX_PSEUDO_SHARE`` times the number of the data's own photos are added, chosen by the
    digests of their files. Near duplicates of the data's own and of reviewed photos are skipped.
    People's answers in the report are skipped too: ``add_review`` holds some of these out. So are
    photos that a review would hold out, as people may review them later.

    Raises:
        InputError: the file is not a report, or has no photo for one of the labels.
    """
    labels = {canonical_label(label): n for n, label in enumerate(data.labels)}
    files = [
        LabelledFile(path, str(path), labels[canonical_label(label)], "train")
        for path, label in _read_sure_labels(report)
        if canonical_label(label) in labels
    ]
    samples, _, _ = read_samples(files, data.framing, cache)
    unique = {sample.digest: sample for sample in samples if not is_held_out(sample.digest)}
    ordered = [unique[digest] for digest in sorted(unique)]
    part = build_split(ordered, len(labels), data.framing)
    own = len(data.train) + len(data.validation) + len(data.test)
    count = len(data.labels) - len(data.abstain)
    part = _balance_labels(
        _drop_near_duplicates(part, data), count, most=max(1, int(own * MAX_PSEUDO_SHARE / count))
    )
    if not len(part):
        raise InputError(
            f"{report} does not have a photo with status ok for each of {', '.join(data.labels)}",
            REPORT_REMEDY,
        )
    logger.info("%s: %s pseudo-labelled photos added", report, f"{len(part):,}")
    return replace(data, pseudo_labelled=part)


def _read_sure_labels(report: Path) -> Iterator[tuple[Path, str]]:
    try:
        with report.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if REPORT_COLUMNS - set(rows.fieldnames or ()):
                raise InputError(f"{report} does not have the columns of a report", REPORT_REMEDY)
            reviewed = 0
            for row in rows:
                if row.get("source") == Source.REVIEW:
                    reviewed += 1
                elif row["status"] == Status.OK:
                    yield Path(parse_path_text(row["path"])), row["label"]
            if reviewed:
                logger.info("%s: %d rows with a person's answer skipped", report, reviewed)
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{report} can't be read as a report ({error})", REPORT_REMEDY) from error


def _drop_near_duplicates(part: Split, data: Dataset) -> Split:
    others = (data.train, data.validation, data.test, data.reviewed, data.held)
    own = concatenate(tuple(part for part in others if part is not None))
    return select_samples(part, find_near_duplicates(part.pixels, own.pixels) < 0)


def _balance_labels(part: Split, labels: int, most: int) -> Split:
    """Keep the first samples of each label, as many as the rarest has, at most ``most``."""
    classes = [np.flatnonzero(part.targets == n) for n in range(labels)]
    fewest = min(most, *map(len, classes))
    return select_samples(part, np.sort(np.concatenate([chosen[:fewest] for chosen in classes])))
