"""Small pictures of the photos for the page: re-encoded, and bounded in number and bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
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
from batch.records import Failure, Photo, Reason, Stage, Status, WorkerResult
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask

# Of all pictures of a page, as the files that they are; in the page they take a third more.
MAX_TOTAL_BYTES = 32 * 1024**2
MAX_PICTURE_SIDE = 320  # pixels
QUALITY = 70  # of WebP, 0 to 100
# A face in a photo of many is shown with as much around it, in sides of its box.
SURROUND_FACTOR = 3.0

PHOTO_GONE = "The photo is gone."
PHOTO_CHANGED = "The photo has changed: it has another size now."
NOT_LOCAL = "it is not on this machine"
FILE_NEWER = "The file is newer than the report."


@dataclass(frozen=True)
class PagePicture:
    """What the page shows for a row.

    ``data`` is a WebP file, empty where there is no picture; ``view`` is the part of the upright
    photo that it shows, in the photo's pixels; ``note`` says what is wrong, mostly nothing.
    """

    data: bytes = b""
    view: PixelBox = (0, 0, 0, 0)
    note: str = ""


def choose_least_certain(entries: Iterable[PageRow], count: int) -> list[PageRow]:
    """Choose the rows that get a picture: of photos that could be read, the doubtful first."""
    rows = ((entry, entry.row) for entry in entries)
    seen = [entry for entry, row in rows if row.status != Status.FAILED and not row.missing]
    return sorted(seen, key=attrgetter("rank"))[:count]


def make_pictures(
    chosen: list[PageRow], photos: Path, per_face: bool, made: datetime
) -> Iterator[tuple[PageRow, PagePicture]]:
    """Make the pictures of rows until ``MAX_TOTAL_BYTES`` are reached.

    Photos are decoded by worker processes, once each; relative paths begin in the folder
    ``photos``, and ``made`` is when the report was. With ``per_face`` a picture shows a face and
    what is around it, else the whole photo.

    Raises:
        WorkerError: the processes can't be started.
    """
    by_path: dict[str, list[PageRow]] = {}
    for entry in chosen:
        by_path.setdefault(entry.row.path, []).append(entry)
    size = 0
    limits = FileLimits()
    with (
        WorkerPool(WorkerTask(limits)) as workers,
        closing(Fetcher(limits.max_file_size)) as fetcher,
    ):
        make = partial(_make_photo_pictures, workers, fetcher, photos, per_face, made)
        with closing(thread_map(make, by_path.values(), available_cores())) as results:
            for found in results:
                for entry, picture in found:
                    size += len(picture.data)
                    if size > MAX_TOTAL_BYTES:
                        return
                    yield entry, picture


def encode_picture(photo: Photo, place: PixelBox | None) -> PagePicture:
    """Encode a photo, or the part of it around the box ``place``, without any metadata."""
    view = (
        _widen_box(place, photo) if place else (0.0, 0.0, float(photo.width), float(photo.height))
    )
    # The photo may have been decoded to less than its full size.
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
    return PagePicture(file.getvalue(), view)


def _make_photo_pictures(
    workers: WorkerPool,
    fetcher: Fetcher,
    photos: Path,
    per_face: bool,
    made: datetime,
    entries: list[PageRow],
) -> list[tuple[PageRow, PagePicture]]:
    try:
        path = parse_path_text(entries[0].row.path)
    except ValueError as error:
        return [(entry, PagePicture(note=f"No picture: {error}")) for entry in entries]
    if isinstance(path, Url):
        worked = _decode_member(path, workers, fetcher, photos)
    else:
        worked = workers.process(WorkerRequest(photos / path, salvage=True))
    return [(entry, _make_picture(entry, worked, per_face, made)) for entry in entries]


def _decode_member(url: Url, workers: WorkerPool, fetcher: Fetcher, photos: Path) -> WorkerResult:
    """Decode a photo in an archive of this machine; those elsewhere are not asked for."""
    member = split_member(url.text)
    if member is None or is_url(member[0]):
        return WorkerResult(Failure(url, Stage.READ, Reason.UNREADABLE, NOT_LOCAL))
    place = Url(build_member_url(str(photos / member[0]), member[1]))
    content = fetcher.fetch(place).content
    if isinstance(content, Failure):
        return WorkerResult(content)
    return workers.process(WorkerRequest(place, content, salvage=True))


def _make_picture(
    entry: PageRow, worked: WorkerResult, per_face: bool, made: datetime
) -> PagePicture:
    photo = worked.content
    if not isinstance(photo, Photo):
        assert isinstance(photo, Failure)
        gone = photo.reason is Reason.VANISHED
        return PagePicture(
            note=PHOTO_GONE if gone else f"No picture: {photo.reason}, {photo.detail}"
        )
    if entry.size and (photo.width, photo.height) != entry.size:
        return PagePicture(note=PHOTO_CHANGED)
    shown = encode_picture(photo, entry.box if per_face else None)
    changed = worked.state.mtime_ns if worked.state else None
    is_newer = changed is not None and changed / 1e9 > made.timestamp()
    return PagePicture(shown.data, shown.view, FILE_NEWER if is_newer else "")


def _widen_box(place: PixelBox, photo: Photo) -> PixelBox:
    """Widen a box to a square around it, and keep what of that is in the photo.

    A box may lie outside, at worst wholly: then a pixel at the edge is kept.
    """
    left, top, width, height = place
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
