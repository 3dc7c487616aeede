"""Downloads FER+: resumes, retries transient errors, and verifies the content.

The standard library suffices for a single file; pooch does not resume downloads.
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
    FerplusError,
    PublishedSplit,
    read_ferplus,
)

FERPLUS_FOLDER = Path("data/ferplus")
# A repository that has pictures and votes together; the commit pins the content.
COMMIT = "95c07555f685e8b776d03c66406b49faa402a349"
ARCHIVE_URL = f"https://github.com/tessav/crowd-emotion/archive/{COMMIT}.zip"
MANUAL_REMEDY = (
    f"get {ARCHIVE_URL} with a browser, unpack it, and put its folder `data` at {FERPLUS_FOLDER}, "
    "or give its path: `make train DATA=PATH`, `trainer train --data PATH`"
)
REPLACE_REMEDY = "move it away to download it again"
# No file of FER+ is larger, in bytes.
MAX_FILE_BYTES = 8 << 20
MEMBER_PATTERN = re.compile(
    rf"({'|'.join(SPLIT_FOLDERS.values())})/({re.escape(LABEL_FILE)}|fer\d{{7}}\.png)"
)

BLOCK_BYTES = 1 << 16
# Transient HTTP statuses (RFC 9110), which are retried.
TRANSIENT_STATUSES = (408, 416, 429, 500, 502, 503, 504)
# Errors of the network; other OSErrors, such as a full disk, are not retried.
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)

logger = logging.getLogger(__name__)


class DownloadError(BatchLabelError):
    """The file can't be downloaded, or has other content than expected."""


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of retries.

    Attributes:
        timeout: seconds to wait for the next bytes.
        attempts: number of attempts in all.
        pause: seconds to wait after the first failed attempt; doubled after each further one.
    """

    timeout: float = 30.0
    attempts: int = 4
    pause: float = 1.0


@dataclass(frozen=True)
class SplitDigest:
    """Content of a split.

    Attributes:
        faces: number of faces.
        votes: SHA-256 over the names and votes, see ``digest_split``.
        pixels: SHA-256 over the names and grey levels.
    """

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
    """Compute the digest of a split, which does not depend on packing, order or compression.

    Faces are taken in the order of their names. ``votes`` is over lines of the name and the ten
    votes, separated by commas; ``pixels`` is over each name and its 48 x 48 grey levels.
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
    policy: RetryPolicy | None = None,
) -> None:
    """Download FER+ to a folder, or check the folder if it exists.

    The archive is unpacked beside ``home``, checked and removed; then the folder is renamed to
    ``home``.

    Args:
        home: the folder.
        url: address of the archive.
        contents: the expected content of each split.
        policy: limits of retries.

    Raises:
        DownloadError: the archive can't be downloaded, or the folder or archive has other content.
    """
    faces = f"{sum(split.faces for split in contents.values()):,}"
    if home.exists():
        _check_contents(home, contents, REPLACE_REMEDY)
        logger.info("%s has all %s faces of FER+", home, faces)
        return
    logger.info("downloading FER+ from %s", url)
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        _download_and_unpack(home, url, contents, policy)
    except OSError as error:
        raise DownloadError(
            f"{home} can't be written ({error.strerror})",
            "free space on its file system, or run `trainer data --to DIR`",
        ) from error
    logger.info("%s now has all %s faces of FER+", home, faces)


def download(url: str, target: Path, remedy: str, policy: RetryPolicy | None = None) -> None:
    """Download a file, which appears at ``target`` once it is complete.

    An interrupted download stays beside it and is resumed, by this call or a later one, if the
    server supports ranges and proves by a strong ETag that the file is unchanged (RFC 9110, Range
    and If-Range); otherwise it starts again.

    Args:
        url: address of the file, http or https.
        target: path of the file.
        remedy: advice for error messages.
        policy: limits of retries.

    Raises:
        DownloadError: the file can't be downloaded.
    """
    policy = policy or RetryPolicy()
    if not url.startswith(("http://", "https://")):
        raise DownloadError(f"{url} is not an http or https address", remedy)
    for attempt in range(policy.attempts):
        try:
            _fetch(url, target, policy.timeout)
        except NETWORK_ERRORS as error:
            is_last = attempt == policy.attempts - 1
            if is_last or (
                isinstance(error, urllib.error.HTTPError) and error.code not in TRANSIENT_STATUSES
            ):
                raise DownloadError(
                    f"{url} can't be downloaded ({_describe_error(error)})", remedy
                ) from error
            wait = policy.pause * 2**attempt
            logger.info("%s; retrying in %.0f s", _describe_error(error), wait)
            time.sleep(wait)
        else:
            return


def unpack_archive(archive: Path, folder: Path) -> None:
    """Unpack the label files and pictures of FER+ from a zip file, and nothing else.

    Paths are built from FER+'s own folder and file names, so that no file can get out of the
    folder.

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
                        f"{entry.filename} has {entry.file_size:,} bytes, too many for FER+",
                        MANUAL_REMEDY,
                    )
                (folder / found[1] / found[2]).write_bytes(packed.read(entry))
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DownloadError(f"the archive of FER+ is damaged ({error})", MANUAL_REMEDY) from error


def _download_and_unpack(
    home: Path, url: str, contents: Mapping[str, SplitDigest], policy: RetryPolicy | None
) -> None:
    # A fixed name, so that another call can resume the download.
    archive = home.with_name(f".{home.name}.batch-label-download.zip")
    download(url, archive, MANUAL_REMEDY, policy)
    stem = draft_stem(home)
    for left in DraftFolder.take_over_abandoned(home.parent, stem):
        left.remove(remove_contents)
    draft = DraftFolder.make(home.parent, stem)
    try:
        unpack_archive(archive, draft.content)
        _check_contents(draft.content, contents, MANUAL_REMEDY)
        draft.content.replace(home)  # fails unless home is absent or empty
    finally:  # even after an error: resuming a wrong archive would fail again
        archive.unlink()
        draft.remove(remove_contents)


def _check_contents(folder: Path, contents: Mapping[str, SplitDigest], remedy: str) -> None:
    try:
        faces = read_ferplus(folder)
    except FerplusError as error:
        raise DownloadError(f"{folder} is not FER+: {error.problem}", remedy) from error
    for split, wanted in contents.items():
        found = digest_split(faces[split])
        if found.faces != wanted.faces:
            problem = f"{found.faces:,} faces, not {wanted.faces:,}"
        elif found != wanted:
            problem = f"other {'votes' if found.votes != wanted.votes else 'pictures'} than FER+"
        else:
            continue
        raise DownloadError(f"{folder / SPLIT_FOLDERS[split]} has {problem}", remedy)


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
    resumes = response.status == http.client.PARTIAL_CONTENT
    have = part.stat().st_size if resumes else 0
    etag = response.headers.get("ETag", "")
    if etag.startswith('"'):
        tag.write_text(etag)
    elif not resumes:  # a weak ETag does not guarantee the same bytes
        tag.unlink(missing_ok=True)
    length = response.headers.get("Content-Length")
    total = have + int(length) if length else None
    from tqdm import tqdm  # imported late, because evaluation works without the extra `train`

    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="download", disable=None)
    with bar, part.open("ab" if resumes else "wb") as file:
        while block := response.read(BLOCK_BYTES):
            file.write(block)
            bar.update(len(block))
    size = part.stat().st_size
    if total is not None and size != total:
        raise ConnectionError(f"connection closed after {size:,} of {total:,} bytes")


def _describe_error(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
