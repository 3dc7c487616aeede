"""Labels whole folders of photos: is the person happy or sad, or neither?

From Python::

    import batch

    for row in batch.label("photos/"):
        print(row.path, row.status, row.answer)

    (row,) = batch.label(array)  # RGB, uint8 [height, width, 3]

    # A label for every photo, also for one that shows no person.
    rows = batch.label(["photos/"], batch.Options(always_answer=True))

    frame = batch.to_frame(rows)
    batch.explain("photo.jpg").picture().save("why.png")
"""

from __future__ import annotations

# Nothing is imported before it is needed, not even ``typing``: this module is loaded first as the
# command starts, which must be quick to give signals their meaning (see ``__main__``).
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

# Where the names of this package are.
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
    """Label photos, and yield a row per file in the order in which they are given.

    The model is opened and paths are checked at once, before the first row is asked for.

    Args:
        photos: folders, files, glob patterns, archives and URLs, as on the command line; or photos
            in memory: the bytes of a file, a file open in binary mode, a Pillow image, or an array,
            RGB uint8 [H, W, 3]. One of them or any number, paths or photos. Photos are taken one
            after another, as they are wanted, and their rows have the paths ``memory://1``,
            ``memory://2`` and so on.
        options: as on the command line, see ``Options``. ``search`` and ``shard`` have no meaning
            for photos in memory.

    Raises:
        BatchLabelError: a path does not exist, or the model or provider does not work; while rows
            are read, if an item is not a photo.
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
        raise UsageError("photos in memory are among paths", "label them apart")
    paths = [fsdecode(path) for path in paths]
    return LocalEngine(options).label_in_order(discover(paths, options.search, shard=options.shard))


def to_frame(rows: Iterable[Row], per_face: bool = False) -> pd.DataFrame:
    """Collect rows in a pandas DataFrame with the columns of the report.

    ``per_face`` gives a row a face. See docs/report.md for the columns.
    """
    from batch.reports.columns import make_frame

    return make_frame(rows, per_face)


def explain(path: str | PathLike[str], options: Options | None = None) -> Explanation:
    """Label one photo as ``label`` does and find out which parts of it its answer rests on.

    ``options.workers`` and ``options.search`` have no meaning here. See
    docs/explain.md for how it is found out.

    Raises:
        BatchLabelError: the photo can't be read or has no answer, or the model or provider
            does not work.
    """
    from batch.explaining.explainer import explain as explained

    return explained(path, options)
