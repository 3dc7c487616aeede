"""What an actor leaves of a block: a Parquet file with what the journal keeps of each file."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from batch.errors import OutputError
from batch.files.drafts import DRAFT_SUFFIX_PATTERN, draft_stem, open_draft, remove_abandoned
from batch.files.publish import is_streamed, resolve_path
from batch.found import clamp_time
from batch.journal.path import find_journal_path
from batch.limits import utc_now
from batch.location import Location, Url, is_url, parse_location
from batch.options import Job
from batch.path_text import path_text
from batch.records import FileState, FinishedFile
from batch.row_json import pack_row, unpack_row
from batch.stores.requests import call_with_retries
from batch.stores.store import error_text, open_store, translate_store_errors

# In the file's metadata: what it is, and what its answers depend on.
FORMAT_KEY = b"batch-label"
PART_FORMAT = b"part 2"
BASIS_KEY = b"basis"
COLUMNS = ("path", "size", "mtime_ns", "etag", "digest", "copied", "row")


class PartError(Exception):
    """A part that is not to be used; ``str()`` of it says why."""


class BasisMismatch(PartError):
    """A part of other models or settings."""


def pack_part(finished: Sequence[FinishedFile], basis: bytes) -> bytes:
    """Write what is known of files as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = zip(*map(_to_values, finished), strict=True) if finished else ((),) * len(COLUMNS)
    table = pa.table(list(columns), schema=_schema(basis))
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def unpack_part(data: bytes, basis: bytes) -> list[FinishedFile]:
    """Read a part back as a whole.

    Raises:
        OtherBasis: its answers depend on something else.
        PartError: it is torn, or nothing that ``pack_part`` wrote.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(BytesIO(data))
        metadata = table.schema.metadata or {}
        if metadata.get(FORMAT_KEY) != PART_FORMAT or not table.schema.equals(_schema(basis)):
            raise PartError("it is no part of this version")
        if metadata.get(BASIS_KEY) != basis.hex().encode():
            raise BasisMismatch("it is of other models or settings")
        return [_from_values(*values) for values in zip(*table.to_pydict().values(), strict=True)]
    except (pa.ArrowException, OSError) as error:
        raise PartError("it is torn, or no Parquet file") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PartError(f"a row in it makes no sense: {error}") from error


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
    return FinishedFile(unpack_row(location, row), state if state != FileState() else None, copied)


# == The place where actors leave parts, and runs find those of runs that were cut off.

PART_SUFFIX = ".parquet"
BLOCK_SUFFIX = ".block"
STOP_SUFFIX = ".stop"
FOLDER_SUFFIX = ".parts"
# The names that ``part_name``, ``block_name`` and ``stop_name`` make.
_RUN = r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}"
_REST = rf"(-[0-9]{{9,}}(\{PART_SUFFIX}|\{BLOCK_SUFFIX})|\{STOP_SUFFIX})"
REMEDY = "name a folder that all machines share, or a URL, with --parts, then run again"


def make_run_name() -> str:
    """Name a run, so that its parts come after those of earlier runs and are no other run's."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def find_parts_folder(job: Job) -> tuple[Location, bool]:
    """Find where a job's parts lie, and whether that is its own place, hidden beside the report."""
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
    """Name a block's part: of two that have the same file, the name of the later is greater."""
    return f"{run}-{number:09}{PART_SUFFIX}"


def block_name(run: str, number: int) -> str:
    """Name a block of files that a run has yet to label."""
    return f"{run}-{number:09}{BLOCK_SUFFIX}"


def stop_name(run: str) -> str:
    """Name the file that tells actors that their run is to end."""
    return f"{run}{STOP_SUFFIX}"


def _own_name_pattern(run: str = "") -> str:
    """Give the pattern of the names that a run, or any, gives to files in its place."""
    return (re.escape(run) if run else _RUN) + _REST


def _is_own_name(name: str) -> bool:
    return re.fullmatch(_own_name_pattern(), name) is not None


@dataclass(frozen=True)
class PartStore:
    """A folder or the URL of one, which need not exist yet.

    ``is_own`` is the place beside the report, which no user has named: only that folder is ever
    removed. All methods raise ``OutputError`` where the system or the store refuses.
    """

    place: Location
    is_own: bool = False

    def list_parts(self) -> list[str]:
        """Name all parts, the earliest first."""
        with self._translate_errors("listed"):
            return sorted(name for name in self._list_names() if name.endswith(PART_SUFFIX))

    def list_run_files(self, run: str = "") -> list[str]:
        """Name what a run, or any, has left there for its actors."""
        with self._translate_errors("listed"):
            names = (name for name in self._list_names() if name.startswith(run))
            orders = (BLOCK_SUFFIX, STOP_SUFFIX)
            return [name for name in names if name.endswith(orders) and _is_own_name(name)]

    def read(self, name: str) -> bytes:
        """Read a part's bytes."""
        with self._translate_errors("read"):
            if isinstance(self.place, Path):
                return (self.place / name).read_bytes()
            store, path = open_store(self.place.text)
            data: bytes = call_with_retries(store, "cat_file", f"{path}/{name}", seconds=None)
            return data

    def write(self, name: str, data: bytes) -> None:
        """Write a part, which is there as a whole or not at all."""
        with self._translate_errors("written"):
            if isinstance(self.place, Path):
                self.place.mkdir(parents=True, exist_ok=True)
                draft, stream = open_draft(self.place, draft_stem(self.place / name))
                try:
                    with stream:
                        stream.write(data)
                        stream.flush()
                        draft.replace(self.place / name)  # a name that has a run's random digits
                except BaseException:
                    draft.unlink(missing_ok=True)  # made above
                    raise
                return
            store, path = open_store(self.place.text)
            call_with_retries(store, "pipe_file", f"{path}/{name}", data, seconds=None)

    def exists(self, name: str) -> bool:
        """Tell whether a part is there."""
        with self._translate_errors("read"):
            if isinstance(self.place, Path):
                return (self.place / name).exists()
            store, path = open_store(self.place.text)
            return bool(call_with_retries(store, "exists", f"{path}/{name}"))

    def remove(self, names: Iterable[str], run: str = "") -> None:
        """Remove parts, and the drafts of parts that killed actors of a run, or of any, have left.

        Only what has a name of this program's goes; ``drafts`` says when a draft is nobody's. The
        folder goes too if it ``is_own`` and nothing else is in it.
        """
        own = filter(_is_own_name, names)
        with self._translate_errors("removed"):
            if isinstance(self.place, Url):
                store, path = open_store(self.place.text)
                for name in own:
                    call_with_retries(store, "rm_file", f"{path}/{name}")
                return
            for name in own:
                (self.place / name).unlink(missing_ok=True)
            remove_abandoned(
                self.place, re.compile(rf"\.{_own_name_pattern(run)}{DRAFT_SUFFIX_PATTERN}")
            )
            if self.is_own:
                with suppress(OSError):  # not empty
                    self.place.rmdir()

    def _list_names(self) -> Iterable[str]:
        try:
            if isinstance(self.place, Path):
                return [entry.name for entry in self.place.iterdir() if entry.name[0] != "."]
            store, path = open_store(self.place.text)
            names: list[str] = call_with_retries(store, "ls", path, detail=False)
            return [name.rpartition("/")[2] for name in names]
        except FileNotFoundError:
            return []

    @contextmanager
    def _translate_errors(self, done: str) -> Iterator[None]:
        problem = f"the parts in {path_text(self.place)} can't be {done}"
        if isinstance(self.place, Url):
            with translate_store_errors(problem, OutputError, REMEDY):
                yield
            return
        try:
            yield
        except OSError as error:
            raise OutputError(f"{problem} ({error_text(error)})", REMEDY) from error
