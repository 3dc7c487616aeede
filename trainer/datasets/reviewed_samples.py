"""Samples of reviewed faces and photos: read, cut by the review's boxes, freed of repetitions."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

from batch.errors import InputError, UsageError
from batch.location import Url
from batch.path_text import label_text
from batch.records import ABSTAIN_OUTPUTS, Box, Failure, Photo, Region
from batch.vision.crop import crop, resize_photo
from batch.vision.decode import decode_bytes
from batch.vision.faces import is_small
from batch.vision.read_file import read_file
from trainer.datasets.dataset import Dataset, Framing, Split, canonical_label, concatenate
from trainer.datasets.duplicates import find_near_duplicates
from trainer.datasets.review import Review, Verdict, read_review, select_photo_verdicts
from trainer.datasets.samples import Sample, Skipped, assign_split, build_split

# Why a photo that was labelled where it lay can't be learnt from there.
ELSEWHERE_REASON = "it lies in a store or an archive: label and review a copy in a folder"


@dataclass(frozen=True)
class ReviewedSample(Sample):
    """A reviewed face, or a whole photo without a ``box``; ``confirms`` if the report was right."""

    box: Box | None = None
    confirms: bool = False


def find_label(label: str, labels: tuple[str, ...]) -> int | None:
    """Find a label as a report writes it, by its name or a synonym."""
    return {canonical_label(label_text(own)): n for n, own in enumerate(labels)}.get(
        canonical_label(label)
    )


def check_labels(verdicts: Iterable[Verdict], labels: tuple[str, ...]) -> None:
    """Make sure that every label of a review is among ``labels``; abstentions need not be.

    Raises:
        InputError: one is not; the message names its line.
    """
    for verdict in verdicts:
        if verdict.label not in ABSTAIN_OUTPUTS and find_label(verdict.label, labels) is None:
            raise InputError(
                f"{verdict.where} says {verdict.label!r}, which is none of {', '.join(labels)}",
                "correct the review, or take data and a model that have the label",
            )


def read_reviewed_samples(
    verdicts: Sequence[Verdict], labels: tuple[str, ...], framing: Framing
) -> tuple[list[ReviewedSample], list[Skipped]]:
    """Read each photo once and cut out what was reviewed; the rest comes with the reason.

    The samples are in the order of their photos' bytes. One with two labels is left out.
    """

    def by_path(verdict: Verdict) -> str:
        return str(verdict.path)

    def load(wanted: list[Verdict]) -> list[ReviewedSample | Skipped]:
        return list(_cut_samples(wanted, labels, framing))

    photos = [list(group) for _, group in groupby(sorted(verdicts, key=by_path), by_path)]
    with ThreadPoolExecutor() as pool:
        found = [one for of_photo in pool.map(load, photos) for one in of_photo]
    samples, repeated = _deduplicate(
        (one for one in found if isinstance(one, ReviewedSample)), labels
    )
    return samples, [*(one for one in found if not isinstance(one, ReviewedSample)), *repeated]


def _cut_samples(
    verdicts: Sequence[Verdict], labels: tuple[str, ...], framing: Framing
) -> Iterator[ReviewedSample | Skipped]:
    """Cut out what was reviewed of one photo."""
    path, side, channels = verdicts[0].path, framing.side, framing.channels
    if isinstance(path, Url):
        yield from ((verdict.name, ELSEWHERE_REASON) for verdict in verdicts)
        return
    data = read_file(path)
    photo = data if isinstance(data, Failure) else decode_bytes(path, data)
    for verdict in verdicts:
        box = verdict.box
        if isinstance(data, Failure) or isinstance(photo, Failure):
            yield verdict.name, photo.detail if isinstance(photo, Failure) else ""
        elif box and not _contains_box(photo, box):
            yield verdict.name, "its face lies outside of the photo, which has changed"
        else:
            digest = hashlib.sha256(data).hexdigest()
            yield ReviewedSample(
                name=verdict.name,
                label=find_label(verdict.label, labels) or 0,
                split=assign_split(digest),
                digest=digest,
                pixels=crop(photo, _mark_detail(photo, box), framing.margin, side, side, channels)
                if box
                else resize_photo(photo, side, side, channels),
                box=box,
                confirms=verdict.confirms,
            )


def _mark_detail(photo: Photo, box: Box) -> Box:
    """Have a face cut out of the photo's detail if a run, which has found it, does."""
    return replace(box, in_detail=is_small(photo, box))


def _contains_box(photo: Photo, box: Box) -> bool:
    across, down = box.left + box.width / 2, box.top + box.height / 2
    return 0 <= across <= photo.width and 0 <= down <= photo.height


def _deduplicate(
    samples: Iterable[ReviewedSample], labels: tuple[str, ...]
) -> tuple[list[ReviewedSample], list[Skipped]]:
    same: dict[tuple[str, Box | None], list[ReviewedSample]] = {}
    for sample in samples:
        same.setdefault((sample.digest, sample.box), []).append(sample)
    kept: list[ReviewedSample] = []
    left_out: list[Skipped] = []
    for group in same.values():
        said = sorted({labels[sample.label] for sample in group})
        if len(said) > 1:
            reason = f"the same photo is said to be {' and '.join(said)}"
            left_out += [(sample.name, reason) for sample in group]
        else:
            kept.append(group[0])
            left_out += [(s.name, f"the same photo as {group[0].name}") for s in group[1:]]
    return sorted(kept, key=_sample_sort_key), left_out


def _sample_sort_key(sample: ReviewedSample) -> tuple[str, float, float]:
    return sample.digest, sample.box.left if sample.box else 0, sample.box.top if sample.box else 0


# == What people reviewed, as data: samples to learn from, and others held out to judge by.

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
