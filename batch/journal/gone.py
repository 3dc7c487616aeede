"""Known photos that a run does not find: whether they are deleted, or their disk is away."""

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

# With fewer photos gone than this, no percentage of --max-gone is exceeded.
MIN_GONE = 10
DISK_REMEDY = "see whether their disk is mounted; if they are meant to be gone"
# Files that file managers leave in a folder without photos, besides hidden ones.
JUNK_FILES = ("Thumbs.db", "desktop.ini")
EMPTY, UNREADABLE = "no photos in it", "can't be read"
_CHUNK_PATHS = 1_000


class InputCoverage(Iterable[FoundFile]):
    """Passes on what is found, and notes which inputs have no photos and what can't be read.

    Attributes:
        empty: inputs in which nothing was found, written as paths of files in them would begin.
        unreadable: paths of folders, archives and files that could not be looked at.
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
                if folder != last:  # once for each folder
                    self.empty.difference_update(_iter_containers(file.path))
                    last = folder
            yield file


@dataclass
class UnavailablePhotos:
    """Photos that are missing with the folder, archive or input that they were in."""

    photos: Counter[str] = field(default_factory=Counter)
    why: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All these photos."""
        return self.photos.total()

    @property
    def remedy(self) -> str:
        """What to do about it."""
        if EMPTY in self.why.values():
            return f"{DISK_REMEDY}, remove the empty folder or run once with --max-gone 0"
        return "see to their permissions and their disk"

    def describe(self) -> str:
        """Name the places with the most photos: ``photos/a (3 photos: no photos in it)``."""
        named = [
            f"{path_text(parse_location(place))} ({count_text(count, 'photo')}: {self.why[place]})"
            for place, count in self.photos.most_common(MAX_NAMED)
        ]
        more = len(self.photos) - len(named)
        return ", ".join(named) + (f" and {more} more" if more else "")


def keep_unavailable(
    journal: Journal, coverage: InputCoverage, unreadable_only: bool, exclusion: Exclusion
) -> UnavailablePhotos:
    """Keep what the journal knows of photos whose folder, archive or input seems to be away.

    It is away if it can't be read or, unless ``unreadable_only``, if it still stands and is empty,
    as a mount point is without its disk, and if no photo is found in an input.
    """
    missing = UnavailablePhotos()
    is_empty = lru_cache(1024)(partial(_is_empty, exclusion))
    last, place, why = "", "", ""
    paths = journal.read_gone()
    while chunk := list(islice(paths, _CHUNK_PATHS)):
        kept = []
        for path in chunk:
            folder = next(_iter_containers(path), "")
            if folder != last:  # once for each folder
                last = folder
                place, why = _find_unavailable(path, coverage, is_empty)
            is_away = why == UNREADABLE or (why == EMPTY and not unreadable_only)
            if is_away and not (why == EMPTY and _is_skipped(path, exclusion)):
                kept.append(path)
                missing.photos[place] += 1
                missing.why[place] = why
        journal.mark_kept(kept)
    return missing


def _find_unavailable(
    path: str, coverage: InputCoverage, is_empty: Callable[[str], bool | None]
) -> tuple[str, str]:
    """Find the folder, archive or input that is away, and why it seems so; both "" if none is."""
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
            if empty is not None:  # the innermost folder that is still there
                return (place, EMPTY) if empty else ("", "")
    return "", ""


def check_any_found(known: int, inputs: Sequence[str]) -> None:
    """Make sure, where nothing at all was found, that there was nothing before either.

    Raises:
        BatchLabelError: there were photos.
    """
    if known:
        named = ", ".join(map(printable_text, inputs[:MAX_NAMED]))
        raise BatchLabelError(
            f"no photos found in {named}, where {count_text(known, 'photo')} were known; "
            "no report is published, and an earlier one stays",
            f"{DISK_REMEDY}, run once with --max-gone 0",
        )


def check_report_count(found: int, reported: int, limit: CountLimit) -> None:
    """Make sure that a run without a journal found about as many photos as the report has.

    Raises:
        BatchLabelError: more than the limit allows are gone.
    """
    gone = reported - found
    if gone > 0 and not limit.is_off and _exceeds_limit(limit, gone, reported):
        raise BatchLabelError(
            f"the earlier report has {reported} photos and {found} were found, so that more are "
            f"gone than --max-gone {limit} allows; no report is published, and the earlier one "
            "stays",
            f"{DISK_REMEDY}, or the report is one of other photos, run once with --max-gone 0",
        )


def check_gone(
    journal: Journal, limit: CountLimit, known: int | None, passes: Exclusion | None
) -> int:
    """Make sure that no more photos are gone than the limit allows; return how many are.

    ``known`` is how many there were, None if no report has told of them yet. Photos that still
    exist and what ``passes`` excludes are not missed, unless it is None: then all are.

    Raises:
        BatchLabelError: more are gone.
    """
    gone = journal.count_gone()
    if known is None or limit.is_off or not _exceeds_limit(limit, gone, known):
        return gone
    deleted = journal.read_gone() if passes is None else _iter_deleted(journal, passes)
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
    """Give the photos that are gone, but for those that options or other inputs pass over."""
    for path in journal.read_gone():
        if not _is_skipped(path, exclusion):
            yield path


def _is_skipped(path: str, exclusion: Exclusion) -> bool:
    # In stores and archives it would take a request each to see what is there, so patterns tell.
    return (not is_url(path) and os.path.lexists(path)) or bool(exclusion.match_path(path))


def _exceeds_limit(limit: CountLimit, gone: int, known: int) -> bool:
    return limit.is_exceeded(gone, known) and not (limit.is_percentage and gone < MIN_GONE)


def _is_empty(exclusion: Exclusion, folder: str) -> bool | None:
    """Tell whether a folder is empty, None if it is not there.

    What is left on a mount point or by a file manager does not count: hidden names, junk folders.
    One that can't be read is not called empty: the run has found that out if it was to look there.
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
    """Write an input as the paths of the files in it begin."""
    location = parse_location(text)
    return os.fspath(location) if isinstance(location, Path) else text.rstrip("/")


def _iter_containers(path: str) -> Iterator[str]:
    """Give the paths of a file's archive and of all folders above, the innermost first."""
    member = split_member(path)
    if member:
        path = member[0]
        yield path
    yield from _iter_folders(path)


def _iter_folders(path: str) -> Iterator[str]:
    """Give the folders above a file, the innermost first; ``.`` or ``/`` is the last."""
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
