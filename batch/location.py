"""Where a file lies: a path of this machine, or a URL without what it grants access by."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote_plus

# RFC 3986, section 3.1. Two letters at least, as one is a drive on Windows.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
FILE_SCHEME = "file"
# This machine, as a file's URL may name it (RFC 8089, section 2).
_LOCALHOST = re.compile(r"localhost(?=/)", re.IGNORECASE)
# What makes a pattern of a path or URL.
WILDCARDS = frozenset("*?[")
# Those that can be read in place.
ARCHIVE_SUFFIXES = (".zip", ".tar")
# Those that can't, as their members can be reached through all that comes before alone, and what
# unpacks them.
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
_CHAIN = "::"
# What would be taken for a chain in an archive's own path, and what stands for it there.
_UNCHAINED = re.compile(r"::|:%(?:25)*3A")
_CHAINED = re.compile(r":%(?:25)*3A")

_WEB_SCHEMES = ("http", "https")
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://[^\s'\"<>]+")
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+://)([^/?#]*)@")
# Parameters of a URL that grant access, by their names in lower case: words of them, what is a part
# of them without what is between its words, and what begins them: of S3 and its kin and Google.
# A parameter that is taken for a grant by mistake is left out of the name, so that URLs which
# differ only in it count as one. Words that often tell photos apart are not listed: "key" alone,
# "design", "author".
_GRANT_WORDS = frozenset(
    "sig sign sas hmac hm auth pwd pass jwt ticket bearer rlkey hdnea hdnts hdntl".split()
)
_GRANT_PARTS = re.compile(
    r"signature|token(?!s)|secret|credential|password|passwd|passphrase|passcode|authori[sz]ation"
    r"|session|jsessid|phpsessid|ticket|(?:access|account|api|auth|private|shared|sign|signing)key"
    r"|tempauth|[a-z]sig$"
)
_GRANT_STARTS = ("xamz", "xgoog", "xoss", "xcos", "xobs", "xbce", "xtos")
# Those that only go with them, in lower case and without what is between their words.
_WITH_GRANTS = frozenset(
    "expires expiry exp policy keypairid awsaccesskeyid googleaccessid ossaccesskeyid accesskeyid"
    " timestamp nonce tempurlexpires tempurlprefix txtime wstime"
    " qsignalgorithm qak qsigntime qkeytime qheaderlist qurlparamlist"
    # https://learn.microsoft.com/rest/api/storageservices/create-service-sas
    " sv ss srt sr sp st se sip spr ses sdd skoid sktid skt ske sks skv saoid suoid scid".split()
)
# In stores a question mark may be a part of a name, and only these are taken for parameters.
_STORE_GRANTS = re.compile(r"[?&](?:x-(?:amz|goog)-signature|sig|signature|temp_url_sig)=", re.I)
_BEFORE_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_BETWEEN_WORDS = re.compile(r"[^a-z0-9]+")
_BETWEEN_PARAMETERS = re.compile(r"(&amp;|[&;?])")
_PATH_PARAMETER = re.compile(r";([^=;/]*)=[^;/]*")
# URLs as they were given, by what they are called everywhere: in this process's memory alone.
_urls_with_secrets: dict[str, str] = {}


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


def parse_scheme(url: str) -> str:
    """Name a URL's scheme, in lower case: ``s3``."""
    match = _SCHEME.match(url)
    return match[1].lower() if match else ""


def parse_location(text: str) -> Location:
    """Tell where a text says that a file lies; ``file://`` is a path of this machine."""
    if not is_url(text):
        return Path(strip_secrets(text) if "://" in text else text)
    if parse_scheme(text) == FILE_SCHEME:
        return Path(_LOCALHOST.sub("", text[len(FILE_SCHEME) + 3 :], count=1))
    return Url(hide_secrets(text))


def is_archive(path: str) -> bool:
    """Tell by the end of a path or URL whether it is an archive."""
    # One look at all suffixes, as this is asked of every file that is found.
    return path[-_LONGEST_SUFFIX:].lower().endswith(_ALL_SUFFIXES) and split_member(path) is None


def find_unpack_command(path: str) -> str | None:
    """Name the command that unpacks an archive which can't be read in place."""
    path = path[-_LONGEST_SUFFIX:].lower()
    return next(
        (UNPACK_COMMANDS[suffix] for suffix in UNPACK_COMMANDS if path.endswith(suffix)), None
    )


def build_member_url(archive: str, name: str) -> str:
    """Name a member of an archive: ``zip://inner/a.jpg::photos.zip``, as fsspec does.

    ``::`` in the archive's own path is written ``:%3A`` there.
    """
    scheme = archive[-3:].lower()
    if _CHAIN in archive or ":%" in archive:
        archive = _UNCHAINED.sub(_escape_chain, archive)
    if archive.startswith(":"):
        archive = f"./{archive}"
    return f"{scheme}://{name}{_CHAIN}{archive}"


def split_member(url: str) -> tuple[str, str] | None:
    """Split a member's URL into the archive and the name inside; None for any other URL."""
    chained, chain, archive = url.rpartition(_CHAIN)
    if chain and f".{parse_scheme(chained)}" in ARCHIVE_SUFFIXES:
        return _CHAINED.sub(_unescape_chain, archive), chained.partition("://")[2]
    return None


def strip_member(url: str) -> str:
    """Give what has to be opened for a URL: the archive of a member, and itself for any other."""
    member = split_member(url)
    return member[0] if member else url


def _escape_chain(match: re.Match[str]) -> str:
    return ":%3A" if match[0] == _CHAIN else match[0].replace("%", "%25", 1)


def _unescape_chain(match: re.Match[str]) -> str:
    return _CHAIN if match[0] == ":%3A" else match[0].replace("%25", "%", 1)


def hide_secrets(url: str) -> str:
    """Give a URL without what it grants access by, which ``restore_secrets`` puts back.

    What is not a URL stays as it is. Nothing but the client of a store needs the whole URL, and a
    signature is another one every night, so it is no part of what a file is called.
    """
    public = strip_secrets(url)
    if public != url:
        _urls_with_secrets[strip_member(public)] = strip_member(url)
    return public


def restore_secrets(url: str) -> str:
    """Give a URL, which is no archive's member, as it was given to ``hide_secrets`` last."""
    return _urls_with_secrets.get(url, url)


def strip_secrets(url: str) -> str:
    """Take user and password, signatures and tokens out of a URL.

    The names of users stay, but on web servers: Azure's containers stand in their place.
    """
    if not any(sign in url for sign in "@?#;"):
        return url
    chained, chain, inner = url.rpartition(_CHAIN)
    # A member of an archive, or as fsspec chains what it does with a URL.
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
    """Take the secrets out of all URLs in a text, such as what a store's client complains of."""
    return _URL_IN_TEXT.sub(lambda match: strip_secrets(match[0]), text) if "://" in text else text


def _strip_password(match: re.Match[str]) -> str:
    user, colon, _ = match[2].partition(":")
    if match[1].lower().removesuffix("://") in _WEB_SCHEMES:
        return match[1]
    return f"{match[1]}{user}@" if colon else match[0]


def _strip_grants(query: str) -> str:
    parts = _BETWEEN_PARAMETERS.split(query)
    signs, names = ["", *parts[1::2]], [part.partition("=")[0] for part in parts[::2]]
    if not any(map(_grants_access, names)):
        return query
    kept = [
        (sign, part)
        for sign, name, part in zip(signs, names, parts[::2], strict=True)
        if not (_grants_access(name) or _join_words(name) in _WITH_GRANTS)
    ]
    return "".join(sign * (number > 0) + part for number, (sign, part) in enumerate(kept))


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


def _join_words(name: str) -> str:
    return "".join(_split_words(name))


def _split_words(name: str) -> list[str]:
    """Split a parameter's name, percent-encoded or not, into words."""
    return _BETWEEN_WORDS.split(_BEFORE_WORDS.sub("-", unquote_plus(name)).lower())
