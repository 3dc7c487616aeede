"""Which files a run looks at: folders, files, patterns and lists of paths, each file once."""

from __future__ import annotations

import codecs
import os
import select
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from enum import Enum, auto
from itertools import chain, groupby, pairwise
from pathlib import Path
from posixpath import splitext
from stat import S_ISDIR
from typing import BinaryIO, NamedTuple

from batch.discovery.archive_reader import ArchiveReader
from batch.discovery.manifest import check_manifest, is_manifest, read_manifest
from batch.discovery.members import find_members, list_members
from batch.discovery.pattern import expand_pattern
from batch.discovery.walk import CHECK_EVERY, FolderWalker, VisitedPaths, check_every, read_head
from batch.errors import InputError
from batch.file_types import is_image
from batch.files.regular_file import open_regular
from batch.found import FoundFile, make_failed
from batch.location import (
    WILDCARDS,
    Location,
    Url,
    hide_secrets,
    is_archive,
    is_url,
    parse_location,
    parse_scheme,
    restore_secrets,
    split_member,
    strip_member,
)
from batch.options import OnSkip, Search
from batch.os_errors import describe_failed_access, is_denied
from batch.path_text import printable_text
from batch.records import Failure, Reason
from batch.shard import Shard, ShardedFiles
from batch.stopping import StopCheck, never_stop

STDIN_LIST = "-"
# Of files that list others.
LIST_SUFFIXES = (".txt", ".lst")
_READ_BYTES = 1 << 20  # bytes of a list
_POLL_SECONDS = 0.1  # seconds that a list is waited for at a time
_UTF16 = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
# Paths are longer than a character, so NULs between them are fewer.
_MIN_NUL_SHARE = 0.7


def discover(
    inputs: Sequence[str],
    search: Search,
    *,
    listing: BinaryIO | None = None,
    on_skip: OnSkip = lambda path, why: None,
    shard: Shard | None = None,
) -> Iterator[Location | Failure]:
    """Find the photos that the inputs stand for: a ``Discovery``'s files by their paths alone.

    With ``shard`` they are those of one shard.

    Raises:
        InputError: as ``Discovery`` does, before anything is yielded.
    """
    survey = Discovery(inputs, search, listing=listing, on_skip=on_skip)
    files = ShardedFiles(survey, shard) if shard else survey
    return (found.failure or found.location for found in files)


class InputKind(Enum):
    """How an input is looked into."""

    LOCAL = auto()
    REMOTE = auto()
    MEMBER = auto()
    MANIFEST = auto()
    MIXED = auto()
    REFUSED = auto()
    DUPLICATE_URL = auto()


class StartingPoint(NamedTuple):
    """Where to look, which is an input or comes out of one.

    Whoever adds photos chooses what a pattern or a list gives. So a manifest or list, which names
    any path, is what the user has named, and nothing else; and what is an archive is looked into
    (``opens_archives``) only if the user has said so. A list of all files that were found has their folders
    as well, and one may have a stray line, so that a folder in it is looked into (``enters_folders``) only
    if it ends in a slash. ``why`` tells why a line is refused. Exclude patterns are relative to
    ``base``, a folder above; None for ``path`` itself.
    """

    path: str
    kind: InputKind
    opens_archives: bool = False
    enters_folders: bool = True
    why: str = ""
    base: str | None = None


class Discovery:
    """Finds the photos that inputs stand for, each file once and in a stable order.

    An input is a folder, a file, a pattern (``*``, ``?``, ``[...]``, ``**``; only where no
    file has that very name), a URL of one of these or of a list of URLs, or ``-`` for a list of
    paths and URLs on ``listing``, which ends each with a newline or with NUL. A file whose name
    ends as a list's does is one, if all inputs are lists or manifests and it is no image. An
    archive that is named stands for the photos in it; one out of a list or pattern does if
    ``search`` or the pattern's end says so. A manifest (a file whose name ends in ``.parquet``)
    stands for the files that it lists, in its order, if all inputs are lists or manifests. What is
    named by itself is found whatever it holds. In a folder a file is found for its suffix or its
    first bytes, and any other entry is passed to ``on_skip`` with the reason. What the search
    excludes is left out wherever it comes from, but for junk folders that are named by themselves.
    A folder's entries come in the order of their names' bytes. Hard links are files of their own.
    Every iteration looks anew. ``check`` is called again and again, and may end it all by an
    exception.

    Raises:
        InputError: an input does not exist or matches nothing, or is no manifest.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        search: Search,
        *,
        listing: BinaryIO | None = None,
        on_skip: OnSkip = lambda path, why: None,
        check: StopCheck = never_stop,
    ) -> None:
        self._search = search
        self._on_skip = on_skip
        self._check = check
        # By a pattern or list: what is there is found out once, and told in every iteration.
        self._excluded: list[tuple[Location, str]] = []
        self._signed: dict[str, str] = {}  # URLs as they were given first, by their names
        names = [hide_secrets(text) for text in inputs]
        alone = all(_is_manifest(name) or _is_local_list(name) for name in names)
        self._starts = []
        given: set[str] = set()
        for name in names:
            # The first signature was hidden when its URL was read: the two can't be compared.
            if name in given and restore_secrets(strip_member(name)) != strip_member(name):
                self._starts.append(StartingPoint(name, InputKind.DUPLICATE_URL))
            else:
                self._starts += self._resolve_input(name, alone, listing)
            given.add(name)

    def __iter__(self) -> Iterator[FoundFile]:
        # A lone folder can't reach a file twice, so a tree of any size needs no memory.
        several = self._search.follow_symlinks or _may_overlap([s.path for s in self._starts])
        seen = VisitedPaths() if several else None
        for location, why in self._excluded:
            self._on_skip(location, why)
        with closing(ArchiveReader(self._check)) as reader:
            yield from check_every(CHECK_EVERY, self._check, self._walk_starts(seen, reader))

    def _walk_starts(self, seen: VisitedPaths | None, reader: ArchiveReader) -> Iterator[FoundFile]:
        for group_start, group in groupby(self._starts, lambda start: start._replace(path="")):
            opens = group_start.opens_archives
            paths = (start.path for start in group)
            reached = self._list_files(group_start, paths, seen, reader)
            for file in self._search.skip_older(reached, self._on_skip):
                if file.failure or not is_archive(file.path):
                    yield file
                elif opens or self._search.archives:
                    members = list_members(file, reader, self._search, self._on_skip, self._check)
                    yield from (
                        member
                        for member in members
                        # Of one that is damaged there is a row of itself, too.
                        if seen is None or member.path == file.path or seen.is_new(member.path)
                    )
                else:
                    self._on_skip(file.location, "archive")
                    if seen is not None:  # it may still be named
                        seen.forget(file.path)

    def _list_files(
        self,
        group_start: StartingPoint,
        paths: Iterable[str],
        seen: VisitedPaths | None,
        reader: ArchiveReader,
    ) -> Iterator[FoundFile]:
        kind, enters = group_start.kind, group_start.enters_folders
        if kind is InputKind.LOCAL:
            explorer = FolderWalker(
                self._search, self._on_skip, seen, self._check, group_start.base
            )
            return explorer.walk(paths, enters)
        found: Iterable[FoundFile]
        if kind is InputKind.MANIFEST:
            found = self._drop_excluded(chain.from_iterable(map(read_manifest, paths)))
        elif kind is InputKind.MEMBER:
            found = find_members(paths, reader, self._check)
        elif kind is InputKind.MIXED:
            detail = "a manifest or list among other inputs is not read: give it alone"
            found = (make_failed(path, Reason.NOT_AN_IMAGE, detail) for path in paths)
        elif kind is InputKind.REFUSED:
            found = (make_failed(path, Reason.UNREADABLE, group_start.why) for path in paths)
        elif kind is InputKind.DUPLICATE_URL:
            found = ()
            for path in paths:
                self._on_skip(parse_location(path), "same URL with another signature")
        else:
            # Here, as it loads clients, which a run on this machine's files does without.
            from batch.discovery.listing import list_urls

            found = list_urls(
                paths, self._search, self._on_skip, self._check, group_start.base, enters
            )
        return (file for file in found if seen is None or seen.is_new(file.path))

    def _drop_excluded(self, files: Iterable[FoundFile]) -> Iterator[FoundFile]:
        for file in files:
            why = self._search.exclusion.match_listed(file.path)
            if why:
                self._on_skip(file.location, why)
            else:
                yield file

    def _skip_if_excluded(self, path: str, why: str | None) -> bool:
        if why:
            self._excluded.append((parse_location(path), why))
        return why is not None

    def _is_duplicate_url(self, given: str, name: str) -> bool:
        """Tell whether a URL differs from an earlier one in nothing that is part of its name.

        The same photo has one row; but it may be another, whose URL is to be looked for.
        """
        return given != name and self._signed.setdefault(name, given) != given

    def _resolve_named(self, text: str, kind: InputKind, is_folder: bool) -> list[StartingPoint]:
        name = text.rstrip("/").rpartition("/")[2]
        why = self._search.exclusion.match_named(name, folder=is_folder)
        return (
            []
            if self._skip_if_excluded(text, why)
            else [StartingPoint(text, kind, opens_archives=True)]
        )

    def _resolve_lines(self, lines: Iterable[str]) -> list[StartingPoint]:
        """Tell what the lines of a list stand for."""
        starts = []
        why_excluded = self._search.exclusion.match_listed
        for line in lines:
            path = os.fspath(parse_location(line)) if "://" in line else line
            if self._skip_if_excluded(path, why_excluded(path)):
                continue
            kind = _classify_path(path)
            if kind is not InputKind.LOCAL and self._is_duplicate_url(line, path):
                kind = InputKind.DUPLICATE_URL
            enters = line.endswith("/") and not line.endswith("://")
            enters = enters and (kind is not InputKind.LOCAL or not _is_root(path))
            starts.append(StartingPoint(path, kind, enters_folders=enters))
        return starts

    def _resolve_input(
        self, text: str, alone: bool, listing: BinaryIO | None
    ) -> list[StartingPoint]:
        if _is_manifest(text):
            return _resolve_manifest(text, alone)
        if _is_local_list(text):
            path = os.fspath(parse_location(text))
            return self._read_list(path) if alone else [StartingPoint(path, InputKind.MIXED)]
        if text == STDIN_LIST:
            if listing is None:
                raise InputError("'-' stands for a list of paths, but there is none", "pipe one in")
            return self._resolve_lines(_split_lines(_read_to_end(listing, self._check)))
        return self._resolve_path(text)

    def _read_list(self, path: str) -> list[StartingPoint]:
        try:
            with open_regular(path) as file:
                return self._resolve_lines(_split_lines(_read_to_end(file, self._check)))
        except OSError as error:
            raise InputError(
                f"list {printable_text(path)} can't be read ({error.strerror})", "check its rights"
            ) from error

    def _resolve_path(self, text: str) -> list[StartingPoint]:
        location = parse_location(text)
        if isinstance(location, Url):
            return self._resolve_url(text)
        if is_url(text):  # file://, a path of this machine
            text = os.fspath(location)
        try:
            status = os.stat(text)  # noqa: PTH116 - Path("") would be the current folder
        except OSError as error:
            is_pattern = not WILDCARDS.isdisjoint(text)
            if is_denied(error) and not is_pattern:
                raise InputError(
                    describe_failed_access(f"input {text!r}", "found", error, text),
                    "run as a user who may enter that folder, or change its mode or owner",
                ) from error
            if not is_pattern:
                raise InputError(
                    f"input {text!r} can't be found ({error.strerror})",
                    "check the spelling, and that its disk is mounted",
                ) from error
            opens = is_archive(text)
            base, matching = expand_pattern(text, self._search, self._skip_if_excluded, self._check)
            return [StartingPoint(path, InputKind.LOCAL, opens, base=base) for path in matching]
        return self._resolve_named(text, InputKind.LOCAL, S_ISDIR(status.st_mode))

    def _resolve_url(self, url: str) -> list[StartingPoint]:
        from batch.discovery.listing import expand_url_pattern, read_url_list

        if split_member(url):
            with closing(ArchiveReader(self._check)) as reader:
                (found,) = find_members([url], reader, self._check)
            if found.failure:
                raise InputError(
                    f"input {printable_text(url)} can't be found ({found.failure.detail})",
                    "check the spelling, and that the archive is whole",
                )
            return [StartingPoint(url, InputKind.MEMBER)]
        if url.lower().endswith(LIST_SUFFIXES):
            lines = read_url_list(url, self._check)
            return [
                start
                for line, why in lines
                for start in (
                    [StartingPoint(line, InputKind.REFUSED, why=why)]
                    if why
                    else self._resolve_lines([line])
                )
            ]
        matching = expand_url_pattern(url, self._search.hidden, self._check)
        if matching == [url]:
            return self._resolve_named(url, InputKind.REMOTE, is_folder=not splitext(url)[1])
        base = _find_fixed_prefix(url)
        why = self._search.exclusion.match_path
        kept = (
            p for p in matching if not self._skip_if_excluded(p, why(p[len(base) :], folder=True))
        )
        return [StartingPoint(path, InputKind.REMOTE, is_archive(url), base=base) for path in kept]


def _is_manifest(text: str) -> bool:
    """Tell whether an input, as it was given, names a manifest and nothing else."""
    location = parse_location(text)
    if isinstance(location, Path):
        return is_manifest(os.fspath(location))
    is_pattern = not WILDCARDS.isdisjoint(text) and not parse_scheme(text).startswith("http")
    return is_manifest(text) and not is_pattern and split_member(text) is None


def _is_local_list(text: str) -> bool:
    """Tell whether an input names a list of paths on this machine."""
    location = parse_location(text)
    if isinstance(location, Url) or not text.lower().endswith(LIST_SUFFIXES):
        return False
    try:
        return not is_image(read_head(os.fspath(location)))
    except OSError:  # there is none, or whoever reads it learns why not
        return os.path.isfile(location)  # noqa: PTH113


def _resolve_manifest(text: str, alone: bool) -> list[StartingPoint]:
    location = parse_location(text)
    path = os.fspath(location)
    if alone:
        check_manifest(path)
    return [
        StartingPoint(path, InputKind.MANIFEST if alone else InputKind.MIXED, opens_archives=True)
    ]


def _is_root(path: str) -> bool:
    try:
        return os.path.samefile(path, "/")  # noqa: PTH121
    except OSError:
        return False


def _find_fixed_prefix(pattern: str) -> str:
    """Give what a pattern of URLs has before the first part with a wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if not WILDCARDS.isdisjoint(part))
    return "".join(f"{part}/" for part in parts[:first])


def _classify_path(path: str) -> InputKind:
    if split_member(path):
        return InputKind.MEMBER
    return InputKind.REMOTE if is_url(path) else InputKind.LOCAL


def _may_overlap(starts: Sequence[str]) -> bool:
    """Tell whether a file might be reached from two of the starts."""
    if not all(map(is_url, starts)):
        return len(starts) > 1
    folders = sorted(f"{strip_member(start).rstrip('/')}/" for start in starts)
    return any(later.startswith(first) for first, later in pairwise(folders))


def _read_to_end(listing: BinaryIO, check: StopCheck) -> bytes:
    """Read a list to its end, which may take long: its writer may still be at work."""
    data: list[bytes] = []
    while True:
        check()
        if _has_no_data_yet(listing):
            continue
        part = listing.read1(_READ_BYTES) if hasattr(listing, "read1") else listing.read()
        if not part:
            return b"".join(data)
        data.append(part)


def _has_no_data_yet(listing: BinaryIO) -> bool:
    try:
        return not select.select([listing.fileno()], [], [], _POLL_SECONDS)[0]
    except (OSError, ValueError):  # no descriptor behind it, or more of them than select takes
        return False


def _to_utf8(text: bytes) -> bytes:
    """Bring a list into UTF-8: Windows' shells write UTF-16, and editors put a mark in front.

    What is damaged in it becomes a path that is not there.
    """
    if text.startswith(codecs.BOM_UTF8):
        return text.removeprefix(codecs.BOM_UTF8)
    encoding = _UTF16.get(text[:2])
    if encoding is None:
        even, odd = text[::2], text[1::2]
        if _is_mostly_nul(odd) and not _is_mostly_nul(even):
            encoding = "utf-16-le"
        elif _is_mostly_nul(even) and not _is_mostly_nul(odd):
            encoding = "utf-16-be"
        else:
            return text
    return text.decode(encoding, "replace").removeprefix("\ufeff").encode()


def _is_mostly_nul(half: bytes) -> bool:
    """Tell whether every other byte of a list is NUL, mostly, as in UTF-16 that is mostly ASCII."""
    return half.count(0) > _MIN_NUL_SHARE * len(half)


def _split_lines(text: bytes) -> list[str]:
    text = _to_utf8(text)
    # A name may hold a newline or end with a CR, so what NULs separate is taken to the letter.
    if b"\0" in text:
        entries = text.removesuffix(b"\n").split(b"\0")
    else:
        entries = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    return [os.fsdecode(entry) for entry in entries if entry]
