"""Small files and objects replaced as a whole: a reader sees the earlier one or the new one."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from batch.errors import InputError, OutputError
from batch.location import Url
from batch.names import path_text, printable
from batch.reports.output import is_device
from batch.reports.publish import Draft, resolved
from batch.stores.download import MAX_OBJECT_BYTES, read_object
from batch.stores.retrying import request
from batch.stores.store import open_store, store_refusals
from batch.stores.upload import LATER, uploading


@dataclass(frozen=True)
class WholeObject:
    """An object beside a report in a store, and what messages call it."""

    url: Url
    noun: str

    def write(self, data: bytes) -> None:
        """Replace the object in one step.

        Raises:
            OutputError: the store refuses, or can't be reached for long; the earlier one stays.
        """
        with uploading(self.url, self.noun):
            store, path = open_store(self.url.text)
            request(store, "pipe_file", path, data)

    def read(self) -> bytes | None:
        """Read the object as the last run left it; None where there is none to be had."""
        with (
            suppress(InputError),
            store_refusals(f"{self.noun} {self.url} can't be read", InputError, LATER),
        ):
            return read_object(self.url.text, MAX_OBJECT_BYTES)
        return None


@dataclass(frozen=True)
class WholeFile:
    """A file beside the report, with what messages call it and say of it.

    ``noun`` is such as "metrics file"; ``elsewhere`` is what to do about a place that does
    not do, such as "name another file with --metrics-file".
    """

    path: Path
    noun: str
    elsewhere: str

    def check(self) -> None:
        """Find out before the work whether the file could be written.

        Raises:
            OutputError: it is a folder or device, or its folder is missing or can't be written.
        """
        target = resolved(self.path)
        with self._writing():
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if is_device(target):
                raise OSError(errno.EINVAL, "it is a pipe or device")
            if not os.access(target.parent, os.W_OK | os.X_OK):
                missing = not target.parent.is_dir()
                number = errno.ENOENT if missing else errno.EACCES
                raise OSError(number, os.strerror(number))

    def write(self, data: bytes) -> None:
        """Replace the file in one step, safe against a loss of power.

        Raises:
            OutputError: the system refuses; the earlier file stays.
        """
        with self._writing():
            draft = Draft(self.path)
            try:
                draft.stream.write(data)
                draft.stream.flush()
                os.fsync(draft.stream.fileno())
                draft.publish()
            except BaseException:
                draft.discard()
                raise

    def read(self) -> bytes | None:
        """Read the file as the last run left it; None where there is none to be had."""
        try:
            return None if is_device(self.path) else self.path.read_bytes()
        except OSError:
            return None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = printable(error.strerror or str(error))
            raise OutputError(
                f"{self.noun} {path_text(self.path)} can't be written ({why})", self.elsewhere
            ) from error
