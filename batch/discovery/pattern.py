"""Expansion of path patterns; unlike ``glob``, folders that can't be read are kept."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from stat import S_IFDIR, S_IFMT, S_IFREG, S_ISLNK

from batch.discovery.walk import CHECK_EVERY, NOT_REGULAR, SYMBOLIC_LINK, check_every, folder_prefix
from batch.errors import InputError
from batch.location import WILDCARDS
from batch.options import Search
from batch.stopping import StopCheck

ANY_DEPTH = "**"


def expand_pattern(
    pattern: str, search: Search, exclude: Callable[[str, str], object], check: StopCheck
) -> tuple[str, list[str]]:
    """Return the paths that match a pattern.

    Folders that can't be read are among them, as files in them may match; their walk reports why.
    ``**`` does not follow links, so link loops end. Names with a leading dot match only if the
    search includes hidden names or a segment of the pattern starts with a dot.

    Args:
        pattern: a path with wildcards.
        search: how folders are searched.
        exclude: called with every path that is excluded or not a regular file, and the reason.
            Names that the pattern spells out are never excluded.
        check: called regularly; raises an exception to end the work.

    Returns:
        The folder above all matches, which exclude patterns are relative to, and the matches in
        the order of their bytes.

    Raises:
        InputError: the pattern is invalid, or matches nothing.
    """
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if not WILDCARDS.isdisjoint(part))
    if any(ANY_DEPTH in part and part != ANY_DEPTH for part in parts):
        raise InputError(
            f"pattern {pattern!r} is invalid (** must stand alone between slashes)",
            "write it as in a/**/b, or use * inside a name",
        )
    if any(part.startswith(".") for part in parts[fixed:]):
        search = replace(search, hidden=True)
    top = os.fspath(Path(*parts[:fixed])) if fixed else ""
    excluded: dict[str, str] = {}
    found = set(
        check_every(CHECK_EVERY, check, _iter_matches(top, parts[fixed:], search, excluded, check))
    )
    for path, reason in sorted(excluded.items(), key=lambda item: os.fsencode(item[0])):
        exclude(path, reason)
    if not found and not excluded:
        raise InputError(f"no file matches {pattern!r}", "check the pattern and the folder")
    return top, sorted(found, key=os.fsencode)


def _iter_matches(
    top: str, parts: tuple[str, ...], search: Search, excluded: dict[str, str], check: StopCheck
) -> Iterator[str]:
    start, exclusion = len(folder_prefix(top)), search.exclusion
    stack = [(top, parts)]  # not recursive: folders may be deep
    while stack:
        folder, (part, *rest) = stack.pop()
        if WILDCARDS.isdisjoint(part):
            path = os.path.join(folder, part)  # noqa: PTH118 - text, as in `walk`
            if rest:
                stack.append((path, tuple(rest)))
                continue
            try:
                link = S_ISLNK(os.lstat(path).st_mode)
                if reason := _find_skip_reason(path, link, search.follow_symlinks):
                    excluded[path] = reason
                else:
                    yield path
            except (FileNotFoundError, NotADirectoryError):
                pass
            except PermissionError:
                yield folder or "."
            except OSError:
                yield path
            continue
        if part == ANY_DEPTH:
            if rest:
                stack.append((folder, tuple(rest)))
            else:
                yield folder or "."
        try:
            with os.scandir(folder or ".") as entries:
                for entry in check_every(CHECK_EVERY, check, entries):
                    if entry.name.startswith(".") and not search.hidden:
                        continue
                    path = os.path.join(folder, entry.name)  # noqa: PTH118
                    is_folder = entry.is_dir(follow_symlinks=False)
                    if part != ANY_DEPTH and fnmatchcase(entry.name, part):
                        if entry.is_symlink():
                            is_folder = _read_target_type(path) in (S_IFDIR, None)
                        is_wanted = is_folder or not rest
                    else:
                        is_wanted = part == ANY_DEPTH and is_folder
                    if not is_wanted:
                        continue
                    reason = (exclusion.match_folder if is_folder else exclusion.match_file)(
                        path[start:]
                    )
                    plain = is_folder or entry.is_file(follow_symlinks=False)
                    if not reason and not plain:
                        reason = _find_skip_reason(path, entry.is_symlink(), search.follow_symlinks)
                    if reason:
                        excluded[path] = reason
                    elif part == ANY_DEPTH:
                        stack.append((path, (part, *rest)))
                    elif rest:
                        stack.append((path, tuple(rest)))
                    else:
                        yield path
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            yield folder or "."


def _find_skip_reason(path: str, link: bool, follow: bool) -> str | None:
    """Return why an entry is skipped that is neither a folder nor a file, with the walk's reasons.

    A link to a file counts as a file, as in a shell.
    """
    kind = _read_target_type(path)
    if kind in (S_IFDIR, S_IFREG, None):
        return None
    if link and not follow:
        return SYMBOLIC_LINK
    return NOT_REGULAR if kind else None


def _read_target_type(path: str) -> int | None:
    """Return the type of file that a path leads to: 0 if it is dangling, None if unknown."""
    try:
        return S_IFMT(os.stat(path).st_mode)  # noqa: PTH116
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        return 0 if error.errno == errno.ELOOP else None
