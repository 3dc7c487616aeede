"""Locations of files: local paths, and URLs whose secrets are kept out of every output.

A URL's password, signature and tokens are removed as soon as it is parsed, and kept in the memory
of this process only, for ``restore_secrets``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote_plus

WILDCARDS = frozenset("*?[")  # a path or URL with one of these is a pattern
ARCHIVE_SUFFIXES = (".zip", ".tar")  # of archives that are read in place
# Commands that unpack other archives, by suffix: these archives have no random access to members.
UNPACK_COMMANDS = {
    **dict.fromkeys((".tar.gz", ".tgz", ".tar.z", ".taz"), "gunzip"),
    **dict.fromkeys((".tar.bz2", ".tbz2", ".tbz"), "bunzip2"),
    **dict.fromkeys((".tar.xz", ".txz"), "unxz"),
    **dict.fromkeys((".tar.lzma", ".tlz"), "unlzma"),
    **dict.fromkeys((".tar.zst", ".tzst"), "unzstd --rm"),
    ".tar.lz4": "unlz4 --rm",
    ".cbz": "unzip",
    ".7z": "7z x",
    ".rar": "unrar x",
}
_ALL_SUFFIXES = (*ARCHIVE_SUFFIXES, *UNPACK_COMMANDS)
_LONGEST_SUFFIX = max(map(len, _ALL_SUFFIXES))

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")  # RFC 3986, section 3.1
FILE_SCHEME = "file"
_WEB_SCHEMES = ("http", "https")
_LOCALHOST = re.compile(r"localhost(?=/)", re.IGNORECASE)  # RFC 8089, section 2
# Separates a member from its archive, and is escaped in the archive's own path.
_CHAIN = "::"
_UNESCAPED_CHAIN = re.compile(r"::|:%(?:25)*3A")
_ESCAPED_CHAIN = re.compile(r":%(?:25)*3A")

_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)([^/?#]*)@")
# Parameters of a URL that grant access, recognised by their names in lower case: by a whole word,
# by a part of the name without its separators, or by a prefix (S3 and compatible stores, Google).
# If a parameter is recognised by mistake, URLs that differ only in it count as one photo. So words
# that often distinguish photos are not listed: "key", "design", "author".
_GRANT_WORDS = frozenset(
    "sig sign sas hmac hm auth pwd pass jwt ticket bearer rlkey hdnea hdnts hdntl".split()
)
_GRANT_PARTS = re.compile(
    r"signature|token(?!s)|secret|credential|password|passwd|passphrase|passcode|authori[sz]ation"
    r"|session|jsessid|phpsessid|ticket|(?:access|account|api|auth|private|shared|sign|signing)key"
    r"|tempauth|[a-z]sig$"
)
_GRANT_STARTS = ("xamz", "xgoog", "xoss", "xcos", "xobs", "xbce", "xtos")
# Parameters that only accompany a grant, in lower case and without separators.
_WITH_GRANTS = frozenset(
    "expires expiry exp policy keypairid awsaccesskeyid googleaccessid ossaccesskeyid accesskeyid"
    " timestamp nonce tempurlexpires tempurlprefix txtime wstime"
    " qsignalgorithm qak qsigntime qkeytime qheaderlist qurlparamlist"
    # https://learn.microsoft.com/rest/api/storageservices/create-service-sas
    " sv ss srt sr sp st se sip spr ses sdd skoid sktid skt ske sks skv saoid suoid scid".split()
)
# A question mark may be part of an object's name, unless one of these parameters follows.
_STORE_GRANTS = re.compile(r"[?&](?:x-(?:amz|goog)-signature|sig|signature|temp_url_sig)=", re.I)
_CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORD_SEPARATOR = re.compile(r"[^a-z0-9]+")
_PARAMETER_SEPARATOR = re.compile(r"(&amp;|[&;?])")
_PATH_PARAMETER = re.compile(r";([^=;/]*)=[^;/]*")

_urls_with_secrets: dict[str, str] = {}  # by the URL without secrets


@dataclass(frozen=True)
class Url:
    """A file in a store, on a web server or inside an archive.

    Attributes:
        text: a URL in fsspec's syntax; a member of an archive is chained to the archive:
            ``zip://inner/a.jpg::s3://bucket/photos.zip``.
        size: bytes, from the listing; not part of the file's identity.
        mtime_ns: nanoseconds since 1970, likewise.
        etag: entity tag, likewise.
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
        """The last part of the path; for a member, of its path inside the archive."""
        member = split_member(self.text)
        return (member[1] if member else self.text).rpartition("/")[2]

    def as_posix(self) -> str:
        """Return the URL, as ``Path.as_posix`` returns the path."""
        return self.text


Location: TypeAlias = Path | Url


def is_url(text: str) -> bool:
    """Return whether a text is a URL. A folder named ``s3:`` is written ``./s3:/``."""
    return "://" in text and _SCHEME.match(text) is not None


def parse_scheme(url: str) -> str:
    """Return a URL's scheme in lower case: ``s3``."""
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def parse_location(text: str) -> Location:
    """Parse a path or URL; a ``file://`` URL gives a path."""
    if not is_url(text):
        return Path(strip_secrets(text) if "://" in text else text)
    if parse_scheme(text) == FILE_SCHEME:
        return Path(_LOCALHOST.sub("", text[len(FILE_SCHEME) + 3 :], count=1))
    return Url(hide_secrets(text))


def is_archive(path: str) -> bool:
    """Return whether a path or URL is an archive, by its suffix."""
    # All suffixes at once, as this is called for every file found.
    return path[-_LONGEST_SUFFIX:].lower().endswith(_ALL_SUFFIXES) and split_member(path) is None


def find_unpack_command(path: str) -> str | None:
    """Return the command that unpacks an archive; None if it is read in place."""
    path = path[-_LONGEST_SUFFIX:].lower()
    return next(
        (UNPACK_COMMANDS[suffix] for suffix in UNPACK_COMMANDS if path.endswith(suffix)), None
    )


def build_member_url(archive: str, name: str) -> str:
    """Build the URL of an archive's member as fsspec does: ``zip://inner/a.jpg::photos.zip``.

    ``::`` in the archive's own path is escaped as ``:%3A``.
    """
    scheme = archive[-3:].lower()
    if _CHAIN in archive or ":%" in archive:
        archive = _UNESCAPED_CHAIN.sub(_escape_chain, archive)
    if archive.startswith(":"):
        archive = f"./{archive}"
    return f"{scheme}://{name}{_CHAIN}{archive}"


def split_member(url: str) -> tuple[str, str] | None:
    """Split a member's URL into the archive and the member's name; None for any other URL."""
    chained, chain, archive = url.rpartition(_CHAIN)
    if chain and f".{parse_scheme(chained)}" in ARCHIVE_SUFFIXES:
        return _ESCAPED_CHAIN.sub(_unescape_chain, archive), chained.partition("://")[2]
    return None


def strip_member(url: str) -> str:
    """Return the archive of a member's URL; any other URL unchanged."""
    member = split_member(url)
    return member[0] if member else url


def _escape_chain(match: re.Match[str]) -> str:
    return ":%3A" if match[0] == _CHAIN else match[0].replace("%", "%25", 1)


def _unescape_chain(match: re.Match[str]) -> str:
    return _CHAIN if match[0] == ":%3A" else match[0].replace("%25", "%", 1)


def hide_secrets(url: str) -> str:
    """Remove the secrets from a URL and remember them for ``restore_secrets``.

    Only the client of a store needs them. A signature changes with every run, so it must not be
    part of a file's name. A text that is not a URL is returned unchanged.
    """
    public = strip_secrets(url)
    if public != url:
        _urls_with_secrets[strip_member(public)] = strip_member(url)
    return public


def restore_secrets(url: str) -> str:
    """Return a URL as it was last passed to ``hide_secrets``; not for members of archives."""
    return _urls_with_secrets.get(url, url)


def strip_secrets(url: str) -> str:
    """Remove passwords, signatures and tokens from a URL, and user names from those of web servers.

    In URLs of stores the user name stays, as Azure has the container in its place.
    """
    if not any(sign in url for sign in "@?#;"):
        return url
    chained, chain, inner = url.rpartition(_CHAIN)
    # A member of an archive, or another chain of fsspec's, such as a cache.
    if chain and (split_member(url) or is_url(inner)):
        return f"{chained}{chain}{strip_secrets(inner)}"
    if not is_url(url):
        return url
    is_web = parse_scheme(url) in _WEB_SCHEMES
    url = _USER.sub(_strip_password, url, count=1)
    if is_web or _STORE_GRANTS.search(url):
        url, hash_, fragment = url.partition("#")
        url, mark, query = url.partition("?")
        url = _PATH_PARAMETER.sub(_strip_grant, url)
        query, fragment = _strip_grants(query), _strip_grants(fragment)
        url += (mark + query if query else "") + (hash_ + fragment if fragment else "")
    return url


def redact(text: str) -> str:
    """Remove the secrets from all URLs in a text, such as a client's error message."""
    return _URL_IN_TEXT.sub(lambda match: strip_secrets(match[0]), text) if "://" in text else text


def _strip_password(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    if match[1].lower().removesuffix("://") in _WEB_SCHEMES:
        return match[1]
    return f"{match[1]}{user}@" if colon else match[0]


def _strip_grants(query: str) -> str:
    parts = _PARAMETER_SEPARATOR.split(query)
    separators, names = ["", *parts[1::2]], [part.partition("=")[0] for part in parts[::2]]
    if not any(map(_grants_access, names)):
        return query
    kept = [
        (separator, part)
        for separator, name, part in zip(separators, names, parts[::2], strict=True)
        if not (_grants_access(name) or "".join(_split_words(name)) in _WITH_GRANTS)
    ]
    return "".join(separator * (number > 0) + part for number, (separator, part) in enumerate(kept))


def _strip_grant(match: re.Match[str]) -> str:
    return "" if _grants_access(match[1]) else match[0]


def _grants_access(name: str) -> bool:
    words = _split_words(name)
    joined = "".join(words)
    return (
        not _GRANT_WORDS.isdisjoint(words)
        or _GRANT_PARTS.search(joined) is not None
        or (len(words) > 2 and joined.startswith(_GRANT_STARTS))
    )


def _split_words(name: str) -> list[str]:
    """Split a parameter's name, percent-encoded or not, into words in lower case."""
    return _WORD_SEPARATOR.split(_CAMEL_CASE.sub("-", unquote_plus(name)).lower())
