"""Small files and objects beside a report, replaced atomically."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from batch.errors import InputError, OutputError
from batch.files.publish import Draft, check_replaceable, is_device, resolve_path
from batch.files.regular_file import read_regular, read_start
from batch.location import Url
from batch.os_errors import has_access, translate_write_errors
from batch.path_text import path_text
from batch.stores.download import read_whole_object
from batch.stores.requests import call_with_retries
from batch.stores.store import open_store, translate_store_errors
from batch.stores.upload import RETRY_REMEDY, translate_upload_errors

# Bytes of a run record or a metrics file; they have a few KiB.
MAX_RECORD_BYTES = 8 << 20


@dataclass(frozen=True)
class AtomicObject:
    """An object beside a report in a store.

    Attributes:
        url: the object.
        noun: its kind in messages, such as "run record".
    """

    url: Url
    noun: str

    def write(self, data: bytes) -> None:
        """Replace the object in one step.

        Raises:
            OutputError: the store denies access, or can't be reached for long; the earlier object
                stays.
        """
        with translate_upload_errors(self.url, self.noun):
            store, path = open_store(self.url.text)
            call_with_retries(store, "pipe_file", path, data)

    def read(self) -> bytes | None:
        """Read the object; None if it can't be read or has more than ``MAX_RECORD_BYTES``."""
        with (
            suppress(InputError),
            translate_store_errors(
                f"{self.noun} {self.url} can't be read", InputError, RETRY_REMEDY
            ),
        ):
            return read_whole_object(self.url.text, MAX_RECORD_BYTES)
        return None


@dataclass(frozen=True)
class AtomicFile:
    """A file beside the report.

    Attributes:
        path: the file.
        noun: its kind in messages, such as "metrics file".
        remedy: what to do if the file can't be written, such as "name another file with
            --metrics-file".
        start: the first bytes of this program's file. A file that starts with other bytes is not
            replaced, unless it is empty; without ``start`` only images are not replaced.
        like: a file or folder whose owner, group and mode a new file gets.
    """

    path: Path
    noun: str
    remedy: str
    start: bytes = b""
    like: Path | None = None

    def check(self) -> None:
        """Check before the run that the file can be written.

        Raises:
            OutputError: it is a folder or device, or not this program's file, or its folder is
                missing or can't be written.
        """
        target = resolve_path(self.path)
        self._check_replaceable(target)
        with self._writing():
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if is_device(target):
                raise OSError(errno.EINVAL, "it is a pipe or device")
            if not has_access(target.parent, os.W_OK | os.X_OK):
                missing = not target.parent.is_dir()
                number = errno.ENOENT if missing else errno.EACCES
                raise OSError(number, os.strerror(number), os.fspath(target.parent))

    def write(self, data: bytes) -> None:
        """Replace the file in one step, in a way that survives a loss of power.

        Raises:
            OutputError: an I/O error, or the earlier file is not this program's; it stays.
        """
        self._check_replaceable(resolve_path(self.path))
        with self._writing():
            draft = Draft(self.path, self.noun, self.remedy, self.like)
            try:
                draft.stream.write(data)
                draft.stream.flush()
                os.fsync(draft.stream.fileno())
                draft.publish()
            except BaseException:
                draft.discard()
                raise

    def read(self) -> bytes | None:
        """Read the file; None if it can't be read or has more than ``MAX_RECORD_BYTES``."""
        try:
            return read_regular(self.path, MAX_RECORD_BYTES)
        except OSError:
            return None

    def _check_replaceable(self, target: Path) -> None:
        display_name = f"{self.noun} {path_text(self.path)}"
        check_replaceable(target, display_name, self.remedy)
        head = b""
        with suppress(OSError):  # there may be no file
            head = read_start(target, len(self.start)) or b""
        if head and head != self.start:
            raise OutputError(f"{display_name} was not written by batch-label", self.remedy)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with translate_write_errors(f"{self.noun} {path_text(self.path)}", self.remedy, self.path):
            yield
