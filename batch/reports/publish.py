"""Publishing: a file that takes its name only when it is whole."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from batch.errors import OutputError
from batch.names import path_text, printable

ELSEWHERE = "choose another place with -o"
_REMEDIES = {
    errno.ENOSPC: "free some space there or {}, then run again",
    errno.EDQUOT: "free some of your quota there or {}, then run again",
    errno.EFBIG: "raise the limit on the size of files or {}, then run again",
    errno.ENOENT: "create its folder first or {}",
    errno.ENAMETOOLONG: "choose a shorter name with -o",
    errno.EPIPE: "keep its reader open to the end, or name a file with -o",
}


@contextmanager
def writing(where: str, elsewhere: str = ELSEWHERE) -> Iterator[None]:
    """Turn what the system refuses while a report is written into an ``OutputError``.

    ``where`` is the report as its message calls it, ``elsewhere`` the remedy for a place that
    does not do.
    """
    try:
        yield
    except OSError as error:
        why = printable(error.strerror or str(error))
        remedy = _REMEDIES.get(error.errno or 0, "{}").format(elsewhere)
        raise OutputError(f"{where} can't be written ({why})", remedy) from error


class Draft:
    """A hidden file beside the report, which takes the report's name once it is whole.

    A reader sees the earlier report or the new one, never a part, even if the process is
    killed or the machine stops. The file gets an earlier report's permissions, else those
    of the umask; a link is followed, so that the file it points to is replaced.
    """

    def __init__(self, output: Path) -> None:
        self._called = f"report {path_text(output)}"
        self._target = resolved(output)
        self._path = draft_path(self._target)
        _remove_stale(self._target)
        # Not by tempfile, which would keep the report from everyone but its owner.
        self.stream: BinaryIO = self._path.open("xb")
        with suppress(OSError):  # mostly since there is no earlier report
            self._path.chmod(stat.S_IMODE(self._target.stat().st_mode))

    def publish(self) -> None:
        """Put the draft in the report's place, safe against a loss of power."""
        with writing(self._called):
            self.stream.flush()
            os.fsync(self.stream.fileno())
            self.stream.close()
            self._path.replace(self._target)
        sync_folder(self._target.parent)

    def discard(self) -> None:
        """Remove the draft."""
        with suppress(OSError):
            self.stream.close()
        with suppress(OSError):
            self._path.unlink()


def resolved(output: Path) -> Path:
    """Follow links to the file that is to be replaced, which need not exist yet."""
    # Not Path.resolve, which raises RuntimeError for a link to itself.
    return Path(os.path.realpath(output))


def draft_path(target: Path) -> Path:
    """Name this process's draft of a report, hidden beside it."""
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def _remove_stale(target: Path) -> None:
    """Remove the drafts that killed runs left of the same report.

    One that bears this process's own number is stale too: in a container each run may
    have the same. Runs of one report at the same time are kept apart by the run's lock.
    """
    pattern = re.compile(rf"\.{re.escape(target.name)}\.([1-9][0-9]*)\.tmp")
    with suppress(OSError):  # what can't be removed is in nobody's way
        for entry in target.parent.iterdir():
            match = pattern.fullmatch(entry.name)
            if match and not is_another_alive(int(match[1])):
                entry.unlink()


def is_another_alive(pid: int) -> bool:
    """Tell whether a process of this number runs that is not this one."""
    if pid == os.getpid():
        return False
    if sys.platform == "win32":
        return True  # there, asking by signal would end the process
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is alive, and another user's
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Have a folder's names on the disk, as far as its file system can do that."""
    # The report stands already, and some file systems can't sync a folder.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
