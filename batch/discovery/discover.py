"""Discovery of photos in folders, files, patterns, lists, archives, stores and manifests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain, groupby, pairwise
from typing import BinaryIO

from batch.discovery.archive_reader import ArchiveReader
from batch.discovery.inputs import InputKind, InputResolver, StartingPoint
from batch.discovery.manifest import read_manifest
from batch.discovery.members import find_members, list_members
from batch.discovery.walk import CHECK_EVERY, FolderWalker, VisitedPaths, check_every
from batch.found import FoundFile, make_failed
from batch.location import Location, is_archive, is_url, parse_location, strip_member
from batch.options import OnSkip, Search
from batch.records import Failure, Reason
from batch.shard import Shard, ShardedFiles
from batch.stopping import StopCheck, never_stop


def discover(
    inputs: Sequence[str],
    search: Search,
    *,
    listing: BinaryIO | None = None,
    on_skip: OnSkip = lambda location, reason: None,
    shard: Shard | None = None,
) -> Iterator[Location | Failure]:
    """Yield the locations of the photos that inputs name, or of one shard of them.

    Arguments are as for ``Discovery``.

    Raises:
        InputError: as for ``Discovery``, before anything is yielded.
    """
    files: Iterable[FoundFile] = Discovery(inputs, search, listing=listing, on_skip=on_skip)
    if shard:
        files = ShardedFiles(files, shard)
    return (found.failure or found.location for found in files)


class Discovery:
    """Finds the photos that inputs name, each file once and in a stable order.

    Each iteration searches again. What an input may be:

    - A folder. A file in it is a photo by its suffix or its first bytes. Entries come in the order
      of their names' bytes.
    - A file of any name and content.
    - A pattern (``*``, ``?``, ``[...]``, ``**``), unless a file has that name.
    - An archive: its photos. An archive found by a folder, list or pattern is opened only with
      ``search.archives``, or if the pattern ends in an archive's suffix.
    - A URL of one of these, or of a list of URLs.
    - ``-``, a list on standard input, or a list file: paths and URLs, each ended by a newline or by
      NUL. A list file or manifest is read only if all inputs are lists or manifests.
    - A manifest, a ``.parquet`` file: the files in it, in its order.

    Exclude patterns apply to all of them, but a junk folder that is an input itself is searched.
    Hard links count as several files.

    Args:
        inputs: paths, patterns, URLs, or ``-``.
        search: how folders are searched, and what is excluded.
        listing: standard input for ``-``.
        on_skip: called with every entry that is skipped and the reason.
        check: called regularly; raises an exception to end the work.

    Raises:
        InputError: an input does not exist, matches nothing, or is not a manifest.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        search: Search,
        *,
        listing: BinaryIO | None = None,
        on_skip: OnSkip = lambda location, reason: None,
        check: StopCheck = never_stop,
    ) -> None:
        self._search = search
        self._on_skip = on_skip
        self._check = check
        resolver = InputResolver(search, listing, check)
        self._starts = resolver.resolve(inputs)
        self._excluded = resolver.excluded  # resolved once, reported in each iteration

    def __iter__(self) -> Iterator[FoundFile]:
        # A walk of one folder can't reach a file twice, so it keeps no set of paths.
        several = self._search.follow_symlinks or _may_overlap([s.path for s in self._starts])
        seen = VisitedPaths() if several else None
        for location, reason in self._excluded:
            self._on_skip(location, reason)
        with closing(ArchiveReader(self._check)) as reader:
            yield from check_every(CHECK_EVERY, self._check, self._search_all(seen, reader))

    def _search_all(self, seen: VisitedPaths | None, reader: ArchiveReader) -> Iterator[FoundFile]:
        for start, group in groupby(self._starts, lambda start: start._replace(path="")):
            paths = (start.path for start in group)
            opens_archives = start.opens_archives or self._search.archives
            files = self._search_group(start, paths, seen, reader)
            for file in self._search.skip_older(files, self._on_skip):
                if file.failure or not is_archive(file.path):
                    yield file
                elif opens_archives:
                    yield from self._open_archive(file, seen, reader)
                else:
                    self._on_skip(file.location, "archive")
                    if seen is not None:  # a later input may name it
                        seen.forget(file.path)

    def _open_archive(
        self, archive: FoundFile, seen: VisitedPaths | None, reader: ArchiveReader
    ) -> Iterator[FoundFile]:
        members = list_members(archive, reader, self._search, self._on_skip, self._check)
        for member in members:
            # A damaged archive has a row of its own, with the archive's path.
            if seen is None or member.path == archive.path or seen.is_new(member.path):
                yield member

    def _search_group(
        self,
        start: StartingPoint,
        paths: Iterable[str],
        seen: VisitedPaths | None,
        reader: ArchiveReader,
    ) -> Iterator[FoundFile]:
        """Search consecutive starting points that differ only in their ``paths``."""
        if start.kind is InputKind.LOCAL:
            walker = FolderWalker(self._search, self._on_skip, seen, self._check, start.base)
            return walker.walk(paths, start.enters_folders)
        found: Iterable[FoundFile]
        if start.kind is InputKind.MANIFEST:
            found = self._skip_excluded(chain.from_iterable(map(read_manifest, paths)))
        elif start.kind is InputKind.MEMBER:
            found = find_members(paths, reader, self._check)
        elif start.kind is InputKind.MIXED:
            detail = (
                "a manifest or list among other inputs is not read: give lists without other inputs"
            )
            found = (make_failed(path, Reason.NOT_AN_IMAGE, detail) for path in paths)
        elif start.kind is InputKind.REFUSED:
            found = (make_failed(path, Reason.UNREADABLE, start.detail) for path in paths)
        elif start.kind is InputKind.DUPLICATE_URL:
            found = ()
            for path in paths:
                self._on_skip(parse_location(path), "same URL with another signature")
        else:
            # Imported here, as it loads the stores' clients.
            from batch.discovery.remote import list_urls

            found = list_urls(
                paths, self._search, self._on_skip, self._check, start.base, start.enters_folders
            )
        return (file for file in found if seen is None or seen.is_new(file.path))

    def _skip_excluded(self, files: Iterable[FoundFile]) -> Iterator[FoundFile]:
        for file in files:
            reason = self._search.exclusion.match_listed(file.path)
            if reason:
                self._on_skip(file.location, reason)
            else:
                yield file


def _may_overlap(starts: Sequence[str]) -> bool:
    """Return whether two of the starting points may reach the same file."""
    if not all(map(is_url, starts)):
        return len(starts) > 1
    folders = sorted(f"{strip_member(start).rstrip('/')}/" for start in starts)
    return any(later.startswith(first) for first, later in pairwise(folders))
