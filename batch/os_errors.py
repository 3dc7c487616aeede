"""Wording of what the system refuses: of a permission, with the owner and mode of the file."""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from batch.path_text import path_text, printable_text

# What to do about a refused permission, besides choosing another place.
PERMISSION_REMEDY = "change its owner (chown) or mode"
_DENIED_ERRNOS = (errno.EACCES, errno.EPERM)
# Asks for the user that the process acts as, where the system can tell.
_HAS_EFFECTIVE_IDS = os.access in os.supports_effective_ids


def is_denied(error: OSError) -> bool:
    """Tell whether the system refused a permission."""
    return error.errno in _DENIED_ERRNOS


def describe_failed_access(
    called: str, verb: str, error: OSError, path: str | os.PathLike[str] | None = None
) -> str:
    """Word a problem: ``r.csv can't be written (File exists)``, or ``r.csv: permission denied``.

    The latter with the owner and mode; see ``describe_os_error``.
    """
    if is_denied(error):
        return f"{called}: {describe_os_error(error, path)}"
    return f"{called} can't be {verb} ({describe_os_error(error)})"


def has_access(path: Path, mode: int) -> bool:
    """Tell whether this process may use a file, as ``os.access`` does, by its effective user."""
    return os.access(path, mode, effective_ids=_HAS_EFFECTIVE_IDS)


def describe_os_error(error: OSError, path: str | os.PathLike[str] | None = None) -> str:
    """Word an error: ``permission denied (owner root (uid 0), mode 600)``, or the system's words.

    What refuses a permission is named, unless it is ``path``, which the message has already. Files
    that the error itself names come first.
    """
    if not is_denied(error):
        return printable_text(error.strerror or str(error) or type(error).__name__)
    names: tuple[object, ...] = (error.filename, error.filename2)
    given = [name for name in names if isinstance(name, str | Path)]
    with suppress(OSError):
        paths = [Path(name) for name in (given or ([] if path is None else [os.fspath(path)]))]
        refusing = _find_denied(paths)
        if refusing is not None:
            status = refusing.stat()
            called = "folder" if refusing.is_dir() else "file"
            is_known = path is not None and refusing == Path(path)
            which = "" if is_known else f"{called} {path_text(refusing)}, "
            return (
                f"permission denied ({which}owner {_describe_user(status.st_uid)}, "
                f"mode {status.st_mode & 0o7777:03o})"
            )
    return "permission denied"


def _find_denied(paths: Sequence[Path]) -> Path | None:
    """Find what this user may not use: a folder on the way, a file, or the folder it is in."""
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
    # In a folder such as /tmp, where files are replaced by their owners alone.
    others = (path for path in paths if path.exists() and path.stat().st_uid != os.geteuid())
    return next(others, None)


@lru_cache
def _describe_user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"
