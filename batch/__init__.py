"""Labels whole folders of photos: is the person happy or sad, or neither?

From Python::

    import batch

    for row in batch.label("photos/"):
        print(row.path, row.status, row.answer)

    # A label for every photo, also for one that shows no person.
    rows = batch.label(["photos/"], batch.Options(always_answer=True))

    frame = batch.to_frame(rows)
    batch.explain("photo.jpg").picture().save("why.png")
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from batch.errors import BatchLabelError
    from batch.explaining.explanation import Explanation
    from batch.options import Options, Provider
    from batch.records import Answer, Box, Failure, Reason, Region, Row, Source, Stage, Status
    from batch.sources.walk import Search

# Where the names of this package are. They are imported when they are asked for, so that the
# command, which needs few of them, starts at once.
_MODULES = {
    "batch.errors": ("BatchLabelError",),
    "batch.explaining.explanation": ("Explanation",),
    "batch.options": ("Options", "Provider"),
    "batch.records": (
        *("Answer", "Box", "Failure", "Reason", "Region", "Row", "Source", "Stage", "Status"),
    ),
    "batch.sources.walk": ("Search",),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Answer",
    "BatchLabelError",
    "Box",
    "Explanation",
    "Failure",
    "Options",
    "Provider",
    "Reason",
    "Region",
    "Row",
    "Search",
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
            return getattr(import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def label(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]], options: Options | None = None
) -> Iterator[Row]:
    """Label folders, files and glob patterns, or a single one, and yield a row per file.

    The model is opened and the paths are checked at once, before the first row is asked for.

    Raises:
        BatchLabelError: a path does not exist, or the model or provider does not work.
    """
    from batch.discover import discover
    from batch.pipeline import Pipeline

    options = options or Options()
    if isinstance(paths, str | PathLike):
        paths = [paths]
    found = discover([str(path) for path in paths], options.search, shard=options.shard)
    return Pipeline(options).run(found)


def to_frame(rows: Iterable[Row], per_face: bool = False) -> pd.DataFrame:
    """Collect rows in a pandas DataFrame with the columns of the report.

    ``per_face`` gives a row a face. See docs/report.md for the columns.
    """
    from batch.reports.frame import frame_of

    return frame_of(rows, per_face)


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
