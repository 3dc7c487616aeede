"""A dataset read back: its rows in the order in which they were written, whatever file has them."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from batch.errors import ReportError
from batch.location import Location
from batch.reading.readers import (
    REMEDY,
    ParquetReader,
    Records,
    allow_open_files,
    damage,
    picker,
    reading,
)
from batch.reports.dataset import PARTITIONS, SUCCESS, Part, contents_of, partition_of
from batch.reports.dataset_place import inside, read_success, sizes_in
from batch.reports.formats import ROW_GROUP, Format, Value, check_format
from batch.stores.download import opened

# Rows in memory of each file that is open, at least.
FEWEST_ROWS = 128


class DatasetReader:
    """A dataset of this program's that is whole, as far as the sizes of its files tell.

    A file of each status and label is open at a time; together they hold ``rows`` rows in memory,
    or ``FEWEST_ROWS`` each.

    Raises:
        ReportError: it is none, or not whole.
        UsageError: pyarrow is not installed.
    """

    unit = "row"
    is_text = False

    def __init__(self, place: Location, called: str, rows: int = ROW_GROUP) -> None:
        check_format(Format.PARQUET)
        self.called = called
        self._place = place
        parts, self._order = _whole(place, called)
        self._folders: dict[str, list[Part]] = {}
        for part in parts:
            self._folders.setdefault(part.path.rpartition("/")[0], []).append(part)
        self._rows = max(FEWEST_ROWS, rows // len(self._folders))
        self.files = len(self._folders) + 1
        with self._opened(parts[0]) as reader:
            path, *others = reader.columns
        # In files of a report, what the folders stand for follows the path.
        self.columns = (path, *PARTITIONS, *others)

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once, in the report's order: see ``RecordReader``."""
        allow_open_files(self.files, f"the {self.files} files of {self.called}")
        own = [name for name in wanted if name not in PARTITIONS] or [self.columns[0]]
        pick = picker((*PARTITIONS, *own), wanted)
        streams: dict[tuple[Value, ...], Iterator[tuple[Value, ...]]] = {}
        with ExitStack() as stack:
            order = stack.enter_context(self._opened(self._order))
            for number, key in order.records(PARTITIONS):
                if key not in streams:
                    rows = streams[key] = self._rows_of(key, own)
                    stack.callback(rows.close)
                row = next(streams[key], None)
                if row is None:
                    raise self._disordered()
                yield number, pick((*key, *row))
            if any(next(rows, None) is not None for rows in streams.values()):
                raise self._disordered()

    def _rows_of(
        self, key: tuple[Value, ...], own: Sequence[str]
    ) -> Generator[tuple[Value, ...], None, None]:
        """Give the rows of a status and label, file by file."""
        folder = partition_of(dict(zip(PARTITIONS, key, strict=True)))
        for part in self._folders.get(folder, ()):
            with self._opened(part) as reader:
                for _, row in reader.records(own):
                    yield row

    @contextmanager
    def _opened(self, part: Part) -> Iterator[ParquetReader]:
        called = f"{self.called}, file {part.path},"
        with reading(called):
            try:
                stream = opened(inside(self._place, part.path), called, ReportError)
            except FileNotFoundError as error:
                raise _torn(self.called, f"{part.path} is not there") from error
        with stream:
            reader = ParquetReader(stream, called, self._rows)
            if reader.number != part.rows:
                raise damage(called, f"it has {reader.number} rows, not {part.rows}")
            yield reader

    def _disordered(self) -> ReportError:
        return damage(self.called, "its files do not have the rows that its order names")


def success_of(place: Location, called: str) -> bytes:
    """Read the list of a dataset's files, which has their digests, so that it stands for them all.

    Raises:
        ReportError: it is missing, or can't be read.
    """
    with reading(called):
        success = read_success(place, called)
    if success is None:
        raise ReportError(
            f"{called} is no dataset, or one that was never finished: it has no {SUCCESS}", REMEDY
        )
    return success


def _whole(place: Location, called: str) -> tuple[tuple[Part, ...], Part]:
    """Give the files with the rows and the one with their order, all of them there."""
    contents = contents_of(success_of(place, called))
    if contents is None or not contents.parts:
        raise ReportError(f"{called} is no dataset of batch-label, as its {SUCCESS} tells", REMEDY)
    with reading(called):
        sizes = sizes_in(place, [part.path for part in contents.files], called)
    for part in contents.files:
        if part.path not in sizes:
            raise _torn(called, f"{part.path} is not there")
        if sizes[part.path] != part.bytes:
            raise _torn(called, f"{part.path} has {sizes[part.path]} bytes, not {part.bytes}")
    return contents.parts, contents.order


def _torn(called: str, why: str) -> ReportError:
    return ReportError(
        f"{called} is not whole: {why}",
        "try again if it was replaced just now, else write it anew",
    )
