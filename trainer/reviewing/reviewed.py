"""What people reviewed, as data: samples to learn from, and others held out to judge by."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from batch.errors import InputError, UsageError
from batch.records import Region
from trainer.data import Dataset, Framing, Split, concatenate
from trainer.datasets.duplicates import find_near_duplicates
from trainer.datasets.samples import Skipped, build_split
from trainer.reviewing.review import Review, Verdict, read_review, select_photo_verdicts
from trainer.reviewing.review_samples import (
    ReviewedSample,
    check_labels,
    find_label,
    read_reviewed_samples,
)

# So many names are told of those that are left out for one reason.
MAX_NAMES = 5
TRAIN_SPLIT = "train"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReviewedData:
    """Samples to learn from and to judge by, which share no photo and no near duplicate."""

    labels: tuple[str, ...]
    framing: Framing
    learn: tuple[ReviewedSample, ...]
    held: tuple[ReviewedSample, ...]
    skipped: tuple[Skipped, ...]

    def get_split(self, samples: Sequence[ReviewedSample]) -> Split:
        """Put some of the samples together, each with all its votes for its label."""
        return build_split(samples, len(self.labels), self.framing)


def read_reviewed(review: Review, labels: tuple[str, ...], framing: Framing) -> ReviewedData:
    """Cut what was reviewed out of its photos, by the review's boxes.

    A model of faces gets the faces that answers rest on, a model of whole photos the photos. As
    for folders of photos, the SHA-256 of a file's bytes decides its part: about 80 % are learnt
    from, the others are held out. What is gone, changed, or nearly the same as a held-out sample is
    left out, and so is ``neither`` or ``no_person`` if it is not a class.

    Args:
        review: the files.
        labels: the classes of the data, or a model's outputs: labels, then abstain classes.
        framing: how samples are cut.

    Raises:
        BadReview: a file is no review.
        InputError: a label is none of ``labels``, or nothing can be used.
    """
    verdicts = read_review(review)
    check_labels(verdicts, labels)
    suited, unsuited = _select_for_region(verdicts, framing.region)
    known, unknown = select_known_labels(suited, labels)
    samples, unusable = read_reviewed_samples(known, labels, framing)
    left_out = [*unsuited, *unknown, *unusable]
    if not samples:
        raise _unusable_error(review, left_out)
    held = tuple(sample for sample in samples if sample.split != TRAIN_SPLIT)
    learn = tuple(sample for sample in samples if sample.split == TRAIN_SPLIT)
    reviewed = ReviewedData(labels, framing, learn, held, ())
    learn, near = _drop_near_duplicates(
        reviewed, learn, reviewed.get_split(held), "a held-out sample of the review"
    )
    left_out += near
    _log_summary(review, learn, held, left_out)
    return replace(reviewed, learn=learn, skipped=tuple(left_out))


def add_review(data: Dataset, review: Review) -> Dataset:
    """Put what was reviewed beside data; what these hold already is left out.

    Raises:
        UsageError: the data are drawn faces.
        BadReview, InputError: as ``read_reviewed`` does.
    """
    if data.warning:
        raise UsageError(
            "drawn faces and reviewed photos don't go together",
            "give the --data that the model learnt from, or see `trainer adjust`, which needs none",
        )
    reviewed = read_reviewed(review, data.labels, data.framing)
    own = concatenate((data.train, data.validation, data.test))
    learn, known = _drop_near_duplicates(reviewed, reviewed.learn, own, "a sample of the data")
    held, known_too = _drop_near_duplicates(reviewed, reviewed.held, own, "a sample of the data")
    if known or known_too:
        logger.info("%d of them are in the data already", len(known) + len(known_too))
    return replace(
        data,
        reviewed=reviewed.get_split(learn),
        held=reviewed.get_split(held),
        skipped=(*data.skipped, *reviewed.skipped, *known, *known_too),
    )


def select_known_labels(
    verdicts: Sequence[Verdict], labels: tuple[str, ...]
) -> tuple[list[Verdict], list[Skipped]]:
    """Keep the verdicts whose right answer is a class; the others come with the reason."""
    known: list[Verdict] = []
    unknown: list[Skipped] = []
    for verdict in verdicts:
        if find_label(verdict.label, labels) is None:
            unknown.append((verdict.name, f"{verdict.label} is none of {', '.join(labels)}"))
        else:
            known.append(verdict)
    return known, unknown


def _select_for_region(
    verdicts: Sequence[Verdict], region: Region
) -> tuple[list[Verdict], list[Skipped]]:
    if region is Region.IMAGE:
        photos, left_out = select_photo_verdicts(verdicts)
        return [replace(verdict, box=None) for verdict in photos], left_out
    faceless = [(v.name, "the answer rests on no face") for v in verdicts if v.box is None]
    return [verdict for verdict in verdicts if verdict.box is not None], faceless


def _drop_near_duplicates(
    reviewed: ReviewedData, samples: Sequence[ReviewedSample], others: Split, what: str
) -> tuple[tuple[ReviewedSample, ...], list[Skipped]]:
    found = (find_near_duplicates(reviewed.get_split(samples).pixels, others.pixels) >= 0).tolist()
    kept = tuple(sample for sample, near in zip(samples, found, strict=True) if not near)
    reason = f"nearly the same as {what}"
    return kept, [
        (sample.name, reason) for sample, near in zip(samples, found, strict=True) if near
    ]


def _unusable_error(review: Review, left_out: Sequence[Skipped]) -> InputError:
    files = ", ".join(map(str, review.files))
    name, reason = left_out[-1] if left_out else ("", "it has no rows")
    example = f"such as {name}: {reason}" if name else reason
    return InputError(
        f"nothing in {files} can be used, {example}",
        f"give --photos the folder that the report's paths start from, if not "
        f"{review.photos.resolve()}; or review more answers",
    )


def _log_summary(
    review: Review,
    learn: Sequence[ReviewedSample],
    held: Sequence[ReviewedSample],
    left_out: Sequence[Skipped],
) -> None:
    logger.info(
        "%s: %d reviewed to learn from, %d held out, %d left out",
        ", ".join(map(str, review.files)),
        len(learn),
        len(held),
        len(left_out),
    )
    log_skipped(left_out)


def log_skipped(left_out: Sequence[Skipped]) -> None:
    """Log how many were left out for each reason, with some of their names."""
    names: dict[str, list[str]] = {}
    for name, reason in left_out:
        names.setdefault(reason, []).append(name)
    for reason, those in names.items():
        more = ", ..." if len(those) > MAX_NAMES else ""
        logger.info("  %d: %s (%s%s)", len(those), reason, ", ".join(those[:MAX_NAMES]), more)
