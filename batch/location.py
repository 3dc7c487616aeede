"""Where a file lies: a path of this machine, or a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

# RFC 3986, section 3.1. Two letters at least, as one is a drive on Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
FILE_SCHEME = "file"
# What makes a pattern of a path or URL.
WILDCARDS = frozenset("*?[")
# Those that can be read in place: of a compressed tar only all that comes before is known.
ARCHIVE_SUFFIXES = (".zip", ".tar")
_CHAIN = "::"


@dataclass(frozen=True)
class Url:
    """A file that is not on this machine, or that lies inside an archive.

    ``text`` is a URL as fsspec understands them; a member of an archive is chained to it:
    ``zip://inner/a.jpg::s3://bucket/photos.zip``. ``size`` (bytes), ``mtime_ns`` (nanoseconds)
    and ``etag`` are what the listing said of it, and no part of which file it is.
    """

    text: str
    size: int | None = field(default=None, compare=False)
    mtime_ns: int | None = field(default=None, compare=False)
    etag: str | None = field(default=None, compare=False)

    def __fspath__(self) -> str:
        return self.text

    def __str__(self) -> str:
        return self.text

    @property
    def name(self) -> str:
        """The last part of the path, of a member the one inside its archive."""
        return self.text.partition(_CHAIN)[0].rpartition("/")[2]

    def as_posix(self) -> str:
        """Give the URL, as ``Path.as_posix`` gives the path."""
        return self.text


Location: TypeAlias = Path | Url


def is_url(text: str) -> bool:
    """Tell a URL from a path. A folder called ``s3:`` is meant by ``./s3:/``."""
    return "://" in text and _SCHEME.match(text) is not None


def scheme_of(url: str) -> str:
    """Name a URL's scheme, in lower case: ``s3``."""
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def location_of(text: str) -> Location:
    """Tell where a text says that a file lies; ``file://`` is a path of this machine."""
    if not is_url(text):
        return Path(text)
    if scheme_of(text) == FILE_SCHEME and _CHAIN not in text:
        return Path(text[len(FILE_SCHEME) + 3 :])
    return Url(text)


def is_archive(path: str) -> bool:
    """Tell by the end of a path or URL whether it is an archive that can be read in place."""
    return path[-4:].lower() in ARCHIVE_SUFFIXES and split_member(path) is None


def member_url(archive: str, name: str) -> str:
    """Name a member of an archive: ``zip://inner/a.jpg::photos.zip``, as fsspec does."""
    return f"{archive[-3:].lower()}://{name}{_CHAIN}{archive}"


def split_member(url: str) -> tuple[str, str] | None:
    """Split a member's URL into the archive and the name inside; None for any other URL."""
    chained, chain, archive = url.rpartition(_CHAIN)
    if chain and f".{scheme_of(chained)}" in ARCHIVE_SUFFIXES:
        return archive, chained.partition("://")[2]
    return None
