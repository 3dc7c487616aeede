"""Thumbnails for the page, re-encoded without metadata and bounded in number and bytes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from io import BytesIO
from operator import attrgetter
from pathlib import Path

from PIL import Image

from batch.discovery.fetcher import Fetcher
from batch.location import Url, build_member_url, is_url, split_member
from batch.options import FileLimits
from batch.page.gather import PageRow, PixelBox
from batch.parallel import available_cores, thread_map
from batch.path_text import parse_path_text
from batch.records import Failure, Photo, Reason, Stage, WorkerResult
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask

# Total size of the picture files of a page; as base64 they take a third more.
MAX_TOTAL_BYTES = 32 * 1024**2
MAX_PICTURE_SIDE = 320  # pixels
QUALITY = 70  # of WebP, 0 to 100
GRID = 8  # fields of ``compute_colours`` per side
# Side of the picture of a face, as a multiple of the side of its box.
SURROUND_FACTOR = 3.0

PHOTO_GONE = "The photo no longer exists."
PHOTO_CHANGED = "The photo has changed: its size differs from the report."
NOT_LOCAL = "it is not on this machine"
FILE_NEWER = "The file is newer than the report."


@dataclass(frozen=True)
class PagePicture:
    """The picture of a row.

    Attributes:
        data: a WebP file; empty without a picture.
        view: the part of the upright photo that it shows, in pixels of the photo.
        note: why there is no picture, or a warning; usually empty.
        colours: mean colours of an 8 x 8 grid, RGB; empty without a picture.
    """

    data: bytes = b""
    view: PixelBox = (0, 0, 0, 0)
    note: str = ""
    colours: bytes = b""


def choose_pictured(
    rows: Sequence[PageRow], count: int, reviewed: Mapping[int, int], sample: Sequence[int] = ()
) -> list[PageRow]:
    """Choose the rows that get a picture.

    First those of the random sample that are not reviewed, then reviewed ones, then the least
    certain ones. Reviewed rows get at most half of the pictures, if others need them. Photos that
    failed or are missing get none.

    Args:
        rows: the rows of the page.
        count: the largest number of pictures.
        reviewed: the reviewed rows by their index; the value is higher for newer answers.
        sample: indices of the rows of the random sample.
    """
    asked = [index for index in sample if index not in reviewed][:count]
    count -= len(asked)
    shown: list[PageRow] = []
    others: list[PageRow] = []
    newest = sorted(reviewed, key=lambda index: (-reviewed[index], index))
    done = {*reviewed, *asked}
    for index in (*newest, *(index for index in range(len(rows)) if index not in done)):
        if rows[index].can_review:
            (shown if index in reviewed else others).append(rows[index])
    others.sort(key=attrgetter("doubt"))
    del shown[max(count // 2, count - len(others)) :]
    return [*(rows[index] for index in asked), *[*shown, *others][:count]]


def make_pictures(
    chosen: list[PageRow], photos: Path, per_face: bool, made: datetime
) -> Iterator[tuple[PageRow, PagePicture]]:
    """Make the pictures of rows until ``MAX_TOTAL_BYTES`` are reached.

    Workers decode each photo once.

    Args:
        chosen: the rows, in order of preference.
        photos: base folder of relative paths.
        per_face: whether a picture shows a face with its surroundings instead of the whole photo.
        made: when the report was published.

    Raises:
        WorkerError: the workers can't be started.
    """
    by_path: dict[str, list[PageRow]] = {}
    for row in chosen:
        by_path.setdefault(row.saved.path, []).append(row)
    size = 0
    limits = FileLimits()
    with (
        WorkerPool(WorkerTask(limits)) as workers,
        closing(Fetcher(limits.max_file_size)) as fetcher,
    ):
        make = partial(_make_photo_pictures, workers, fetcher, photos, per_face, made)
        with closing(thread_map(make, by_path.values(), available_cores())) as results:
            for pictures in results:
                for row, picture in pictures:
                    size += len(picture.data)
                    if size > MAX_TOTAL_BYTES:
                        return
                    yield row, picture


def encode_picture(photo: Photo, box: PixelBox | None) -> PagePicture:
    """Encode a photo, or the part of it around a box, without metadata."""
    view = _widen_box(box, photo) if box else (0.0, 0.0, float(photo.width), float(photo.height))
    # The photo may be decoded at less than its full size.
    across, down = photo.image.width / photo.width, photo.image.height / photo.height
    left, top, width, height = view
    image = photo.image.crop(
        (
            round(left * across),
            round(top * down),
            max(round(left * across) + 1, round((left + width) * across)),
            max(round(top * down) + 1, round((top + height) * down)),
        )
    )
    image.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE), Image.Resampling.LANCZOS)
    file = BytesIO()
    image.save(file, "WEBP", quality=QUALITY)
    return PagePicture(file.getvalue(), view, colours=compute_colours(image))


def compute_colours(image: Image.Image) -> bytes:
    """Compute the mean colours of an 8 x 8 grid, in RGB: 192 bytes."""
    return image.convert("RGB").resize((GRID, GRID), Image.Resampling.BOX).tobytes()


def _make_photo_pictures(
    workers: WorkerPool,
    fetcher: Fetcher,
    photos: Path,
    per_face: bool,
    made: datetime,
    rows: list[PageRow],
) -> list[tuple[PageRow, PagePicture]]:
    try:
        path = parse_path_text(rows[0].saved.path)
    except ValueError as error:
        return [(row, PagePicture(note=f"No picture: {error}")) for row in rows]
    if isinstance(path, Url):
        result = _decode_member(path, workers, fetcher, photos)
    else:
        result = workers.process(WorkerRequest(photos / path, salvage=True))
    return [(row, _make_picture(row, result, per_face, made)) for row in rows]


def _decode_member(url: Url, workers: WorkerPool, fetcher: Fetcher, photos: Path) -> WorkerResult:
    """Decode a photo in a local archive; remote photos are not fetched."""
    member = split_member(url.text)
    if member is None or is_url(member[0]):
        return WorkerResult(Failure(url, Stage.READ, Reason.UNREADABLE, NOT_LOCAL))
    local = Url(build_member_url(str(photos / member[0]), member[1]))
    content = fetcher.fetch(local).content
    if isinstance(content, Failure):
        return WorkerResult(content)
    return workers.process(WorkerRequest(local, content, salvage=True))


def _make_picture(
    row: PageRow, result: WorkerResult, per_face: bool, made: datetime
) -> PagePicture:
    photo = result.content
    if not isinstance(photo, Photo):
        assert isinstance(photo, Failure)
        gone = photo.reason is Reason.VANISHED
        return PagePicture(
            note=PHOTO_GONE if gone else f"No picture: {photo.reason}, {photo.detail}"
        )
    if row.size and (photo.width, photo.height) != row.size:
        return PagePicture(note=PHOTO_CHANGED)
    picture = encode_picture(photo, row.box if per_face else None)
    mtime = result.state.mtime_ns if result.state else None
    is_newer = mtime is not None and mtime / 1e9 > made.timestamp()
    return replace(picture, note=FILE_NEWER) if is_newer else picture


def _widen_box(box: PixelBox, photo: Photo) -> PixelBox:
    """Widen a box to a square with its surroundings, clipped to the photo.

    For a box outside the photo, it is one pixel wide or high at the edge.
    """
    left, top, width, height = box
    side = SURROUND_FACTOR * max(width, height)
    start = left + (width - side) / 2, top + (height - side) / 2
    (left, width), (top, height) = (
        _clip(begin, side, size)
        for begin, size in zip(start, (photo.width, photo.height), strict=True)
    )
    return left, top, width, height


def _clip(begin: float, length: float, size: int) -> tuple[float, float]:
    first = min(max(0.0, begin), size - 1.0)
    return first, max(1.0, min(begin + length, size) - first)
