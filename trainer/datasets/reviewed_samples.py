"""Samples of reviewed faces and photos: training-only and held-out ones."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np

from batch.errors import InputError, UsageError
from batch.location import Url
from batch.path_text import label_text
from batch.records import ABSTAIN_OUTPUTS, Box, Failure, Photo, Reason, Region
from batch.reviewing.reviews_file import REVIEWS_SUFFIX
from batch.vision.crop import crop, resize_photo
from batch.vision.decode import decode_bytes
from batch.vision.faces import is_small
from batch.vision.read_file import read_file
from trainer.datasets.dataset import Dataset, Framing, Split, canonical_label, concatenate
from trainer.datasets.duplicates import find_near_duplicates
from trainer.datasets.review import Review, Verdict, read_review, select_photo_verdicts
from trainer.datasets.samples import Sample, Skipped, assign_split, build_split

ELSEWHERE_REASON = "it is in a store or an archive: label and review a copy in a folder"
GONE_REASON = (
    "it was moved or deleted since the review: if it was moved, run batch-label again into the "
    f"same report and give REPORT{REVIEWS_SUFFIX}, to which `batch-label review apply` adds reviews"
)
CHANGED_REASON = "the photo has changed since it was reviewed"
NOT_HELD_REASON = "the digest of the photo puts it into the training part"
# Names of skipped samples that are logged for each reason.
MAX_NAMES = 5
TRAIN_SPLIT = "train"
HELD_OUT_REMEDY = "review more photos: the random sample on the page of the report is held out"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReviewedSample(Sample):
    """A sample of a reviewed face or photo.

    Attributes:
        box: the face, in pixels of the photo; None for a whole photo.
        confirms: whether the report's label was right.
        is_random: whether the photo is in the random sample of the report.
    """

    box: Box | None = None
    confirms: bool = False
    is_random: bool = False


@dataclass(frozen=True)
class ReviewedData:
    """Reviewed samples for training and held-out ones, which share no photo or near duplicate.

    Attributes:
        labels: the classes.
        framing: how photos are turned into samples.
        learn: training-only samples.
        held: held-out samples that measure models: the random sample or, without one, all.
        skipped: photos that can't be used, each with the reason.
        unsampled: the other held-out samples, which are not used.
        missing: answers of the random sample that are not in ``held``, each with the reason.
    """

    labels: tuple[str, ...]
    framing: Framing
    learn: tuple[ReviewedSample, ...]
    held: tuple[ReviewedSample, ...]
    skipped: tuple[Skipped, ...]
    unsampled: tuple[ReviewedSample, ...] = ()
    missing: tuple[Skipped, ...] = ()

    @property
    def is_random(self) -> bool:
        """Whether the held-out samples are a random sample of the report."""
        return any(sample.is_random for sample in self.held)

    def get_split(self, samples: Sequence[ReviewedSample]) -> Split:
        """Build a split of samples; all votes for a sample are for its label."""
        return build_split(samples, len(self.labels), self.framing)

    def get_held(self) -> Split:
        """Build a split of the held-out samples, with the faces of a photo as a group."""
        photos = np.array([sample.digest for sample in self.held], np.str_)
        return replace(self.get_split(self.held), groups=photos)


def read_reviewed(review: Review, labels: tuple[str, ...], framing: Framing) -> ReviewedData:
    """Read the samples of a review, cropped by its boxes.

    A face model gets the faces that labels were derived from, a whole-photo model the photos. As
    for folders of photos, the SHA-256 of a file's bytes decides its split: about 80 % are for
    training, the others are held out. If some of these are in the random sample of the report,
    only they are used. Photos that are missing or changed, near duplicates of held-out samples, and
    verdicts ``neither`` or ``no_person`` without such a class are skipped.

    Args:
        review: the files.
        labels: the classes of the data, or a model's outputs: labels, then abstain classes.
        framing: how photos are turned into samples.

    Raises:
        ReviewError: a file is not a review.
        InputError: a label is not one of ``labels``, or no photo can be used.
    """
    verdicts = read_review(review)
    check_labels(verdicts, labels)
    suited, unsuited = _select_for_region(verdicts, framing.region)
    known, unknown = select_known_labels(suited, labels)
    samples, unusable = read_reviewed_samples(known, labels, framing)
    skipped = [*unsuited, *unknown, *unusable]
    if not samples:
        raise _unusable_error(review, skipped)
    held = tuple(sample for sample in samples if sample.split != TRAIN_SPLIT)
    learn = tuple(sample for sample in samples if sample.split == TRAIN_SPLIT)
    reviewed = ReviewedData(labels, framing, learn, held, ())
    learn, near = _drop_near_duplicates(
        reviewed, learn, reviewed.get_split(held), "a held-out sample of the review"
    )
    skipped += near
    sample = tuple(one for one in held if one.is_random)
    unsampled = tuple(one for one in held if not one.is_random) if sample else ()
    logger.info(
        "%s: %d reviewed samples to train on, %d held out%s, %d skipped",
        ", ".join(map(str, review.files)),
        len(learn),
        len(held),
        f" ({len(sample)} drawn at random, the others are not used)" if unsampled else "",
        len(skipped),
    )
    log_skipped(skipped)
    not_held = [(one.name, NOT_HELD_REASON) for one in learn if one.is_random]
    return replace(
        reviewed,
        learn=learn,
        held=sample or held,
        unsampled=unsampled,
        skipped=tuple(skipped),
        missing=select_of_sample([*skipped, *not_held], verdicts),
    )


def add_review(data: Dataset, review: Review) -> Dataset:
    """Add reviewed samples to a data set; near duplicates of the data's own samples are skipped.

    Raises:
        UsageError: the data are drawn faces.
        ReviewError: a file is not a review.
        InputError: a label is not a class of the data, or no photo can be used.
    """
    if data.warning:
        raise UsageError(
            "reviews can't be added to drawn faces",
            "give the --data that the model was trained on, or use `trainer adjust`, which needs "
            "none",
        )
    reviewed = read_reviewed(review, data.labels, data.framing)
    own = concatenate((data.train, data.validation, data.test))
    learn, known = _drop_near_duplicates(reviewed, reviewed.learn, own, "a sample of the data")
    held, known_held = _drop_near_duplicates(reviewed, reviewed.held, own, "a sample of the data")
    if known or known_held:
        logger.info(
            "%d reviewed samples are already in the data and skipped", len(known) + len(known_held)
        )
    return replace(
        data,
        reviewed=reviewed.get_split(learn),
        held=reviewed.get_split(held),
        skipped=(*data.skipped, *reviewed.skipped, *known, *known_held),
    )


def read_reviewed_samples(
    verdicts: Sequence[Verdict], labels: tuple[str, ...], framing: Framing
) -> tuple[list[ReviewedSample], list[Skipped]]:
    """Read each photo once, and crop the faces that were reviewed.

    Returns:
        The samples, sorted by the digest of their photos, and the skipped ones with the reason,
        such as two labels for one photo.
    """

    def by_path(verdict: Verdict) -> str:
        return str(verdict.path)

    def load(wanted: list[Verdict]) -> list[ReviewedSample | Skipped]:
        return list(_crop_samples(wanted, labels, framing))

    photos = [list(group) for _, group in groupby(sorted(verdicts, key=by_path), by_path)]
    with ThreadPoolExecutor() as pool:
        found = [one for of_photo in pool.map(load, photos) for one in of_photo]
    samples, repeated = _deduplicate(
        (one for one in found if isinstance(one, ReviewedSample)), labels
    )
    return samples, [*(one for one in found if not isinstance(one, ReviewedSample)), *repeated]


def find_label(label: str, labels: tuple[str, ...]) -> int | None:
    """Find the index of a report's label by its name or a synonym; None if it is absent."""
    return {canonical_label(label_text(own)): n for n, own in enumerate(labels)}.get(
        canonical_label(label)
    )


def check_labels(verdicts: Iterable[Verdict], labels: tuple[str, ...]) -> None:
    """Check that every label of a review is one of ``labels``; abstain classes may be missing.

    Raises:
        InputError: a label is not one of them; the message names the line.
    """
    for verdict in verdicts:
        if verdict.label not in ABSTAIN_OUTPUTS and find_label(verdict.label, labels) is None:
            raise InputError(
                f"{verdict.where} has the label {verdict.label!r}, which is not one of "
                f"{', '.join(labels)}",
                "if the class was renamed, replace its old name in this file; otherwise correct "
                "the review, or use data and a model with this label",
            )


def select_known_labels(
    verdicts: Sequence[Verdict], labels: tuple[str, ...]
) -> tuple[list[Verdict], list[Skipped]]:
    """Select the verdicts whose label is a class; the others are returned with the reason."""
    known: list[Verdict] = []
    unknown: list[Skipped] = []
    for verdict in verdicts:
        if find_label(verdict.label, labels) is None:
            unknown.append((verdict.name, f"{verdict.label} is not one of {', '.join(labels)}"))
        else:
            known.append(verdict)
    return known, unknown


def explain_failure(failure: Failure) -> str:
    """Say why a reviewed photo can't be read."""
    return GONE_REASON if failure.reason is Reason.VANISHED else failure.detail


def select_of_sample(
    skipped: Iterable[Skipped], verdicts: Iterable[Verdict]
) -> tuple[Skipped, ...]:
    """Select the skipped verdicts that are of the random sample of the report."""
    drawn = {verdict.name for verdict in verdicts if verdict.is_random}
    return tuple((name, reason) for name, reason in skipped if name in drawn)


def log_skipped(skipped: Sequence[Skipped]) -> None:
    """Log the number of skipped samples for each reason, with some of their names."""
    names: dict[str, list[str]] = {}
    for name, reason in skipped:
        names.setdefault(reason, []).append(name)
    for reason, those in names.items():
        more = ", ..." if len(those) > MAX_NAMES else ""
        logger.info("  %d: %s (%s%s)", len(those), reason, ", ".join(those[:MAX_NAMES]), more)


def _select_for_region(
    verdicts: Sequence[Verdict], region: Region
) -> tuple[list[Verdict], list[Skipped]]:
    if region is Region.IMAGE:
        photos, skipped = select_photo_verdicts(verdicts)
        return [replace(verdict, box=None) for verdict in photos], skipped
    reason = "the label was not derived from a face"
    faceless = [(v.name, reason) for v in verdicts if v.box is None]
    return [verdict for verdict in verdicts if verdict.box is not None], faceless


def _crop_samples(
    verdicts: Sequence[Verdict], labels: tuple[str, ...], framing: Framing
) -> Iterator[ReviewedSample | Skipped]:
    """Crop the reviewed faces of one photo, or resize the photo."""
    path, side, channels = verdicts[0].path, framing.side, framing.channels
    if isinstance(path, Url):
        yield from ((verdict.name, ELSEWHERE_REASON) for verdict in verdicts)
        return
    data = read_file(path)
    photo = data if isinstance(data, Failure) else decode_bytes(path, data)
    for verdict in verdicts:
        box = verdict.box
        if isinstance(data, Failure) or isinstance(photo, Failure):
            yield verdict.name, explain_failure(photo) if isinstance(photo, Failure) else ""
        elif verdict.sha256 not in ("", digest := hashlib.sha256(data).hexdigest()):
            yield verdict.name, CHANGED_REASON
        elif box and not _contains_box(photo, box):
            yield verdict.name, "the face is outside of the photo, which has changed"
        else:
            yield ReviewedSample(
                name=verdict.name,
                label=find_label(verdict.label, labels) or 0,
                split=assign_split(digest),
                digest=digest,
                pixels=crop(
                    photo,
                    # Like the runner, crop small faces from the photo's detail.
                    replace(box, in_detail=is_small(photo, box)),
                    framing.margin,
                    side,
                    side,
                    channels,
                    framing.resize,
                )
                if box
                else resize_photo(photo, side, side, channels, framing.resize),
                box=box,
                confirms=verdict.confirms,
                is_random=verdict.is_random,
            )


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
    skipped: list[Skipped] = []
    for group in same.values():
        classes = sorted({labels[sample.label] for sample in group})
        if len(classes) > 1:
            reason = f"the same photo is labelled {' and '.join(classes)}"
            skipped += [(sample.name, reason) for sample in group]
        else:
            kept.append(group[0])
            skipped += [(s.name, f"the same photo as {group[0].name}") for s in group[1:]]
    return sorted(kept, key=_sample_sort_key), skipped


def _sample_sort_key(sample: ReviewedSample) -> tuple[str, float, float]:
    return sample.digest, sample.box.left if sample.box else 0, sample.box.top if sample.box else 0


def _drop_near_duplicates(
    reviewed: ReviewedData, samples: Sequence[ReviewedSample], others: Split, what: str
) -> tuple[tuple[ReviewedSample, ...], list[Skipped]]:
    found = (find_near_duplicates(reviewed.get_split(samples).pixels, others.pixels) >= 0).tolist()
    kept = tuple(sample for sample, near in zip(samples, found, strict=True) if not near)
    reason = f"nearly the same as {what}"
    return kept, [
        (sample.name, reason) for sample, near in zip(samples, found, strict=True) if near
    ]


def _unusable_error(review: Review, skipped: Sequence[Skipped]) -> InputError:
    files = ", ".join(map(str, review.files))
    name, reason = skipped[-1] if skipped else ("", "it has no rows")
    example = f"such as {name}: {reason}" if name else reason
    return InputError(
        f"no photo of {files} can be used, {example}",
        f"give --photos the folder that the report's paths start from, if not "
        f"{review.photos.resolve()}; or review more answers",
    )
