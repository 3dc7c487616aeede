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
    damage_error,
    make_picker,
    translate_read_errors,
)
from batch.reports.dataset import (
    PARTITIONS,
    SUCCESS_FILE,
    DatasetFile,
    parse_success,
    partition_path,
)
from batch.reports.dataset_place import join_location, read_sizes, read_success
from batch.reports.formats import ROW_GROUP_ROWS, Format, Value, check_format
from batch.stores.download import open_location

# Rows in memory of each file that is open, at least.
MIN_ROWS_PER_FILE = 128


class DatasetReader:
    """A dataset of this program's that is whole, as far as the sizes of its files tell.

    A file of each status and label is open at a time; together they hold ``rows`` rows in memory,
    or ``MIN_ROWS_PER_FILE`` each.

    Raises:
        ReportError: it is none, or not whole.
        UsageError: pyarrow is not installed.
    """

    unit = "row"
    is_text = False

    def __init__(self, place: Location, display_name: str, rows: int = ROW_GROUP_ROWS) -> None:
        check_format(Format.PARQUET)
        self.display_name = display_name
        self._place = place
        parts, self._order = _check_complete(place, display_name)
        self._folders: dict[str, list[DatasetFile]] = {}
        for part in parts:
            self._folders.setdefault(part.path.rpartition("/")[0], []).append(part)
        self._rows = max(MIN_ROWS_PER_FILE, rows // len(self._folders))
        self.files = len(self._folders) + 1
        with self._open_file(parts[0]) as reader:
            path, *others = reader.columns
        # In files of a report, what the folders stand for follows the path.
        self.columns = (path, *PARTITIONS, *others)

    def records(self, wanted: Sequence[str]) -> Records:
        """Give the records once, in the report's order: see ``RecordReader``."""
        allow_open_files(self.files, f"the {self.files} files of {self.display_name}")
        own = [name for name in wanted if name not in PARTITIONS] or [self.columns[0]]
        pick = make_picker((*PARTITIONS, *own), wanted)
        streams: dict[tuple[Value, ...], Iterator[tuple[Value, ...]]] = {}
        with ExitStack() as stack:
            order = stack.enter_context(self._open_file(self._order))
            for number, key in order.records(PARTITIONS):
                if key not in streams:
                    rows = streams[key] = self._read_rows(key, own)
                    stack.callback(rows.close)
                row = next(streams[key], None)
                if row is None:
                    raise self._order_error()
                yield number, pick((*key, *row))
            if any(next(rows, None) is not None for rows in streams.values()):
                raise self._order_error()

    def _read_rows(
        self, key: tuple[Value, ...], own: Sequence[str]
    ) -> Generator[tuple[Value, ...], None, None]:
        """Give the rows of a status and label, file by file."""
        folder = partition_path(dict(zip(PARTITIONS, key, strict=True)))
        for part in self._folders.get(folder, ()):
            with self._open_file(part) as reader:
                for _, row in reader.records(own):
                    yield row

    @contextmanager
    def _open_file(self, part: DatasetFile) -> Iterator[ParquetReader]:
        display_name = f"{self.display_name}, file {part.path},"
        with translate_read_errors(display_name):
            try:
                stream = open_location(
                    join_location(self._place, part.path), display_name, ReportError
                )
            except FileNotFoundError as error:
                raise _incomplete_error(self.display_name, f"{part.path} is not there") from error
        with stream:
            reader = ParquetReader(stream, display_name, self._rows)
            if reader.row_count != part.rows:
                raise damage_error(display_name, f"it has {reader.row_count} rows, not {part.rows}")
            yield reader

    def _order_error(self) -> ReportError:
        return damage_error(
            self.display_name, "its files do not have the rows that its order names"
        )


def require_success(place: Location, display_name: str) -> bytes:
    """Read the list of a dataset's files, which has their digests, so that it stands for them all.

    Raises:
        ReportError: it is missing, or can't be read.
    """
    with translate_read_errors(display_name):
        success = read_success(place, display_name)
    if success is None:
        raise ReportError(
            f"{display_name} is no dataset, or one that was never finished: it has no {SUCCESS_FILE}",
            REMEDY,
        )
    return success


def _check_complete(
    place: Location, display_name: str
) -> tuple[tuple[DatasetFile, ...], DatasetFile]:
    """Give the files with the rows and the one with their order, all of them there."""
    contents = parse_success(require_success(place, display_name))
    if contents is None or not contents.parts:
        raise ReportError(
            f"{display_name} is no dataset of batch-label, as its {SUCCESS_FILE} tells", REMEDY
        )
    with translate_read_errors(display_name):
        sizes = read_sizes(place, [part.path for part in contents.files], display_name)
    for part in contents.files:
        if part.path not in sizes:
            raise _incomplete_error(display_name, f"{part.path} is not there")
        if sizes[part.path] != part.bytes:
            raise _incomplete_error(
                display_name, f"{part.path} has {sizes[part.path]} bytes, not {part.bytes}"
            )
    return contents.parts, contents.order


def _incomplete_error(display_name: str, why: str) -> ReportError:
    return ReportError(
        f"{display_name} is not whole: {why}",
        "try again if it was replaced just now, else write it anew",
    )
