"""Exclude patterns in the syntax of .gitignore, and the junk folders excluded by default.

Source: https://git-scm.com/docs/gitignore#_pattern_format
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from batch.errors import UsageError
from batch.location import WILDCARDS
from batch.os_errors import describe_failed_access
from batch.path_text import printable_text

# Folders of thumbnails, previews, snapshots and deleted files.
JUNK_PATTERNS = (
    *("@eaDir/", "#recycle/", "#snapshot/", "@Recycle/", "@Recently-Snapshot/", ".@__thumb/"),
    *("$RECYCLE.BIN/", "$Recycle.Bin/", "System Volume Information/", "lost+found/"),
    *(".Trash/", ".Trash-*/", ".Trashes/", "__MACOSX/"),
    *(".thumbnails/", ".dtrash/", "*.lrdata/", "*.photoslibrary/resources/"),
)
# Reasons for skipping a path: one of the user's patterns, or one of ``JUNK_PATTERNS``, matches it.
EXCLUDED = "excluded"
JUNK_FOLDER = "junk folder"
MAX_EXCLUDE_BYTES = 1024**2  # size of an exclude file

# POSIX character classes, ASCII only as in git.
_CHARACTER_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t-\\r",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}


class _Rule(NamedTuple):
    """One pattern.

    Attributes:
        regex: the pattern as a regular expression.
        whole_path: whether it matches a path, else a name.
        folders_only: whether it matches folders only.
        is_literal: whether it has no wildcards.
        reason: why a match is skipped; None for a negated pattern, which re-includes it.
    """

    regex: str
    whole_path: bool
    folders_only: bool
    is_literal: bool
    reason: str | None


class _Group(NamedTuple):
    """Consecutive rules with one reason, as one expression for names and one for paths."""

    names: re.Pattern[str] | None
    paths: re.Pattern[str] | None
    reason: str | None


class Exclusion:
    """Compiled patterns, with ``JUNK_PATTERNS`` in front; the last match decides.

    All methods return the reason for skipping a path, or None. Paths are relative to the input.

    Attributes:
        has_file_rules: whether any pattern can match a file.

    Raises:
        UsageError: a pattern is invalid.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        own = [rule for pattern in patterns if (rule := _parse_pattern(pattern, EXCLUDED))]
        rules = [
            rule for pattern in JUNK_PATTERNS if (rule := _parse_pattern(pattern, JUNK_FOLDER))
        ] + own
        self._of_files = _group_rules(rule for rule in rules if not rule.folders_only)
        self._of_folders = _group_rules(rules)
        self._own = _group_rules(own)
        self._own_of_files = _group_rules(rule for rule in own if not rule.folders_only)
        self._own_literal = _group_rules(rule for rule in own if rule.is_literal)
        self.has_file_rules = bool(self._of_files)
        self._last: tuple[str, str | None] = ("", None)

    def match_file(self, path: str) -> str | None:
        """Match a file whose folders are not excluded."""
        return _find_match(self._of_files, path)

    def match_folder(self, path: str) -> str | None:
        """Match a folder whose parents are not excluded."""
        return _find_match(self._of_folders, path)

    def match_path(self, path: str, *, folder: bool = False) -> str | None:
        """Match a path and all its parents."""
        parent = path.rpartition("/")[0]
        last = self._last
        if parent != last[0]:  # consecutive files mostly share a folder
            self._last = last = parent, _find_match_from_top(self._of_folders, parent)
        return last[1] or _find_match(self._of_folders if folder else self._of_files, path)

    def match_listed(self, path: str) -> str | None:
        """Match a path of a list and all its parents against the user's patterns only.

        The path may be a folder, so folder patterns without wildcards match it too.
        """
        if not self._own:
            return None
        path = path.strip("/")
        return (
            _find_match_from_top(self._own, path.rpartition("/")[0])
            or _find_match(self._own_of_files, path)
            or _find_match(self._own_literal, path)
        )

    def match_named(self, name: str, *, folder: bool) -> str | None:
        """Match the name of an input against the user's patterns without a slash.

        For a folder, patterns with wildcards don't count: ``*/`` means the folders in it.
        """
        groups = self._own_literal if folder else self._own_of_files
        return _find_match([group._replace(paths=None) for group in groups], name)


@lru_cache(maxsize=16)
def compile_exclusion(patterns: tuple[str, ...]) -> Exclusion:
    """Compile patterns; equal ones share one result.

    Raises:
        UsageError: a pattern is invalid.
    """
    return Exclusion(patterns)


def read_patterns(path: str) -> list[str]:
    """Read patterns from a file in the syntax of .gitignore.

    Raises:
        UsageError: the file can't be read, is too large or is not UTF-8.
    """
    name = f"exclude file {printable_text(path)}"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_EXCLUDE_BYTES + 1)
    except OSError as error:
        remedy = "name another with --exclude-from"
        raise UsageError(describe_failed_access(name, "read", error, path), remedy) from error
    if len(data) > MAX_EXCLUDE_BYTES:
        raise UsageError(f"{name} has more than {MAX_EXCLUDE_BYTES:,} bytes", "name another file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8", "save it as UTF-8") from error
    if "\0" in text:
        raise UsageError(f"{name} is not text in UTF-8 (it has NULs)", "save it as UTF-8")
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [
        _strip_trailing_spaces(line) for line in lines if line.strip() and not line.startswith("#")
    ]


def _strip_trailing_spaces(line: str) -> str:
    """Remove trailing spaces, but not one after a backslash."""
    stripped = line.rstrip(" ")
    slashes = len(stripped) - len(stripped.rstrip("\\"))
    return f"{stripped} " if slashes % 2 and stripped != line else stripped


def _find_match(groups: Sequence[_Group], path: str) -> str | None:
    name = path[path.rfind("/") + 1 :]
    for names, paths, reason in groups:
        if (names and names.fullmatch(name)) or (paths and paths.fullmatch(path)):
            return reason
    return None


def _find_match_from_top(groups: Sequence[_Group], path: str) -> str | None:
    path = path.strip("/")
    end = 0
    while end < len(path):
        end = path.find("/", end + 1)
        end = len(path) if end < 0 else end
        why = _find_match(groups, path[:end])
        if why:
            return why
    return None


def _group_rules(rules: Iterable[_Rule]) -> list[_Group]:
    """Join rules into as few expressions as possible, in reverse order."""
    groups: list[_Group] = []
    for reason, rules_of_reason in groupby(rules, lambda rule: rule.reason):
        if reason is None and not groups:
            continue  # nothing to re-include
        together = list(rules_of_reason)
        names, paths = (
            re.compile("|".join(chosen), re.DOTALL) if chosen else None
            for chosen in (
                [rule.regex for rule in together if rule.whole_path is whole]
                for whole in (False, True)
            )
        )
        groups.append(_Group(names, paths, reason))
    return groups[::-1]


def _parse_pattern(pattern: str, reason: str) -> _Rule | None:
    text = pattern.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.removesuffix("/")
    if not text:
        return None
    whole_path = "/" in text
    parts = text.removeprefix("/").split("/")
    regex = ""
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        if whole_path and part == "**":
            regex += ".+" if is_last else "(?:.+/)?"
        else:
            regex += _translate(part, pattern) + ("" if is_last else "/")
    is_literal = WILDCARDS.isdisjoint(text)
    kept = None if pattern.startswith("!") else reason
    return _Rule(regex, whole_path, folders_only, is_literal, kept)


def _translate(part: str, pattern: str) -> str:
    """Translate the part of a pattern between two slashes into a regular expression."""
    pieces, at = [""], 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            if len(pieces) == 1 or pieces[-1]:
                pieces.append("")
        elif char == "?":
            pieces[-1] += "[^/]"
        elif char == "[":
            chars, at = _translate_bracket(part, at, pattern)
            pieces[-1] += chars
        else:
            if char == "\\":
                if at == len(part):
                    raise _make_pattern_error(pattern, "trailing backslash")
                char = part[at]
                at += 1
            pieces[-1] += re.escape(char)
    if len(pieces) == 1:
        return pieces[0]
    # The shortest match of each piece but the last leaves the most to the others. So atomic groups
    # give the right result, and prevent exponential backtracking.
    first, *middle, last = pieces
    return first + "".join(f"(?>[^/]*?{piece})" for piece in middle) + f"[^/]*{last}"


def _translate_bracket(part: str, at: int, pattern: str) -> tuple[str, int]:
    """Translate the bracket expression that begins before ``at``; also return where it ends."""
    is_negated = part[at : at + 1] in ("!", "^")
    start = at = at + is_negated
    chars = ""
    while True:
        if part[at : at + 2] == "[:" and (end := part.find(":]", at)) > 0:
            name = part[at + 2 : end]
            if name not in _CHARACTER_CLASSES:
                raise _make_pattern_error(pattern, f"[:{name}:] is not a character class")
            chars += _CHARACTER_CLASSES[name]
            at = end + 2
        elif part[at : at + 1] == "]" and at > start:
            break
        else:
            low, at = _read_character(part, at, pattern)
            high = low
            if part[at : at + 1] == "-" and part[at + 1 : at + 2] not in ("", "]"):
                high, at = _read_character(part, at + 1, pattern)
            if low <= high:
                chars += f"{re.escape(low)}-{re.escape(high)}"
    if is_negated:
        return f"[^/{chars}]", at + 1
    return f"(?!/)[{chars}]" if chars else "(?!)", at + 1


def _read_character(part: str, at: int, pattern: str) -> tuple[str, int]:
    """Read one character of a set, escaped or not; also return where the next one begins."""
    at += part[at : at + 1] == "\\"
    if at >= len(part):
        raise _make_pattern_error(pattern, "unclosed bracket")
    return part[at], at + 1


def _make_pattern_error(pattern: str, why: str) -> UsageError:
    return UsageError(
        f"exclude pattern {printable_text(pattern)} is invalid ({why})",
        "escape literal special characters with a backslash",
    )
