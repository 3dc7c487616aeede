"""Patterns of paths, looked up together with folders that refuse to be looked into."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from batch.errors import InputError
from batch.location import WILDCARDS
from batch.sources.walk import CHECK_EVERY, every
from batch.stopping import Check

ANY_DEPTH = "**"


def match(pattern: str, hidden: bool, check: Check) -> list[str]:
    """Give the paths that a pattern stands for, in the order of their bytes.

    Among them are folders that can't be read, for what lies in them may match: whoever walks them
    finds out why. ``**`` follows no link, so link loops end. Without ``hidden`` names that begin
    with a dot are matched only if the pattern has such a name.

    Raises:
        InputError: the pattern is wrong, or matches nothing.
    """
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if not WILDCARDS.isdisjoint(part))
    if any(ANY_DEPTH in part and part != ANY_DEPTH for part in parts):
        raise InputError(
            f"pattern {pattern!r} is wrong (** is not a name of its own)",
            "write ** between slashes, or quote less",
        )
    hidden = hidden or any(part.startswith(".") for part in parts[fixed:])
    top = os.fspath(Path(*parts[:fixed])) if fixed else ""
    found = set(every(CHECK_EVERY, check, _find(top, parts[fixed:], hidden, check)))
    if not found:
        raise InputError(f"no file matches {pattern!r}", "check the pattern and the folder")
    return sorted(found, key=os.fsencode)


def _find(top: str, parts: tuple[str, ...], hidden: bool, check: Check) -> Iterator[str]:
    stack = [(top, parts)]  # folders nest deeper than Python calls
    while stack:
        folder, (part, *rest) = stack.pop()
        if WILDCARDS.isdisjoint(part):
            path = os.path.join(folder, part)  # noqa: PTH118 - text, as in `walk.py`
            if rest:
                stack.append((path, tuple(rest)))
            elif os.path.lexists(path):
                yield path
            continue
        if part == ANY_DEPTH:
            if rest:
                stack.append((folder, tuple(rest)))
            else:
                yield folder or "."
        try:
            with os.scandir(folder or ".") as entries:
                for entry in every(CHECK_EVERY, check, entries):
                    if entry.name.startswith(".") and not hidden:
                        continue
                    path = os.path.join(folder, entry.name)  # noqa: PTH118
                    if part == ANY_DEPTH:
                        if entry.is_dir(follow_symlinks=False):
                            stack.append((path, (part, *rest)))
                    elif fnmatchcase(entry.name, part):
                        if not rest:
                            yield path
                        elif entry.is_dir():
                            stack.append((path, tuple(rest)))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:
            yield folder or "."
