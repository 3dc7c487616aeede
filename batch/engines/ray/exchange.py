"""The files that a run and its actors exchange: blocks of files to label, and parts with rows.

They lie in one folder or prefix, beside the report or named with ``--parts``:

    RUN-000000012.block    paths to label, written by the run
    RUN-000000012.parquet  the part: their rows, written by an actor
    RUN.stop               tells the actors to stop

A part has the columns of the journal. The run takes rows from the actor's reply; the next run reads
the parts of a run that was killed.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from batch.errors import OutputError
from batch.files.drafts import DRAFT_SUFFIX_PATTERN, draft_stem, open_draft, remove_abandoned
from batch.files.publish import is_streamed, resolve_path
from batch.found import FoundFile, clamp_time
from batch.journal.path import find_journal_path
from batch.limits import utc_now
from batch.location import Location, Url, is_url, parse_location
from batch.options import Job
from batch.parallel import thread_map
from batch.path_text import path_text
from batch.records import FileState, FinishedFile
from batch.row_json import pack_row, unpack_row
from batch.stores.requests import call_with_retries
from batch.stores.store import error_text, open_store, translate_store_errors

PART_SUFFIX = ".parquet"
BLOCK_SUFFIX = ".block"
STOP_SUFFIX = ".stop"
FOLDER_SUFFIX = ".parts"
# Patterns of the names of a run and of its files.
_RUN = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"
_REST = rf"(-[0-9]{{9,}}(\{PART_SUFFIX}|\{BLOCK_SUFFIX})|\{STOP_SUFFIX})"
REMEDY = "choose a folder that all machines share, or a URL, with --parts, then run again"
# Metadata of a part: its format, and the basis of its rows.
FORMAT_KEY = b"batch-label"
PART_FORMAT = b"part 2"
BASIS_KEY = b"basis"
COLUMNS = ("path", "size", "mtime_ns", "etag", "digest", "copied", "row")
# Files per block: few at first, so that every actor gets a block, then more, as each block becomes
# a part.
MIN_FILES_PER_WORKER = 32
MAX_BLOCK_FILES = 1024
# Blocks per actor before their size grows.
BLOCKS_BEFORE_GROWTH = 32
# Blocks that a lost block is split into.
PIECES_PER_LOST_BLOCK = 16

Block = Sequence[Location]
WRITER_THREADS = 16


def make_run_name() -> str:
    """Return a unique name for a run, which sorts after those of earlier runs."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def find_parts_folder(job: Job) -> tuple[Location, bool]:
    """Return the folder of a job's parts, and whether it is hidden beside the report."""
    if job.cluster.parts is not None:
        place = parse_location(job.cluster.parts)
        if isinstance(place, Path):
            return resolve_path(place), False
        return Url(place.text.rstrip("/")), False
    if is_url(job.output):
        folder, _, name = job.output.rpartition("/")
        return Url(f"{folder}/.{name}{FOLDER_SUFFIX}"), True
    journal = find_journal_path(job)
    beside = journal if journal and is_streamed(job.output) else resolve_path(Path(job.output))
    return beside.with_name(f".{beside.name}{FOLDER_SUFFIX}"), True


def part_name(run: str, number: int) -> str:
    """Name the part of a block; the names of later parts sort after those of earlier ones."""
    return f"{run}-{number:09}{PART_SUFFIX}"


def block_name(run: str, number: int) -> str:
    """Name a block of a run."""
    return f"{run}-{number:09}{BLOCK_SUFFIX}"


def stop_name(run: str) -> str:
    """Name the file that tells the actors of a run to stop."""
    return f"{run}{STOP_SUFFIX}"


def _own_name_pattern(run: str = "") -> str:
    """Return the pattern of the names of a run's files, or of those of all runs."""
    return (re.escape(run) if run else _RUN) + _REST


def _is_own_name(name: str) -> bool:
    return re.fullmatch(_own_name_pattern(), name) is not None


@dataclass(frozen=True)
class PartStore:
    """The folder or prefix for parts, which need not exist yet.

    All methods raise ``OutputError`` if it can't be read or written.

    Attributes:
        folder: path of the folder, or URL of the prefix.
        is_own: whether it is the folder beside the report, which may be removed once empty.
    """

    folder: Location
    is_own: bool = False

    def list_parts(self) -> list[str]:
        """List the names of all parts, the earliest first."""
        with self._translate_errors("listed"):
            return sorted(name for name in self._list_names() if name.endswith(PART_SUFFIX))

    def list_run_files(self, run: str = "") -> list[str]:
        """List the names of blocks and stop files, of a run or of all."""
        with self._translate_errors("listed"):
            names = (name for name in self._list_names() if name.startswith(run))
            suffixes = (BLOCK_SUFFIX, STOP_SUFFIX)
            return [name for name in names if name.endswith(suffixes) and _is_own_name(name)]

    def read(self, name: str) -> bytes:
        """Read a file."""
        with self._translate_errors("read"):
            if isinstance(self.folder, Path):
                return (self.folder / name).read_bytes()
            store, path = open_store(self.folder.text)
            data: bytes = call_with_retries(store, "cat_file", f"{path}/{name}", seconds=None)
            return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        with self._translate_errors("written"):
            if isinstance(self.folder, Path):
                self.folder.mkdir(parents=True, exist_ok=True)
                draft, stream = open_draft(self.folder, draft_stem(self.folder / name))
                try:
                    with stream:
                        stream.write(data)
                        stream.flush()
                        draft.replace(self.folder / name)  # unique, by the run's random digits
                except BaseException:
                    draft.unlink(missing_ok=True)
                    raise
                return
            store, path = open_store(self.folder.text)
            call_with_retries(store, "pipe_file", f"{path}/{name}", data, seconds=None)

    def exists(self, name: str) -> bool:
        """Whether a file exists."""
        with self._translate_errors("read"):
            if isinstance(self.folder, Path):
                return (self.folder / name).exists()
            store, path = open_store(self.folder.text)
            return bool(call_with_retries(store, "exists", f"{path}/{name}"))

    def remove(self, names: Iterable[str], run: str = "") -> None:
        """Remove files by name, and the abandoned drafts of a run or of all.

        Files with names of another pattern stay. The folder is removed if it ``is_own`` and empty.
        """
        own = filter(_is_own_name, names)
        with self._translate_errors("removed"):
            if isinstance(self.folder, Url):
                store, path = open_store(self.folder.text)
                for name in own:
                    call_with_retries(store, "rm_file", f"{path}/{name}")
                return
            for name in own:
                (self.folder / name).unlink(missing_ok=True)
            remove_abandoned(
                self.folder, re.compile(rf"\.{_own_name_pattern(run)}{DRAFT_SUFFIX_PATTERN}")
            )
            if self.is_own:
                with suppress(OSError):  # not empty
                    self.folder.rmdir()

    def _list_names(self) -> Iterable[str]:
        try:
            if isinstance(self.folder, Path):
                return [entry.name for entry in self.folder.iterdir() if entry.name[0] != "."]
            store, path = open_store(self.folder.text)
            names: list[str] = call_with_retries(store, "ls", path, detail=False)
            return [name.rpartition("/")[2] for name in names]
        except FileNotFoundError:
            return []

    @contextmanager
    def _translate_errors(self, done: str) -> Iterator[None]:
        problem = f"the parts in {path_text(self.folder)} can't be {done}"
        if isinstance(self.folder, Url):
            with translate_store_errors(problem, OutputError, REMEDY):
                yield
            return
        try:
            yield
        except OSError as error:
            raise OutputError(f"{problem} ({error_text(error)})", REMEDY) from error


@dataclass(frozen=True)
class BlockStore:
    """The blocks of a run, by number.

    All methods but ``clear`` raise ``OutputError`` if the folder can't be read or written.

    Attributes:
        parts: the folder.
        run: name of the run.
    """

    parts: PartStore
    run: str

    def write(self, blocks: Iterable[Block], first: int) -> int:
        """Write blocks, numbered from ``first`` on, and count them."""

        def write(numbered: tuple[int, Block]) -> None:
            number, block = numbered
            self.parts.write(block_name(self.run, number), pack_block(block))

        with closing(thread_map(write, enumerate(blocks, first), WRITER_THREADS)) as written:
            return sum(1 for _ in written)

    def read(self, number: int) -> Block:
        """Read a block."""
        return unpack_block(self.parts.read(block_name(self.run, number)))

    def clear(self) -> None:
        """Remove the run's blocks and stop file."""
        with suppress(OutputError):  # best effort: a later run removes the rest
            self.parts.remove(self.parts.list_run_files(self.run), self.run)


class PartError(Exception):
    """A part that can't be used; ``str()`` gives the reason."""


class BasisMismatch(PartError):
    """A part of other models or settings."""


def pack_part(finished: Sequence[FinishedFile], basis: bytes) -> bytes:
    """Write rows and file states as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = zip(*map(_to_values, finished), strict=True) if finished else ((),) * len(COLUMNS)
    table = pa.table(list(columns), schema=_schema(basis))
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def unpack_part(data: bytes, basis: bytes) -> list[FinishedFile]:
    """Read a whole part.

    Raises:
        BasisMismatch: it is of other models or settings.
        PartError: it is truncated, or not written by ``pack_part``.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(BytesIO(data))
        metadata = table.schema.metadata or {}
        if metadata.get(FORMAT_KEY) != PART_FORMAT or not table.schema.equals(_schema(basis)):
            raise PartError("it is not a part of this version")
        if metadata.get(BASIS_KEY) != basis.hex().encode():
            raise BasisMismatch("it is of other models or settings")
        return [_from_values(*values) for values in zip(*table.to_pydict().values(), strict=True)]
    except (pa.ArrowException, OSError) as error:
        raise PartError("it is truncated, or not a Parquet file") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PartError(f"it has an invalid row: {error}") from error


def _schema(basis: bytes) -> Any:
    import pyarrow as pa

    kinds = (*(pa.binary(), pa.int64(), pa.int64(), pa.string()), *(pa.binary(), pa.bool_()))
    fields = zip(COLUMNS, (*kinds, pa.binary()), strict=True)
    return pa.schema(
        list(fields), metadata={FORMAT_KEY: PART_FORMAT, BASIS_KEY: basis.hex().encode()}
    )


def _to_values(finished: FinishedFile) -> tuple[Any, ...]:
    row, state = finished.row, finished.state or FileState()
    return (
        *(os.fsencode(row.path), state.size, clamp_time(state.mtime_ns)),
        *(state.etag, state.digest, finished.copied, finished.text or pack_row(row)),
    )


def _from_values(
    path: bytes,
    size: int | None,
    mtime_ns: int | None,
    etag: str | None,
    digest: bytes | None,
    copied: bool,
    row: bytes,
) -> FinishedFile:
    if digest is not None and len(digest) != sha256().digest_size:
        raise ValueError(f"a digest of {len(digest)} bytes")
    state = FileState(size, mtime_ns, digest, etag)
    location = parse_location(os.fsdecode(path))
    unpacked = unpack_row(location, row, sha256=digest)
    return FinishedFile(unpacked, state if state != FileState() else None, copied)


def split_into_blocks(files: Iterable[Location], actors: int, workers: int) -> Iterator[Block]:
    """Divide files into blocks, whose size grows with the number of files.

    Args:
        files: the files.
        actors: the number of actors.
        workers: the concurrency limit of an actor.
    """
    rest, passed = iter(files), 0
    while block := tuple(islice(rest, _choose_size(passed, actors, workers))):
        passed += len(block)
        yield block


def split_lost_block(block: Block) -> list[Block]:
    """Divide a block whose actors died, to isolate the file that causes it."""
    size = -(-len(block) // PIECES_PER_LOST_BLOCK)
    return [block[start : start + size] for start in range(0, len(block), size)]


def pack_block(block: Block) -> bytes:
    """Write a block as a Parquet file: paths and URLs, with size, mtime and ETag of URLs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    listed = {"size": pa.int64(), "mtime_ns": pa.int64(), "etag": pa.string()}
    columns = {"path": pa.array([os.fsencode(file) for file in block], pa.binary())} | {
        name: pa.array([getattr(file, name, None) for file in block], kind)
        for name, kind in listed.items()
    }
    file = BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def unpack_block(data: bytes) -> Block:
    """Read what ``pack_block`` wrote."""
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = pq.read_table(BytesIO(data)).to_pydict()
    return tuple(
        FoundFile(os.fsdecode(path), size, mtime_ns, etag=etag).location
        for path, size, mtime_ns, etag in zip(*columns.values(), strict=True)
    )


def _choose_size(passed: int, actors: int, workers: int) -> int:
    grown = passed // (BLOCKS_BEFORE_GROWTH * actors)
    return max(MIN_FILES_PER_WORKER * workers, min(grown, MAX_BLOCK_FILES))
