"""Messages, reasons and remedies for errors of the operating system.

All of the program maps ``errno`` and ``OSError`` here. A denied permission is reported with the
owner and mode of the file or folder that denies it.
"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from batch.errors import OutputError
from batch.path_text import path_text, printable_text
from batch.records import Reason

PERMISSION_REMEDY = "change its owner (chown) or mode"
OUTPUT_REMEDY = "choose another path with -o"

# Remedies for errors while a file is written. {} is the remedy of the caller, such as
# ``OUTPUT_REMEDY``; for all other errors, it is the whole remedy.
_WRITE_REMEDIES = {
    errno.ENOSPC: "free some space there or {}, then run again",
    errno.EDQUOT: "free some of your quota there or {}, then run again",
    errno.EFBIG: "raise the limit on the size of files or {}, then run again",
    errno.ENOENT: "create its folder first or {}",
    errno.ENAMETOOLONG: "choose a shorter name with -o",
    errno.EACCES: f"{PERMISSION_REMEDY} or {{}}",
    errno.EPERM: f"{PERMISSION_REMEDY} or {{}}",
    errno.EPIPE: "keep its reader open to the end, or name a file with -o",
}
_DENIED_ERRNOS = (errno.EACCES, errno.EPERM)
# `access` checks the real user unless the system can check the effective one.
_HAS_EFFECTIVE_IDS = os.access in os.supports_effective_ids


@contextmanager
def translate_write_errors(
    name: str, remedy: str = OUTPUT_REMEDY, path: str | os.PathLike[str] | None = None
) -> Iterator[None]:
    """Turn an ``OSError`` while a file is written into an ``OutputError``.

    Args:
        name: the file as the message calls it, such as ``report r.csv``.
        remedy: how to choose another path.
        path: the file, if ``name`` has its whole path: the message then does not repeat it.

    Raises:
        OutputError: the block raised an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        remedy = _WRITE_REMEDIES.get(error.errno or 0, "{}").format(remedy)
        raise OutputError(describe_failed_access(name, "written", error, path), remedy) from error


def classify_read_error(error: BaseException | None) -> Reason:
    """Return the failure reason of a file that can't be read."""
    is_missing = isinstance(error, FileNotFoundError | NotADirectoryError)
    return Reason.VANISHED if is_missing else Reason.UNREADABLE


def is_denied(error: OSError) -> bool:
    """Return whether the system denied a permission."""
    return error.errno in _DENIED_ERRNOS


def has_access(path: Path, mode: int) -> bool:
    """Return whether this process's effective user may access a file, as ``os.access`` does."""
    return os.access(path, mode, effective_ids=_HAS_EFFECTIVE_IDS)


def describe_failed_access(
    name: str, verb: str, error: OSError, path: str | os.PathLike[str] | None = None
) -> str:
    """Describe what failed and why.

    ``r.csv can't be written (File exists)``, or, if a permission was denied,
    ``r.csv: permission denied (owner root (uid 0), mode 600)``.

    Args:
        name: the file as the message calls it.
        verb: the past participle of what failed, such as ``written``.
        error: what the system raised.
        path: as for ``describe_os_error``.
    """
    if is_denied(error):
        return f"{name}: {describe_os_error(error, path)}"
    return f"{name} can't be {verb} ({describe_os_error(error)})"


def describe_os_error(error: OSError, path: str | os.PathLike[str] | None = None) -> str:
    """Describe an error: ``permission denied (owner root (uid 0), mode 600)``, or its own text.

    Args:
        error: what the system raised.
        path: the file that failed, if the error has no file name. If ``path`` itself denies the
            permission, its name is omitted, as the message already has it.
    """
    if not is_denied(error):
        return printable_text(error.strerror or str(error) or type(error).__name__)
    names: tuple[object, ...] = (error.filename, error.filename2)
    given = [name for name in names if isinstance(name, str | Path)]
    with suppress(OSError):
        paths = [Path(name) for name in (given or ([] if path is None else [os.fspath(path)]))]
        denied = _find_denied(paths)
        if denied is not None:
            status = denied.stat()
            is_named = path is not None and denied == Path(path)
            kind = "folder" if denied.is_dir() else "file"
            which = "" if is_named else f"{kind} {path_text(denied)}, "
            return (
                f"permission denied ({which}owner {_describe_user(status.st_uid)}, "
                f"mode {status.st_mode & 0o7777:03o})"
            )
    return "permission denied"


def _find_denied(paths: Sequence[Path]) -> Path | None:
    """Find the path that denies access: a folder on the way, a file, or the folder it is in."""
    for path in paths:
        for folder in reversed(path.parents):
            if not has_access(folder, os.X_OK):
                return folder
        if path.exists() and not has_access(
            path, os.R_OK | (os.X_OK if path.is_dir() else os.W_OK)
        ):
            return path
    for path in paths:
        if not has_access(path.parent, os.W_OK):
            return path.parent
    # In a folder with the sticky bit, such as /tmp, only its owner may replace a file.
    others = (path for path in paths if path.exists() and path.stat().st_uid != os.geteuid())
    return next(others, None)


@lru_cache
def _describe_user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
