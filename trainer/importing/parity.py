"""Parity of an imported model: its answers against its network's, fed by numpy and Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from batch.discovery.discover import discover
from batch.errors import InputError
from batch.inference.session import Session
from batch.options import Search
from batch.path_text import path_text, printable_text
from batch.records import Failure, Photo, Pixels, Probabilities, Reason, Stage
from batch.vision.crop import resize_photo
from batch.vision.decode import decode
from trainer.datasets.rendered_pictures import render_pictures
from trainer.exporting.answer_changes import measure_differences
from trainer.exporting.golden_samples import SEED
from trainer.importing.network import Network
from trainer.importing.preprocessing import (
    Preprocessing,
    find_input_size,
    prepare,
    resize_plainly,
)
from trainer.importing.wrapping import Head, compute_probabilities

PARITY_BATCHES = (1, 2, 5)
RENDERED_PICTURES = 26
MAX_PICTURES = 200  # of a folder


@dataclass(frozen=True)
class Picture:
    """A picture to compare on.

    Attributes:
        photo: as the runner decodes it.
        image: as Pillow does.
    """

    photo: Photo
    image: Image.Image


@dataclass(frozen=True)
class Pictures:
    """Pictures to compare on.

    Attributes:
        pictures: the pictures.
        source: what they are, for people.
        skipped: names of files that can't be read, with the reason.
        has_more: whether a folder has more than ``MAX_PICTURES``.
    """

    pictures: tuple[Picture, ...]
    source: str
    skipped: tuple[tuple[str, str], ...] = ()
    has_more: bool = False


@dataclass(frozen=True)
class Comparison:
    """Largest differences of a probability between model and network.

    Attributes:
        pictures: number of pictures.
        largest: from the same pixels, in batches of ``PARITY_BATCHES``; infinite if the model fails
            on a batch.
        one_by_one: from the same pixels, one picture per call.
        resized: if the network's pixels are resized by Pillow alone, with the filter that it was
            trained with.
        changed: number of pictures that then have another likeliest output.
    """

    pictures: int
    largest: float
    one_by_one: float
    resized: float
    changed: int


def make_pictures_to_compare() -> Pictures:
    """Render pictures to compare on."""
    pictures = tuple(
        Picture(Photo(Path(kind.value), image, image.width, image.height), image)
        for kind, image in render_pictures(RENDERED_PICTURES, SEED)
    )
    return Pictures(pictures, "rendered pictures")


def read_pictures(folder: Path) -> Pictures:
    """Read at most ``MAX_PICTURES`` pictures of a folder.

    Raises:
        InputError: the folder has none that can be read.
    """
    files = discover((str(folder),), Search())
    pictures, skipped = [], []
    for file in islice(files, MAX_PICTURES):
        picture = _read_picture(file) if isinstance(file, Path) else None
        if isinstance(picture, Picture):
            pictures.append(picture)
        else:
            name = file.path if isinstance(file, Failure) else file
            why = picture if isinstance(picture, Failure) else file
            reason = why.detail if isinstance(why, Failure) else "not a file in a folder"
            skipped.append((path_text(name), reason))
    if not pictures:
        why_not = f", such as {': '.join(skipped[0])}" if skipped else ""
        raise InputError(
            f"{folder} has no picture that can be read{why_not}", "give another --pictures"
        )
    has_more = next(iter(files), None) is not None
    return Pictures(tuple(pictures), f"pictures of {folder}", tuple(skipped), has_more)


def _read_picture(path: Path) -> Picture | Failure:
    photo = decode(path)
    if isinstance(photo, Failure):
        return photo
    try:
        with Image.open(path) as image:
            return Picture(photo, ImageOps.exif_transpose(image).convert("RGB"))
    except Exception as error:  # Pillow's readers raise nearly every built-in exception
        # Such as a JPEG that lacks its end, which the runner repairs.
        cause = printable_text(str(error)) or type(error).__name__
        detail = f"only the runner can read it; Pillow alone says: {cause}"
        return Failure(path, Stage.DECODE, Reason.UNSUPPORTED, detail)


def compare(
    network: Network,
    prep: Preprocessing,
    head: Head,
    session: Session,
    pictures: Sequence[Picture],
) -> Comparison:
    """Compare a model with its network, each picture taken as a whole.

    Args:
        network: the network.
        prep: its preprocessing.
        head: from its output to probabilities.
        session: the model.
        pictures: the pictures.
    """
    height, width = find_input_size(prep, network)
    pixels = np.stack(
        [resize_photo(one.photo, height, width, network.channels, prep.resize) for one in pictures]
    )
    wanted = _run_network(network, prep, head, pixels)
    plain = np.concatenate([resize_plainly(one.image, prep, network) for one in pictures])
    resized = _run_network(network, prep, head, plain)
    differences = measure_differences(
        lambda batch: session.run(batch)[0], pixels, wanted, PARITY_BATCHES
    )
    return Comparison(
        pictures=len(pictures),
        largest=float(np.max(differences)),
        one_by_one=differences[0],
        resized=float(np.abs(resized - wanted).max()),
        changed=int((resized.argmax(axis=1) != wanted.argmax(axis=1)).sum()),
    )


def _run_network(
    network: Network, prep: Preprocessing, head: Head, pixels: Pixels
) -> Probabilities:
    return compute_probabilities(network.predict(prepare(pixels, prep, network)), head)
