"""Which files a run looks at: folders, files, patterns and lists of paths, each file once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import chain, groupby, pairwise
from pathlib import Path
from typing import BinaryIO

from batch.errors import InputError
from batch.location import WILDCARDS, Location, Url, is_archive, is_url, location_of
from batch.records import Failure
from batch.sharding.manifest import check_manifest, is_manifest, read_manifest
from batch.sharding.shard import Shard, Sharded
from batch.sources.seen import Seen
from batch.sources.walk import Explorer, Found, LeftOut, Search
from batch.stores.waiting import Check, never_stop

LIST = "-"
# Of files elsewhere that list others. One on this machine can be piped in.
LIST_SUFFIXES = (".txt", ".lst")


def discover(
    inputs: Sequence[str],
    search: Search,
    *,
    listing: BinaryIO | None = None,
    left_out: LeftOut = lambda path, why: None,
    shard: Shard | None = None,
) -> Iterator[Location | Failure]:
    """Find the photos that the inputs stand for: a ``Survey``'s files by their paths alone.

    With ``shard`` they are those of one shard.

    Raises:
        InputError: as ``Survey`` does, before anything is yielded.
    """
    survey = Survey(inputs, search, listing=listing, left_out=left_out)
    files = Sharded(survey, shard) if shard else survey
    return (found.failure or found.location for found in files)


class Survey:
    """Finds the photos that inputs stand for, each file once and in a stable order.

    An input is a folder, a file, a pattern (``*``, ``?``, ``[...]``, ``**``; only where no
    file has that very name), a URL of one of these or of a list of URLs, or ``-`` for a list of
    paths and URLs on ``listing``, which ends each with a newline or with NUL. An archive stands
    for the photos in it, and a manifest (a file whose name ends in ``.parquet``) for those that it
    lists, in its order. What is named by itself is found whatever it holds. In a folder a file is
    found for its suffix or its first bytes, and any other entry is told to ``left_out`` with the
    reason. A folder's entries come in the order of their names' bytes. Hard links are files of
    their own. Every iteration looks anew.

    Raises:
        InputError: an input does not exist or matches nothing, or is no manifest.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        search: Search,
        *,
        listing: BinaryIO | None = None,
        left_out: LeftOut = lambda path, why: None,
        check: Check = never_stop,
    ) -> None:
        self._starts = [start for text in inputs for start in _starts(text, search, listing, check)]
        for start in filter(is_manifest, self._starts):
            check_manifest(start)
        self._search = search
        self._left_out = left_out
        self._check = check

    def __iter__(self) -> Iterator[Found]:
        # A lone folder can't reach a file twice, so a tree of any size needs no memory.
        several = self._search.follow_symlinks or _may_overlap(self._starts)
        seen = Seen() if several else None
        for file in self._reached(self._starts, seen):
            if file.failure is None and is_archive(file.path):
                from batch.sources.members import members_of

                yield from members_of(file, self._search, self._left_out, self._check)
            else:
                yield file

    def _reached(self, starts: Iterable[str], seen: Seen | None) -> Iterator[Found]:
        for kind, group in groupby(starts, _kind):
            if kind is Kind.LOCAL:
                yield from Explorer(self._search, self._left_out, seen).explore(group)
                continue
            found: Iterator[Found]
            if kind is Kind.MANIFEST:
                found = chain.from_iterable(map(read_manifest, group))
            else:
                # Here, as it loads clients, which a run on this machine's files does without.
                from batch.sources.listing import reach

                found = reach(group, self._search, self._left_out, self._check)
            yield from (f for f in found if seen is None or seen.is_new(f.path))


class Kind(Enum):
    """How an input is looked into."""

    LOCAL = auto()
    REMOTE = auto()
    MANIFEST = auto()


def _kind(start: str) -> Kind:
    if is_manifest(start):
        return Kind.MANIFEST
    return Kind.REMOTE if is_url(start) else Kind.LOCAL


def _may_overlap(starts: Sequence[str]) -> bool:
    """Tell whether a file might be reached from two of the starts."""
    if not all(map(is_url, starts)):
        return len(starts) > 1
    folders = sorted(f"{start.rstrip('/')}/" for start in starts)
    return any(later.startswith(first) for first, later in pairwise(folders))


def _starts(text: str, search: Search, listing: BinaryIO | None, check: Check) -> list[str]:
    if text == LIST:
        if listing is None:
            raise InputError("'-' stands for a list of paths, but there is none", "pipe one in")
        return _listed(listing.read())
    location = location_of(text)
    if isinstance(location, Url):
        from batch.sources.listing import listed_in, matches

        return (
            listed_in(text, check)
            if text.lower().endswith(LIST_SUFFIXES)
            else matches(text, search.hidden, check)
        )
    if is_url(text):  # file://, a path of this machine
        text = os.fspath(location)
    try:
        os.stat(text)  # noqa: PTH116 - Path("") would be the current folder
    except OSError as error:
        if WILDCARDS.isdisjoint(text):
            raise InputError(
                f"input {text!r} can't be found ({error.strerror})",
                "check the spelling, and that its disk is mounted",
            ) from error
        return _matches(text, search)
    return [text]


def _listed(text: bytes) -> list[str]:
    # A name may hold a newline or end with a CR, so what NULs separate is taken to the letter.
    if b"\0" in text:
        entries = text.split(b"\0")
    else:
        entries = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    return [os.fsdecode(entry) for entry in entries if entry]


def _matches(pattern: str, search: Search) -> list[str]:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if not WILDCARDS.isdisjoint(part))
    hidden = search.hidden or any(part.startswith(".") for part in parts[fixed:])
    try:
        # Unlike glob.glob, Path.glob follows no link to a folder, so link loops end.
        found = [
            os.fspath(path)
            for path in Path(*parts[:fixed]).glob("/".join(parts[fixed:]))
            if hidden or not any(part.startswith(".") for part in path.parts[fixed:])
        ]
    except ValueError as error:
        raise InputError(
            f"pattern {pattern!r} is wrong ({error})", "write ** between slashes, or quote less"
        ) from error
    if not found:
        raise InputError(f"no file matches {pattern!r}", "check the pattern and the folder")
    return sorted(found, key=os.fsencode)
