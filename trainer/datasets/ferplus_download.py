"""Downloads a file over HTTP: with patience, and on from where it was cut off.

It needs one file at a time and nothing else of HTTP, so the standard library does.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import re
import ssl
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batch.errors import BatchLabelError
from batch.files.drafts import DraftFolder, draft_stem, remove_contents
from trainer.datasets.ferplus import (
    LABEL_FILE,
    SPLIT_FOLDERS,
    NotFerPlus,
    PublishedSplit,
    read_ferplus,
)

BLOCK_BYTES = 1 << 16
# Status codes (RFC 9110) that may be other ones a little later.
TRANSIENT_STATUSES = (408, 416, 429, 500, 502, 503, 504)
# What the network can do to a download. Other OSErrors, such as a full disk, stay.
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)

logger = logging.getLogger(__name__)


class DownloadError(BatchLabelError):
    """The file can't be had, or is not the one that was wanted."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try: ``timeout`` seconds for the next bytes, so many ``attempts``.

    ``pause`` is the seconds after the first failed attempt, twice as many after each other.
    """

    timeout: float = 30.0
    attempts: int = 4
    pause: float = 1.0


def download(url: str, target: Path, remedy: str, patience: RetryPolicy | None = None) -> None:
    """Fetch a file; it is at ``target`` when it is complete, and not before.

    What was cut off stays beside it and is gone on from, by this call or a later one, where
    the server can continue and says by a strong ETag that the file is still the same
    (RFC 9110, Range and If-Range); where not, the file is fetched from its beginning.

    Raises:
        DownloadError: it can't be had; ``remedy`` says what to do then.
    """
    patience = patience or RetryPolicy()
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url} is no address of a download", remedy)
    for attempt in range(patience.attempts):
        try:
            _fetch(url, target, patience.timeout)
        except NETWORK_ERRORS as error:
            last = attempt == patience.attempts - 1
            if last or (
                isinstance(error, urllib.error.HTTPError) and error.code not in TRANSIENT_STATUSES
            ):
                raise DownloadError(
                    f"{url} can't be downloaded ({_describe_error(error)})", remedy
                ) from error
            wait = patience.pause * 2**attempt
            logger.info("%s; next attempt in %.0f s", _describe_error(error), wait)
            time.sleep(wait)
        else:
            return


def _fetch(url: str, target: Path, timeout: float) -> None:
    part, tag = (target.with_name(target.name + suffix) for suffix in (".part", ".etag"))
    request = urllib.request.Request(url, headers={"User-Agent": "batch-label"})
    if part.exists() and tag.exists():
        request.add_header("Range", f"bytes={part.stat().st_size}-")
        request.add_header("If-Range", tag.read_text())
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            tag.unlink()
        raise
    with response:
        _receive(response, part, tag)
    part.replace(target)
    tag.unlink(missing_ok=True)


def _receive(response: http.client.HTTPResponse, part: Path, tag: Path) -> None:
    goes_on = response.status == http.client.PARTIAL_CONTENT
    have = part.stat().st_size if goes_on else 0
    etag = response.headers.get("ETag", "")
    if etag.startswith('"'):
        tag.write_text(etag)
    elif not goes_on:  # a weak one does not promise the same bytes
        tag.unlink(missing_ok=True)
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    from tqdm import tqdm  # of the extra `train`, which evaluation does without

    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="download", disable=None)
    with bar, part.open("ab" if goes_on else "wb") as file:
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            bar.update(len(block))
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(f"cut off after {size:,} of {total:,} bytes")


def _describe_error(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__


# == FER+'s public home: where it is, what must be in it, and how it comes from there.

FERPLUS_FOLDER = Path("data/ferplus")
# Pictures and votes together, as one person published them; the commit pins the content.
COMMIT = "95c07555f685e8b776d03c66406b49faa402a349"
ARCHIVE_URL = f"https://github.com/tessav/crowd-emotion/archive/{COMMIT}.zip"
MANUAL_REMEDY = (
    f"get {ARCHIVE_URL} with a browser, unpack it, and put its folder `data` at {FERPLUS_FOLDER}, "
    "or give its path: `make train DATA=PATH`, `trainer train --data PATH`"
)
REPLACE_REMEDY = "move it away, then it is downloaded anew"
# No file of FER+ has as many bytes: what claims to is no part of it.
MAX_FILE_BYTES = 8 << 20
MEMBER_PATTERN = re.compile(
    rf"({'|'.join(SPLIT_FOLDERS.values())})/({re.escape(LABEL_FILE)}|fer\d{{7}}\.png)"
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitDigest:
    """What one part must be: how many faces, and SHA-256 digests as by ``digest_split``."""

    faces: int
    votes: str
    pixels: str


PUBLISHED_DIGESTS: Mapping[str, SplitDigest] = {
    "train": SplitDigest(
        faces=28558,
        votes="083da1252abeebd38fdd2a5689caa5c2f159023a0f3f60e74b96939affbfa0bf",
        pixels="e27dd7a24d44eb6cdd4850a24e973a4a240f6fe5787c017651e0d9e365a3b6a2",
    ),
    "validation": SplitDigest(
        faces=3579,
        votes="9b619525184ff352d908fc4159916fac1d09df2159a542496d27de59fb5a3962",
        pixels="3e3cedd2ef9d68136620b725aa5955a38b885d08186ce612f830eba038eb7031",
    ),
    "test": SplitDigest(
        faces=3573,
        votes="54e99de6880f385e4e8b88287ae76cc17650171cb65e37e04b670218aa21e668",
        pixels="e3148d8a067ffa078a6c7d7834627e71f27e94f20d1ec8f9490aef417fb97560",
    ),
}


def digest_split(part: PublishedSplit) -> SplitDigest:
    """Sum up a part by its content, however it is packed, ordered or compressed.

    Faces go into the digests in the order of their names. ``votes`` is over lines of the
    name and the ten votes, separated by commas; ``pixels`` over each name and its 48 x 48
    grey levels.
    """
    votes, pixels = hashlib.sha256(), hashlib.sha256()
    for n in sorted(range(len(part.names)), key=lambda n: part.names[n]):
        line = ",".join((part.names[n], *map(str, part.counts[n])))
        votes.update(f"{line}\n".encode())
        pixels.update(part.names[n].encode())
        pixels.update(part.pixels[n].tobytes())
    return SplitDigest(len(part.names), votes.hexdigest(), pixels.hexdigest())


def obtain_ferplus(
    home: Path = FERPLUS_FOLDER,
    url: str = ARCHIVE_URL,
    contents: Mapping[str, SplitDigest] = PUBLISHED_DIGESTS,
    patience: RetryPolicy | None = None,
) -> None:
    """Bring FER+ to a folder, unless it is there; what is there is checked.

    The archive is downloaded, unpacked beside ``home``, checked and removed; then the
    folder takes its place in one step.

    Raises:
        DownloadError: it can't be had, or what is there or comes is something else.
    """
    if home.exists():
        _check_contents(home, contents, REPLACE_REMEDY)
        logger.info("%s holds all %s faces of FER+", home, f"{_count_faces(contents):,}")
        return
    logger.info("downloading FER+ from %s", url)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        _download_and_unpack(home, url, contents, patience)
    except OSError as error:
        raise DownloadError(f"{home} can't be written ({error.strerror})", "make room") from error
    logger.info("%s now holds all %s faces of FER+", home, f"{_count_faces(contents):,}")


def _download_and_unpack(
    home: Path, url: str, contents: Mapping[str, SplitDigest], patience: RetryPolicy | None
) -> None:
    # A name that nobody else would choose, and the same every time: a download can go on.
    archive = home.with_name(f".{home.name}.batch-label-download.zip")
    download(url, archive, MANUAL_REMEDY, patience)
    stem = draft_stem(home)
    for left in DraftFolder.take_over_abandoned(home.parent, stem):
        left.remove(remove_contents)
    draft = DraftFolder.make(home.parent, stem)
    try:
        unpack_archive(archive, draft.content)
        _check_contents(draft.content, contents, MANUAL_REMEDY)
        draft.content.replace(home)  # over an empty folder at most
    finally:  # a wrong archive would be as wrong the next time
        archive.unlink()
        draft.remove(remove_contents)


def unpack_archive(archive: Path, folder: Path) -> None:
    """Unpack FER+'s label files and pictures, and nothing else, from a zip file.

    Every file's place is made of the two names that FER+ knows, so none can be elsewhere.

    Raises:
        DownloadError: the archive is damaged, or a file in it is too large.
    """
    for part in SPLIT_FOLDERS.values():
        (folder / part).mkdir(parents=True)
    try:
        with zipfile.ZipFile(archive) as packed:
            for entry in packed.infolist():
                found = MEMBER_PATTERN.fullmatch("/".join(entry.filename.split("/")[-2:]))
                if found is None:
                    continue
                if entry.file_size > MAX_FILE_BYTES:
                    raise DownloadError(
                        f"{entry.filename} has {entry.file_size:,} bytes", MANUAL_REMEDY
                    )
                (folder / found[1] / found[2]).write_bytes(packed.read(entry))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DownloadError(f"the archive of FER+ is damaged ({error})", MANUAL_REMEDY) from error


def _check_contents(folder: Path, contents: Mapping[str, SplitDigest], remedy: str) -> None:
    try:
        faces = read_ferplus(folder)
    except NotFerPlus as error:
        raise DownloadError(f"{folder} is not FER+: {error.problem}", remedy) from error
    for split, wanted in contents.items():
        found = digest_split(faces[split])
        if found.faces != wanted.faces:
            how = f"{found.faces:,} faces, not {wanted.faces:,}"
        elif found != wanted:
            how = f"other {'votes' if found.votes != wanted.votes else 'pictures'} than FER+"
        else:
            continue
        raise DownloadError(f"{folder / SPLIT_FOLDERS[split]} has {how}", remedy)


def _count_faces(contents: Mapping[str, SplitDigest]) -> int:
    return sum(part.faces for part in contents.values())
