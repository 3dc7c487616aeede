"""Labels whole folders of photos: is the person happy or sad, or neither?

From Python::

    import batch

    for row in batch.label("photos/"):
        print(row.path, row.status, row.answer)

    (row,) = batch.label(array)  # RGB, uint8 [height, width, 3]

    # A label for every photo, even if it shows no person.
    rows = batch.label(["photos/"], batch.Options(always_answer=True))

    frame = batch.to_frame(rows)
    batch.explain("photo.jpg").picture().save("why.png")
"""

from __future__ import annotations

# All imports are late, even ``typing``: the command loads this module first and must install its
# signal handlers quickly (see ``__main__``).
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from os import PathLike
    from typing import Any

    import pandas as pd

    from batch.discovery.in_memory import Picture
    from batch.errors import BatchLabelError
    from batch.explaining.explanation import Explanation
    from batch.options import FileLimits, Options, Provider, Search
    from batch.records import Answer, Box, Failure, Reason, Region, Row, Source, Stage, Status
    from batch.shard import Shard

# Names of this package by the module that defines them.
_MODULES = {
    "batch.errors": ("BatchLabelError",),
    "batch.explaining.explanation": ("Explanation",),
    "batch.options": ("FileLimits", "Options", "Provider", "Search"),
    "batch.records": (
        *("Answer", "Box", "Failure", "Reason", "Region", "Row", "Source", "Stage", "Status"),
    ),
    "batch.shard": ("Shard",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Answer",
    "BatchLabelError",
    "Box",
    "Explanation",
    "Failure",
    "FileLimits",
    "Options",
    "Provider",
    "Reason",
    "Region",
    "Row",
    "Search",
    "Shard",
    "Source",
    "Stage",
    "Status",
    "explain",
    "label",
    "to_frame",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            from importlib import import_module

            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def label(
    photos: str | PathLike[str] | Picture | Iterable[str | PathLike[str] | Picture],
    options: Options | None = None,
) -> Iterator[Row]:
    """Label photos and yield one row per file, in the order given.

    The model is opened and paths are checked immediately, before the first row is requested.

    Args:
        photos: one item or an iterable of items. Either paths: folders, files, glob patterns,
            archives and URLs, as on the command line. Or photos in memory: the bytes of a file, a
            file open in binary mode, a Pillow image, or an array, RGB uint8 [H, W, 3]. Photos in
            memory are consumed lazily, and their rows have the paths ``memory://1``,
            ``memory://2`` and so on.
        options: as on the command line, see ``Options``. ``search`` and ``shard`` are ignored for
            photos in memory.

    Raises:
        BatchLabelError: a path does not exist, or the model or provider does not work; while rows
            are read: an item is not a photo.
    """
    from itertools import chain, islice
    from os import PathLike, fsdecode

    from batch.discovery.discover import discover
    from batch.discovery.in_memory import is_picture, load_photos
    from batch.engines.local import LocalEngine
    from batch.errors import UsageError
    from batch.options import Options

    options = options or Options()
    alone = isinstance(photos, str | PathLike) or is_picture(photos)
    given: Iterator[Any] = iter([photos] if alone else photos)  # type: ignore[arg-type]
    first = list(islice(given, 1))
    if any(map(is_picture, first)):
        return LocalEngine(options).label_in_order(load_photos(chain(first, given)))
    paths = [*first, *given]
    if any(map(is_picture, paths)):
        raise UsageError("photos in memory are mixed with paths", "label them separately")
    paths = [fsdecode(path) for path in paths]
    return LocalEngine(options).label_in_order(discover(paths, options.search, shard=options.shard))


def to_frame(rows: Iterable[Row], per_face: bool = False) -> pd.DataFrame:
    """Collect rows in a pandas DataFrame with the columns of the report.

    Args:
        rows: rows from ``label``.
        per_face: whether the frame has one row per face instead of one per photo.

    Returns:
        A frame with the columns of docs/report.md.
    """
    from batch.reports.columns import make_frame

    return make_frame(rows, per_face)


def explain(path: str | PathLike[str], options: Options | None = None) -> Explanation:
    """Label one photo as ``label`` does and find the parts of it that its answer depends on.

    Args:
        path: a file, a URL, or a member of an archive (``zip://a.jpg::photos.zip``).
        options: as on the command line; ``workers`` and ``search`` are ignored.

    Returns:
        The answer and occlusion maps of the photo, see docs/explain.md.

    Raises:
        BatchLabelError: the photo can't be read or has no answer, or the model or provider
            does not work.
    """
    from batch.explaining.explainer import explain as explain_photo

    return explain_photo(path, options)
