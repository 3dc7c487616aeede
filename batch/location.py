"""Where a file lies: a path of this machine, or a URL without what it grants access by."""

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
# Those that can be read in place.
ARCHIVE_SUFFIXES = (".zip", ".tar")
# Those that can't, as their members can be reached through all that comes before alone, and what
# unpacks them.
UNPACKED_BY = {
    **dict.fromkeys((".tar.gz", ".tgz"), "gunzip -k"),
    **dict.fromkeys((".tar.bz2", ".tbz2", ".tbz"), "bunzip2 -k"),
    **dict.fromkeys((".tar.xz", ".txz"), "unxz -k"),
    **dict.fromkeys((".tar.zst", ".tzst"), "unzstd"),
    ".7z": "7z x",
    ".rar": "unrar x",
}
_CHAIN = "::"
# What would be taken for a chain in an archive's own path, and what stands for it there.
_UNCHAINED = re.compile(r"::|:%(?:25)*3A")
_CHAINED = re.compile(r":%(?:25)*3A")

_WEB = ("http", "https")
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)([^/?#]*)@")
# Parameters of a URL that grant access, and those that only go with them: of S3 and its kin,
# Google, CloudFront and Azure, and as others mostly call them.
_GRANTS = re.compile(
    r"x-(?:amz|goog|oss|cos|obs|bce|tos)-.+|sig|hmac|auth|pwd|pass|hdnea|hdnts"
    r"|(?:.+[-_.])?(?:token|signature|secret|password|passwd|credentials?|jwt|authorization"
    r"|api[-_]?key|access[-_]?key)"
    r"|(?:access|auth|id|sas|session|security)token|(?:client)?secret",
    re.IGNORECASE,
)
_WITH_GRANTS = frozenset(
    "expires expiry exp policy key-pair-id awsaccesskeyid googleaccessid ossaccesskeyid accesskeyid"
    " timestamp nonce"
    # https://learn.microsoft.com/rest/api/storageservices/create-service-sas
    " sv ss srt sr sp st se sip spr ses sdd skoid sktid skt ske sks skv saoid suoid scid".split()
)
# URLs as they were given, by what they are called everywhere: in this process's memory alone.
_given: dict[str, str] = {}


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
        member = split_member(self.text)
        return (member[1] if member else self.text).rpartition("/")[2]

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
    if scheme_of(text) == FILE_SCHEME:
        return Path(text[len(FILE_SCHEME) + 3 :])
    return Url(hide_secrets(text))


def is_archive(path: str) -> bool:
    """Tell by the end of a path or URL whether it is an archive."""
    is_one = path[-4:].lower() in ARCHIVE_SUFFIXES or unpacked_by(path) is not None
    return is_one and split_member(path) is None


def unpacked_by(path: str) -> str | None:
    """Name the command that unpacks an archive which can't be read in place."""
    path = path[-8:].lower()
    return next((UNPACKED_BY[suffix] for suffix in UNPACKED_BY if path.endswith(suffix)), None)


def member_url(archive: str, name: str) -> str:
    """Name a member of an archive: ``zip://inner/a.jpg::photos.zip``, as fsspec does.

    ``::`` in the archive's own path is written ``:%3A`` there.
    """
    scheme = archive[-3:].lower()
    if _CHAIN in archive or ":%" in archive:
        archive = _UNCHAINED.sub(_unchain, archive)
    if archive.startswith(":"):
        archive = f"./{archive}"
    return f"{scheme}://{name}{_CHAIN}{archive}"


def split_member(url: str) -> tuple[str, str] | None:
    """Split a member's URL into the archive and the name inside; None for any other URL."""
    chained, chain, archive = url.rpartition(_CHAIN)
    if chain and f".{scheme_of(chained)}" in ARCHIVE_SUFFIXES:
        return _CHAINED.sub(_chain, archive), chained.partition("://")[2]
    return None


def archive_of(url: str) -> str:
    """Give what has to be opened for a URL: the archive of a member, and itself for any other."""
    member = split_member(url)
    return member[0] if member else url


def _unchain(match: re.Match[str]) -> str:
    return ":%3A" if match[0] == _CHAIN else match[0].replace("%", "%25", 1)


def _chain(match: re.Match[str]) -> str:
    return _CHAIN if match[0] == ":%3A" else match[0].replace("%25", "%", 1)


def hide_secrets(url: str) -> str:
    """Give a URL without what it grants access by, which ``with_secrets`` puts back.

    What is not a URL stays as it is. Nothing but the client of a store needs the whole URL, and a
    signature is another one every night, so it is no part of what a file is called.
    """
    public = without_secrets(url)
    if public != url:
        _given[archive_of(public)] = archive_of(url)
    return public


def with_secrets(url: str) -> str:
    """Give a URL, which is no archive's member, as it was given to ``hide_secrets`` last."""
    return _given.get(url, url)


def without_secrets(url: str) -> str:
    """Take user and password, signatures and tokens out of a URL.

    The names of users stay, but on web servers: Azure's containers stand in their place.
    """
    if "@" not in url and "?" not in url and "#" not in url:
        return url
    if split_member(url):
        chained, chain, archive = url.rpartition(_CHAIN)
        return f"{chained}{chain}{without_secrets(archive)}"
    if not is_url(url):
        return url
    is_web = scheme_of(url) in _WEB
    url = _USER.sub(_without_password, url, count=1)
    if is_web:
        url, hash_, fragment = url.partition("#")
        url, mark, query = url.partition("?")
        query, fragment = _without_grants(query), _without_grants(fragment)
        url += (mark + query if query else "") + (hash_ + fragment if fragment else "")
    return url


def redact(text: str) -> str:
    """Take the secrets out of all URLs in a text, such as what a store's client complains of."""
    return (
        _URL_IN_TEXT.sub(lambda match: without_secrets(match[0]), text) if "://" in text else text
    )


def _without_password(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    if match[1].lower().removesuffix("://") in _WEB:
        return match[1]
    return f"{match[1]}{user}@" if colon else match[0]


def _without_grants(query: str) -> str:
    named = [(part.partition("=")[0].lower(), part) for part in query.split("&")]
    if not any(_GRANTS.fullmatch(name) for name, _ in named):
        return query
    return "&".join(
        part for name, part in named if not (_GRANTS.fullmatch(name) or name in _WITH_GRANTS)
    )
