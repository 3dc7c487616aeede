"""Where a file lies: a path of this machine, or a URL."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

# RFC 3986, section 3.1. Two letters at least, as one is a drive on Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
FILE_SCHEME = "file"


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
        return self.text.partition("::")[0].rpartition("/")[2]

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
    if scheme_of(text) == FILE_SCHEME and "::" not in text:
        return Path(text[len(FILE_SCHEME) + 3 :])
    return Url(text)
