"""The place where actors leave parts, and runs find those of runs that were cut off."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from batch.clock import utc_now
from batch.errors import OutputError
from batch.journal.place import journal_path
from batch.location import Location, Url, is_url, location_of
from batch.names import path_text
from batch.options import Job
from batch.reports.output import is_streamed
from batch.reports.publish import resolved
from batch.stores.retrying import retried
from batch.stores.store import open_store, said, store_refusals

SUFFIX = ".parquet"
BLOCK_SUFFIX = ".block"
STOP_SUFFIX = ".stop"
PLACE_SUFFIX = ".parts"
REMEDY = "name a folder that all machines share, or a URL, with --parts, then run again"


def new_run() -> str:
    """Name a run, so that its parts come after those of earlier runs and are no other run's."""
    return f"{utc_now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


def parts_place(job: Job) -> tuple[Location, bool]:
    """Find where a job's parts lie, and whether that is its own place, hidden beside the report."""
    if job.cluster.parts is not None:
        place = location_of(job.cluster.parts)
        if isinstance(place, Path):
            return resolved(place), False
        return Url(place.text.rstrip("/")), False
    if is_url(job.output):
        folder, _, name = job.output.rpartition("/")
        return Url(f"{folder}/.{name}{PLACE_SUFFIX}"), True
    journal = journal_path(job)
    beside = journal if journal and is_streamed(job.output) else resolved(Path(job.output))
    return beside.with_name(f".{beside.name}{PLACE_SUFFIX}"), True


def part_name(run: str, number: int) -> str:
    """Name a block's part: of two that have the same file, the name of the later is greater."""
    return f"{run}-{number:09}{SUFFIX}"


def block_name(run: str, number: int) -> str:
    """Name a block of files that a run has yet to label."""
    return f"{run}-{number:09}{BLOCK_SUFFIX}"


def stop_name(run: str) -> str:
    """Name the file that tells actors that their run is to end."""
    return f"{run}{STOP_SUFFIX}"


@dataclass(frozen=True)
class Parts:
    """A folder or the URL of one, which need not exist yet.

    All methods raise ``OutputError`` where the system or the store refuses.
    """

    place: Location

    def names(self) -> list[str]:
        """Name all parts, the earliest first."""
        with self._asking("listed"):
            return sorted(name for name in self._listed() if name.endswith(SUFFIX))

    def orders(self, run: str = "") -> list[str]:
        """Name what a run, or any, has left there for its actors."""
        with self._asking("listed"):
            names = (name for name in self._listed() if name.startswith(run))
            return [name for name in names if name.endswith((BLOCK_SUFFIX, STOP_SUFFIX))]

    def read(self, name: str) -> bytes:
        """Read a part's bytes."""
        with self._asking("read"):
            if isinstance(self.place, Path):
                return (self.place / name).read_bytes()
            store, path = open_store(self.place.text)
            data: bytes = retried(lambda: store.cat_file(f"{path}/{name}"))
            return data

    def write(self, name: str, data: bytes) -> None:
        """Write a part, which is there as a whole or not at all."""
        with self._asking("written"):
            if isinstance(self.place, Path):
                self.place.mkdir(parents=True, exist_ok=True)
                draft = self.place / f".{name}.tmp"
                draft.write_bytes(data)
                draft.replace(self.place / name)
                return
            store, path = open_store(self.place.text)
            retried(lambda: store.pipe_file(f"{path}/{name}", data))

    def has(self, name: str) -> bool:
        """Tell whether a part is there."""
        with self._asking("read"):
            if isinstance(self.place, Path):
                return (self.place / name).exists()
            store, path = open_store(self.place.text)
            return bool(retried(lambda: store.exists(f"{path}/{name}")))

    def remove(self, names: Iterable[str]) -> None:
        """Remove parts, and the folder if nothing else is in it."""
        with self._asking("removed"):
            if isinstance(self.place, Url):
                store, path = open_store(self.place.text)
                for name in names:
                    retried(lambda name=name: store.rm_file(f"{path}/{name}"))  # type: ignore[misc]
                return
            for name in names:
                (self.place / name).unlink(missing_ok=True)
            # What an actor had begun to write as it was killed.
            for draft in self.place.glob(f".*{SUFFIX}.tmp"):
                draft.unlink(missing_ok=True)
            with suppress(OSError):
                self.place.rmdir()

    def _listed(self) -> Iterable[str]:
        try:
            if isinstance(self.place, Path):
                return [entry.name for entry in self.place.iterdir() if entry.name[0] != "."]
            store, path = open_store(self.place.text)
            names: list[str] = retried(lambda: store.ls(path, detail=False))
            return [name.rpartition("/")[2] for name in names]
        except FileNotFoundError:
            return []

    @contextmanager
    def _asking(self, done: str) -> Iterator[None]:
        problem = f"the parts in {path_text(self.place)} can't be {done}"
        if isinstance(self.place, Url):
            with store_refusals(problem, OutputError, REMEDY):
                yield
            return
        try:
            yield
        except OSError as error:
            raise OutputError(f"{problem} ({said(error)})", REMEDY) from error
