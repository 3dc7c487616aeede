"""Inputs of a run, resolved to starting points: arguments, and the paths of lists and patterns.

Trust depends on where a path comes from. Other people may have chosen the paths of a list or
pattern. So only an argument can be a manifest or a list, and archives from lists and patterns are
opened only if the user asks for archives.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import closing
from enum import Enum, auto
from pathlib import Path
from posixpath import splitext
from stat import S_ISDIR
from typing import BinaryIO, NamedTuple

from batch.discovery.archive_reader import ArchiveReader
from batch.discovery.manifest import check_manifest, is_manifest
from batch.discovery.members import find_members
from batch.discovery.path_list import LIST_SUFFIXES, STDIN_LIST, is_path_list, read_path_list
from batch.discovery.pattern import expand_pattern
from batch.errors import InputError
from batch.files.regular_file import open_regular
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
from batch.options import Search
from batch.os_errors import describe_failed_access, is_denied
from batch.path_text import printable_text
from batch.stopping import StopCheck, never_stop


class InputKind(Enum):
    """How a starting point is searched."""

    LOCAL = auto()
    REMOTE = auto()
    MEMBER = auto()
    MANIFEST = auto()
    MIXED = auto()  # a manifest or list beside other inputs, which is not read
    REFUSED = auto()  # a line of a list on a web server that leads to this machine
    DUPLICATE_URL = auto()  # a URL that was given with another signature before


class StartingPoint(NamedTuple):
    """A path or URL where the search for photos starts.

    Attributes:
        path: the path or URL.
        kind: how it is searched.
        opens_archives: if it is an archive, take its members.
        enters_folders: if it is a folder, search it. Lists from tools such as ``find`` contain
            folders beside their files, so a folder in a list needs a slash at its end.
        detail: why a line is refused, else empty.
        base: the path that exclude patterns are relative to; None for ``path`` itself.
    """

    path: str
    kind: InputKind
    opens_archives: bool = False
    enters_folders: bool = True
    detail: str = ""
    base: str | None = None


class InputResolver:
    """Resolves the inputs of a run.

    Args:
        search: how folders are searched, and which paths are excluded.
        listing: the list of paths that ``-`` stands for.
        check: called regularly; raises an exception to end the work.

    Attributes:
        excluded: the locations that exclude patterns skip, each with the reason.
    """

    def __init__(
        self, search: Search, listing: BinaryIO | None = None, check: StopCheck = never_stop
    ) -> None:
        self.excluded: list[tuple[Location, str]] = []
        self._search = search
        self._listing = listing
        self._check = check
        self._first_urls: dict[str, str] = {}  # first URL, with secrets, by its name without

    def resolve(self, inputs: Sequence[str]) -> list[StartingPoint]:
        """Resolve the arguments of a run, in their order.

        Raises:
            InputError: an input does not exist, matches nothing, or is not a manifest.
        """
        names = [hide_secrets(text) for text in inputs]
        may_list = all(_names_manifest(name) or is_path_list(name) for name in names)
        starts: list[StartingPoint] = []
        given: set[str] = set()
        for name in names:
            # `hide_secrets` keeps the last secrets of a URL, so the first can't be compared here.
            if name in given and restore_secrets(strip_member(name)) != strip_member(name):
                starts.append(StartingPoint(name, InputKind.DUPLICATE_URL))
            else:
                starts += self._resolve_input(name, may_list)
            given.add(name)
        return starts

    def _resolve_input(self, text: str, may_list: bool) -> list[StartingPoint]:
        if _names_manifest(text):
            return _resolve_manifest(text, may_list)
        if is_path_list(text):
            path = os.fspath(parse_location(text))
            return self._read_list(path) if may_list else [StartingPoint(path, InputKind.MIXED)]
        if text == STDIN_LIST:
            if self._listing is None:
                raise InputError(
                    "'-' is a list on standard input, but there is none", "pipe a list in"
                )
            return self._resolve_lines(read_path_list(self._listing, self._check))
        location = parse_location(text)
        if isinstance(location, Url):
            return self._resolve_url(text)
        return self._resolve_path(os.fspath(location) if is_url(text) else text)

    def _resolve_path(self, path: str) -> list[StartingPoint]:
        try:
            status = os.stat(path)  # noqa: PTH116 - Path("") would be the current folder
        except OSError as error:
            is_pattern = not WILDCARDS.isdisjoint(path)
            if is_denied(error) and not is_pattern:
                raise InputError(
                    describe_failed_access(f"input {path!r}", "found", error, path),
                    "run as a user who may enter that folder, or change its mode or owner",
                ) from error
            if not is_pattern:
                raise InputError(
                    f"input {path!r} can't be found ({error.strerror})",
                    "check the spelling, and that its disk is mounted",
                ) from error
            opens = is_archive(path)
            base, matching = expand_pattern(path, self._search, self._skip_if_excluded, self._check)
            return [StartingPoint(match, InputKind.LOCAL, opens, base=base) for match in matching]
        return self._resolve_named(path, InputKind.LOCAL, S_ISDIR(status.st_mode))

    def _resolve_url(self, url: str) -> list[StartingPoint]:
        # Imported here, as it loads the stores' clients.
        from batch.discovery.remote import expand_url_pattern, read_url_list

        if split_member(url):
            return [self._find_member(url)]
        if url.lower().endswith(LIST_SUFFIXES):
            starts = []
            for line, detail in read_url_list(url, self._check):
                if detail:
                    starts.append(StartingPoint(line, InputKind.REFUSED, detail=detail))
                else:
                    starts += self._resolve_lines([line])
            return starts
        matching = expand_url_pattern(url, self._search.hidden, self._check)
        if matching == [url]:
            return self._resolve_named(url, InputKind.REMOTE, is_folder=not splitext(url)[1])
        base = _find_fixed_prefix(url)
        match = self._search.exclusion.match_path
        kept = (
            p for p in matching if not self._skip_if_excluded(p, match(p[len(base) :], folder=True))
        )
        return [StartingPoint(path, InputKind.REMOTE, is_archive(url), base=base) for path in kept]

    def _find_member(self, url: str) -> StartingPoint:
        with closing(ArchiveReader(self._check)) as reader:
            (found,) = find_members([url], reader, self._check)
        if found.failure:
            raise InputError(
                f"input {printable_text(url)} can't be found ({found.failure.detail})",
                "check the spelling, and that the archive is complete",
            )
        return StartingPoint(url, InputKind.MEMBER)

    def _resolve_named(self, text: str, kind: InputKind, is_folder: bool) -> list[StartingPoint]:
        name = text.rstrip("/").rpartition("/")[2]
        reason = self._search.exclusion.match_named(name, folder=is_folder)
        if self._skip_if_excluded(text, reason):
            return []
        return [StartingPoint(text, kind, opens_archives=True)]

    def _read_list(self, path: str) -> list[StartingPoint]:
        try:
            with open_regular(path) as file:
                return self._resolve_lines(read_path_list(file, self._check))
        except OSError as error:
            raise InputError(
                f"list {printable_text(path)} can't be read ({error.strerror})",
                "check its permissions",
            ) from error

    def _resolve_lines(self, lines: Iterable[str]) -> list[StartingPoint]:
        starts = []
        match_listed = self._search.exclusion.match_listed
        for line in lines:
            path = os.fspath(parse_location(line)) if "://" in line else line
            if self._skip_if_excluded(path, match_listed(path)):
                continue
            kind = _classify_path(path)
            if kind is not InputKind.LOCAL and self._is_duplicate_url(line, path):
                kind = InputKind.DUPLICATE_URL
            enters = line.endswith("/") and not line.endswith("://")
            enters = enters and (kind is not InputKind.LOCAL or not _is_root(path))
            starts.append(StartingPoint(path, kind, enters_folders=enters))
        return starts

    def _skip_if_excluded(self, path: str, reason: str | None) -> bool:
        if reason:
            self.excluded.append((parse_location(path), reason))
        return reason is not None

    def _is_duplicate_url(self, url: str, name: str) -> bool:
        """Return whether a URL differs from an earlier one only in secrets, such as a signature.

        Both name one photo, which gets one row.
        """
        return url != name and self._first_urls.setdefault(name, url) != url


def _names_manifest(text: str) -> bool:
    """Return whether an input is a manifest, and not a pattern or a member of an archive."""
    location = parse_location(text)
    if isinstance(location, Path):
        return is_manifest(os.fspath(location))
    is_pattern = not WILDCARDS.isdisjoint(text) and not parse_scheme(text).startswith("http")
    return is_manifest(text) and not is_pattern and split_member(text) is None


def _resolve_manifest(text: str, may_list: bool) -> list[StartingPoint]:
    path = os.fspath(parse_location(text))
    if may_list:
        check_manifest(path)
    kind = InputKind.MANIFEST if may_list else InputKind.MIXED
    return [StartingPoint(path, kind, opens_archives=True)]


def _classify_path(path: str) -> InputKind:
    if split_member(path):
        return InputKind.MEMBER
    return InputKind.REMOTE if is_url(path) else InputKind.LOCAL


def _is_root(path: str) -> bool:
    try:
        return os.path.samefile(path, "/")  # noqa: PTH121
    except OSError:
        return False


def _find_fixed_prefix(pattern: str) -> str:
    """Return the part of a URL pattern before the first segment with a wildcard."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if not WILDCARDS.isdisjoint(part))
    return "".join(f"{part}/" for part in parts[:first])
