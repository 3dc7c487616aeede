"""Samples of reviewed faces and photos: read, cut by the review's boxes, freed of repetitions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

from batch.errors import InputError
from batch.location import Url
from batch.path_text import label_text
from batch.records import ABSTAIN_OUTPUTS, Box, Failure, Photo
from batch.vision.crop import crop, resize_photo
from batch.vision.decode import decode_bytes
from batch.vision.faces import is_small
from batch.vision.read_file import read_file
from trainer.data import Framing, canonical_label
from trainer.datasets.samples import Sample, Skipped, assign_split
from trainer.reviewing.review import Verdict

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
