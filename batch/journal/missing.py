"""Missing photos: files that the journal knows and a run does not find.

A missing photo is *unavailable* if its folder, archive or input can't be read or is empty, like a
mount point without its disk: ``keep_unavailable`` keeps its row in the report. All others are
*gone* and leave the report; the run fails if there are more than ``--max-gone``.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from pathlib import Path

from batch.errors import BatchLabelError
from batch.exclude import JUNK_FOLDER, Exclusion
from batch.found import FoundFile
from batch.journal.journal import Journal
from batch.limits import CountLimit
from batch.location import is_url, parse_location, split_member
from batch.log import count_text
from batch.path_text import path_text, printable_text
from batch.tally import MAX_NAMED

# Fewer gone photos than this never exceed a percentage of --max-gone.
MIN_GONE = 10
DISK_REMEDY = "check that their disk is mounted; if they were deleted on purpose"
# Files that file managers create, besides hidden ones: a folder with nothing else counts as empty.
JUNK_FILES = ("Thumbs.db", "desktop.ini")
EMPTY, UNREADABLE = "no photos in it", "can't be read"
_CHUNK_PATHS = 1_000


class InputCoverage(Iterable[FoundFile]):
    """Yields found files unchanged, and records the inputs that are empty or unreadable.

    Attributes:
        empty: inputs in which no file was found, as path prefixes of their files.
        unreadable: paths of folders, archives and files that can't be read.
    """

    def __init__(self, found: Iterable[FoundFile], inputs: Sequence[str]) -> None:
        self._found = found
        self._inputs = frozenset(map(_normalize_input, inputs))
        self.empty: set[str] = set()
        self.unreadable: set[str] = set()

    def __iter__(self) -> Iterator[FoundFile]:
        self.empty, self.unreadable = set(self._inputs), set()
        last = ""
        for file in self._found:
            if file.failure:
                self.unreadable.add(file.path.rstrip("/") or "/")
            elif self.empty:
                folder = next(_iter_containers(file.path), "")
                if folder != last:  # once per folder
                    self.empty.difference_update(_iter_containers(file.path))
                    last = folder
            yield file


@dataclass
class UnavailablePhotos:
    """Missing photos whose folder, archive or input is unavailable.

    Attributes:
        photos: the number of photos by unavailable folder, archive or input.
        why: the reason, by unavailable folder, archive or input.
    """

    photos: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """The number of photos."""
        return self.photos.total()

    @property
    def remedy(self) -> str:
        """What the user can do, for a message."""
        if EMPTY in self.why.values():
            return f"{DISK_REMEDY}, remove the empty folder or run once with --max-gone 0"
        return "check their permissions and their disk"

    def describe(self) -> str:
        """Name the folders with the most photos: ``photos/a (3 photos: no photos in it)``."""
        named = [
            f"{path_text(parse_location(place))} ({count_text(count, 'photo')}: {self.why[place]})"
            for place, count in self.photos.most_common(MAX_NAMED)
        ]
        more = len(self.photos) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")


def keep_unavailable(
    journal: Journal, coverage: InputCoverage, unreadable_only: bool, exclusion: Exclusion
) -> UnavailablePhotos:
    """Keep the rows of missing photos whose folder, archive or input is unavailable.

    Args:
        journal: the journal, after ``find_moved``.
        coverage: the run's inputs.
        unreadable_only: do not keep the rows of empty folders and inputs.
        exclusion: what the run skips.
    """
    unavailable = UnavailablePhotos()
    is_empty = lru_cache(1024)(partial(_is_empty, exclusion))
    last, place, why = "", "", ""
    paths = journal.read_missing_paths()
    while chunk := list(islice(paths, _CHUNK_PATHS)):
        kept = []
        for path in chunk:
            folder = next(_iter_containers(path), "")
            if folder != last:  # once per folder
                last = folder
                place, why = _find_unavailable(path, coverage, is_empty)
            is_unavailable = why == UNREADABLE or (why == EMPTY and not unreadable_only)
            if is_unavailable and not (why == EMPTY and _is_skipped(path, exclusion)):
                kept.append(path)
                unavailable.photos[place] += 1
                unavailable.why[place] = why
        journal.mark_kept(kept)
    return unavailable


def _find_unavailable(
    path: str, coverage: InputCoverage, is_empty: Callable[[str], bool | None]
) -> tuple[str, str]:
    """Find the unavailable folder, archive or input of a file, and the reason; "" if none is."""
    for place in _iter_containers(path):
        if place in coverage.unreadable:
            return place, UNREADABLE
        if place in coverage.empty:
            return place, EMPTY
    archive = split_member(path)
    local = archive[0] if archive else path
    if not is_url(local):
        for place in _iter_folders(local):
            empty = is_empty(place)
            if empty is not None:  # the innermost folder that exists
                return (place, EMPTY) if empty else ("", "")
    return "", ""


def check_any_found(known: int | None, inputs: Sequence[str]) -> None:
    """Refuse a run that found no photos if an earlier one did.

    Args:
        known: the number of photos that were known; None if an earlier report can't be compared.
        inputs: the inputs of the run.

    Raises:
        BatchLabelError: photos were known, or may have been.
    """
    if known != 0:
        were = "an earlier report can't be compared"
        if known is not None:
            were = f"{count_text(known, 'photo')} were known"
        named = ", ".join(map(printable_text, inputs[:MAX_NAMED]))
        raise BatchLabelError(
            f"no photos found in {named}, but {were}; "
            "no report is published, and an earlier one stays",
            f"{DISK_REMEDY}, run once with --max-gone 0",
        )


def check_report_count(found: int, reported: int, limit: CountLimit) -> None:
    """Check the number of photos against an earlier report, for a run without a journal.

    Raises:
        BatchLabelError: more photos are gone than the limit allows.
    """
    gone = reported - found
    if gone > 0 and not limit.is_off and _exceeds_limit(limit, gone, reported):
        raise BatchLabelError(
            f"the earlier report has {reported} photos and {found} were found, so more are gone "
            f"than --max-gone {limit} allows; no report is published, and the earlier one stays",
            f"{DISK_REMEDY}, or if the report is of other photos, run once with --max-gone 0",
        )


def check_gone(
    journal: Journal, limit: CountLimit, known: int | None, skipping: Exclusion | None
) -> int:
    """Check that no more photos are gone than the limit allows, and count them.

    Args:
        journal: the journal, after ``keep_unavailable``.
        limit: ``--max-gone``.
        known: the number of known photos; None if no report of them was published.
        skipping: what the run skips: missing photos that exist or are excluded do not count. None
            to count all missing photos.

    Raises:
        BatchLabelError: more photos are gone.
    """
    gone = journal.count_missing()
    if known is None or limit.is_off or not _exceeds_limit(limit, gone, known):
        return gone
    deleted = journal.read_missing_paths() if skipping is None else _iter_deleted(journal, skipping)
    named = [path_text(parse_location(path)) for path in islice(deleted, MAX_NAMED)]
    count = len(named) + sum(1 for _ in deleted)
    if _exceeds_limit(limit, count, known):
        raise BatchLabelError(
            f"{count} of {known} known photos are gone, more than --max-gone {limit} allows "
            f"(such as {', '.join(named)}); no report is published, and an earlier one stays",
            f"{DISK_REMEDY}, run once with --max-gone 0",
        )
    return gone


def _iter_deleted(journal: Journal, exclusion: Exclusion) -> Iterator[str]:
    """Yield the missing photos that the run does not skip."""
    for path in journal.read_missing_paths():
        if not _is_skipped(path, exclusion):
            yield path


def _is_skipped(path: str, exclusion: Exclusion) -> bool:
    # In stores and archives only the patterns are checked: looking for a file takes a request.
    return (not is_url(path) and os.path.lexists(path)) or bool(exclusion.match_path(path))


def _exceeds_limit(limit: CountLimit, gone: int, known: int) -> bool:
    return limit.is_exceeded(gone, known) and not (limit.is_percentage and gone < MIN_GONE)


def _is_empty(exclusion: Exclusion, folder: str) -> bool | None:
    """Whether a folder has only hidden and junk files, or none; None if it does not exist.

    An unreadable folder is not empty: ``InputCoverage`` records those that belong to the run.
    """
    try:
        with os.scandir(folder) as entries:
            return all(
                entry.name.startswith(".")
                or entry.name in JUNK_FILES
                or exclusion.match_folder(entry.name) == JUNK_FOLDER
                for entry in entries
            )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return False


def _normalize_input(text: str) -> str:
    """Return an input as the prefix of the paths of its files."""
    location = parse_location(text)
    return os.fspath(location) if isinstance(location, Path) else text.rstrip("/")


def _iter_containers(path: str) -> Iterator[str]:
    """Yield the archive of a file and all folders above, the innermost first."""
    member = split_member(path)
    if member:
        path = member[0]
        yield path
    yield from _iter_folders(path)


def _iter_folders(path: str) -> Iterator[str]:
    """Yield the folders above a file, the innermost first; ``.`` or ``/`` is the last."""
    if is_url(path):
        start = path.index("://") + 3
        while (end := path.rfind("/", start)) > 0:
            path = path[:end]
            yield path
        return
    while (folder := os.path.dirname(path)) != path:  # noqa: PTH120 - text, as in `walk.py`
        path = folder or "."
        yield path
        if not folder:
            return
