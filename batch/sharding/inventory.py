"""Listings of whole buckets that Amazon S3 writes by itself: S3 Inventory.

Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO

from batch.errors import InputError
from batch.files.regular_file import open_regular
from batch.found import Found, find
from batch.location import Location, Url, location_of
from batch.options import LeftOut, Search
from batch.os_errors import describe_refusal
from batch.path_text import path_text, printable
from batch.reports.arrow import DAMAGES
from batch.sharding.inventory_rows import READERS
from batch.sources.walk import CHECK_EVERY, every
from batch.stopping import Check, never_stop
from batch.stores.download import opened

REMEDY = "give the manifest.json of an S3 inventory, with the files that it names where they were"

# Bytes between two looks at whether the run is to end.
_COPIED_AT_ONCE = 1024**2


@dataclass(frozen=True)
class _File:
    """One of the files that an inventory is spread over; ``key`` is in the bucket it lies in."""

    key: str
    md5: str | None


class Inventory:
    """An inventory that is there; ``manifest`` is its manifest.json, a path or a URL.

    Raises:
        InputError: it is missing, or no inventory.
        UsageError: a package that it needs is not installed.
    """

    def __init__(self, manifest: str) -> None:
        self._place = location_of(manifest)
        self._called = f"inventory {path_text(self._place)}"
        with self._reading(), opened(self._place, self._called, InputError) as file:
            values = json.load(file)
        try:
            self._bucket = str(values["sourceBucket"])
            self._read = READERS[str(values["fileFormat"]).upper()]
            self._schema = str(values["fileSchema"])
            self._files = [_File(f["key"], f.get("MD5checksum")) for f in values["files"]]
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self._called} is none: {error!r} is amiss", REMEDY) from error

    def files(
        self, search: Search, left_out: LeftOut, check: Check = never_stop
    ) -> Iterator[Found]:
        """Give the photos in the bucket, in the order of the inventory.

        They are told by their names alone. Objects that are not the latest version, or that mark
        a deletion, are passed over. ``check`` may end it all by an exception.

        Raises:
            InputError: a file of the inventory is missing or damaged.
        """
        yield from search.leave_out_older(self._listed(search, left_out, check), left_out)

    def _listed(self, search: Search, left_out: LeftOut, check: Check) -> Iterator[Found]:
        for file in self._files:
            with self._reading(file.key), self._fetched(file, check) as stream:
                for listed in every(CHECK_EVERY, check, self._read(stream, self._schema)):
                    if listed.deleted or not listed.latest:
                        continue
                    url = f"s3://{listed.bucket or self._bucket}/{listed.key}"
                    why = search.why_not(listed.key)
                    if why:
                        left_out(Url(url), why)
                    else:
                        yield find(url, listed.size, listed.mtime_ns, listed.etag)

    @contextmanager
    def _fetched(self, file: _File, check: Check) -> Iterator[BinaryIO]:
        """Open a file of the inventory here, once its bytes are known to be right."""
        place = self._beside(file.key)
        called = f"{self._called}: {path_text(place)}"
        with _open(place, called) as there, tempfile.TemporaryFile() as here:
            if isinstance(self._place, Url):
                # A footer comes last, so a file is read from behind: not over a network.
                for part in every(1, check, iter(partial(there.read, _COPIED_AT_ONCE), b"")):
                    here.write(part)
            stream = here if isinstance(self._place, Url) else there
            stream.seek(0)
            found = hashlib.file_digest(stream, _md5).hexdigest()  # type: ignore[arg-type]
            if file.md5 not in (None, found):
                raise ValueError(f"its MD5 is {found}, not {file.md5}")
            stream.seek(0)
            yield stream

    def _beside(self, key: str) -> Location:
        """Find a file by its key: from the bucket's root, or from where a copy of that begins."""
        if isinstance(self._place, Url):
            scheme, _, rest = self._place.text.partition("://")
            return Url(f"{scheme}://{rest.partition('/')[0]}/{key}")
        folder = self._place.absolute().parent
        copies = [parent / key for parent in (folder, *folder.parents)]
        name = PurePosixPath(key).name
        near = [folder.parent / "data" / name, folder / name]
        return next((path for path in (*copies, *near) if path.is_file()), copies[0])

    @contextmanager
    def _reading(self, key: str = "") -> Iterator[None]:
        where = f"{self._called}, file {printable(key)}," if key else self._called
        try:
            yield
        except OSError as error:
            raise InputError(describe_refusal(where, "read", error), REMEDY) from error
        except (*DAMAGES, EOFError) as error:
            why = printable(" ".join(str(error).split()))
            raise InputError(f"{where} is damaged ({why})", REMEDY) from error


def _open(place: Location, called: str) -> BinaryIO:
    if isinstance(place, Url):
        return opened(place, called, InputError)
    return open_regular(place)


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
