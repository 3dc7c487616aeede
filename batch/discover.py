"""Which files a run looks at: folders, files, patterns and lists of paths, each file once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import BinaryIO

from batch.errors import InputError
from batch.records import Failure, Reason, Stage

LIST = "-"
WILDCARDS = frozenset("*?[")
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}
    | {".png", ".apng"}
    | {".webp"}
    | {".gif"}
    | {".bmp", ".dib"}
    | {".tif", ".tiff"}
    | {".avif", ".avifs"}
    | {".heic", ".heics", ".heif", ".heifs", ".hif"}
)

# They begin like a TIFF, but hold a small preview at best; mostly a JPEG lies beside them.
RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .cr3 .dcr .dng .erf .iiq .kdc .mef .mrw .nef .nrw .orf .pef .raf .rw2"
    " .sr2 .srw".split()
)

HEAD_BYTES = 64
SIGNATURES = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF, then BigTIFF, in either byte order
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
)
# HEIF (ISO/IEC 23008-12, annex B) and AVIF (AV1 Image File Format, section 6).
BRANDS = frozenset(b"avif avis heic heix heim heis hevc hevx hevm hevs mif1 msf1".split())
# "BM" alone begins many a text, so the size of the header that follows must be a known one.
BMP_HEADER_BYTES = frozenset({12, 16, 40, 52, 56, 64, 108, 124})

LeftOut = Callable[[Path, str], None]


@dataclass(frozen=True)
class Search:
    """How folders are searched.

    ``hidden`` takes names with a leading dot too; ``follow_symlinks`` takes what symbolic
    links inside a folder lead to.
    """

    recursive: bool = True
    hidden: bool = False
    follow_symlinks: bool = False


def discover(
    inputs: Sequence[str],
    search: Search,
    *,
    listing: BinaryIO | None = None,
    left_out: LeftOut = lambda path, why: None,
) -> Iterator[Path | Failure]:
    """Find the photos that the inputs stand for, each file once and in a stable order.

    An input is a folder, a file, a pattern (``*``, ``?``, ``[...]``, ``**``; only where no
    file has that very name) or ``-`` for a list of paths on ``listing``, which ends each
    with a newline or with NUL. What is named by itself is found whatever it holds. In a
    folder a file is found for its suffix or its first bytes, and any other entry is told
    to ``left_out`` with the reason. A folder's entries come in the order of their names'
    bytes. Hard links are files of their own.

    Raises:
        InputError: an input does not exist or matches nothing; before anything is yielded.
    """
    starts = [start for text in inputs for start in _starts(text, search, listing)]
    # A lone folder can't reach a file twice, so a tree of any size needs no memory.
    seen = _Seen() if search.follow_symlinks or len(starts) > 1 else None
    return _Explorer(search, left_out, seen).explore(starts)


def is_image(head: bytes) -> bool:
    """Tell whether a file's first ``HEAD_BYTES`` are those of a known image format."""
    if head.startswith(SIGNATURES):
        return True
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        return any(head[at : at + 4] in BRANDS for at in (8, *range(16, end, 4)))
    return head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADER_BYTES


def _starts(text: str, search: Search, listing: BinaryIO | None) -> list[str]:
    if text == LIST:
        if listing is None:
            raise InputError("'-' stands for a list of paths, but there is none", "pipe one in")
        return _listed(listing.read())
    try:
        os.stat(text)  # noqa: PTH116 - Path("") would be the current folder
    except OSError as error:
        if WILDCARDS.isdisjoint(text):
            raise InputError(
                f"input {text!r} can't be found ({error.strerror})",
                "check the spelling, and that its disk is mounted",
            ) from error
        return _matches(text, search)
    return [text]


def _listed(text: bytes) -> list[str]:
    # A name may hold a newline or end with a CR, so what NULs separate is taken to the letter.
    if b"\0" in text:
        entries = text.split(b"\0")
    else:
        entries = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    return [os.fsdecode(entry) for entry in entries if entry]


def _matches(pattern: str, search: Search) -> list[str]:
    parts = Path(pattern).parts
    fixed = next(i for i, part in enumerate(parts) if not WILDCARDS.isdisjoint(part))
    hidden = search.hidden or any(part.startswith(".") for part in parts[fixed:])
    try:
        # Unlike glob.glob, Path.glob follows no link to a folder, so link loops end.
        found = [
            os.fspath(path)
            for path in Path(*parts[:fixed]).glob("/".join(parts[fixed:]))
            if hidden or not any(part.startswith(".") for part in path.parts[fixed:])
        ]
    except ValueError as error:
        raise InputError(
            f"pattern {pattern!r} is wrong ({error})", "write ** between slashes, or quote less"
        ) from error
    if not found:
        raise InputError(f"no file matches {pattern!r}", "check the pattern and the folder")
    return sorted(found, key=os.fsencode)


@dataclass
class _Seen:
    """What was reached so far, for inputs that overlap and links that meet."""

    files: set[str] = field(default_factory=set)
    folders: set[tuple[int, int]] = field(default_factory=set)
    parent: tuple[Path, str] | None = None

    def is_new_file(self, path: Path) -> bool:
        # realpath asks the system about every part of a path: once a folder is enough.
        if self.parent is None or self.parent[0] != path.parent:
            self.parent = path.parent, os.path.realpath(path.parent)
        real = os.path.realpath(path) if path.is_symlink() else f"{self.parent[1]}/{path.name}"
        known = len(self.files)
        self.files.add(real)
        return len(self.files) > known

    def is_new_folder(self, path: Path) -> bool:
        status = path.stat()
        known = len(self.folders)
        self.folders.add((status.st_dev, status.st_ino))
        return len(self.folders) > known


@dataclass(frozen=True)
class _Explorer:
    search: Search
    left_out: LeftOut
    seen: _Seen | None

    def explore(self, starts: Iterable[str]) -> Iterator[Path | Failure]:
        for found in self._reach(starts):
            path = found.path if isinstance(found, Failure) else found
            if self.seen is None or self.seen.is_new_file(path):
                yield found

    def _reach(self, starts: Iterable[str]) -> Iterator[Path | Failure]:
        for path in map(Path, starts):
            try:
                mode = path.stat().st_mode
            except OSError as error:
                yield _failure(path, error)
                continue
            if S_ISDIR(mode):
                yield from self._walk(path)
            elif S_ISREG(mode):
                yield path
            else:
                yield Failure(path, Stage.READ, Reason.NOT_A_FILE, "not a regular file")

    def _walk(self, top: Path) -> Iterator[Path | Failure]:
        levels = [self._entries(top)]  # a stack of its own: folders nest deeper than Python calls
        while levels:
            entry = next(levels[-1], None)
            if entry is None:
                levels.pop()
            elif isinstance(entry, Failure):
                yield entry
            elif (found := self._found(entry)) is not None:
                if isinstance(found, Path) and entry.is_dir():
                    levels.append(self._entries(found))
                else:
                    yield found

    def _entries(self, folder: Path) -> Iterator[os.DirEntry[str] | Failure]:
        try:
            if self.seen is not None and not self.seen.is_new_folder(folder):
                return
            with os.scandir(folder) as entries:
                ordered = sorted(entries, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            yield _failure(folder, error)
        else:
            yield from ordered

    def _found(self, entry: os.DirEntry[str]) -> Path | Failure | None:
        """Judge an entry: a folder to enter, a file, a failure, or None for one left out."""
        path = Path(entry.path)
        try:
            why = self._why_not(entry, path)
            special = not (entry.is_file() or entry.is_dir())
        except OSError as error:
            return _failure(path, error)
        if why:
            self.left_out(path, why)
            return None
        if special:
            return Failure(path, Stage.READ, Reason.NOT_A_FILE, "not a regular file")
        return path

    def _why_not(self, entry: os.DirEntry[str], path: Path) -> str | None:
        if entry.name.startswith(".") and not self.search.hidden:
            return "hidden"
        if entry.is_symlink():
            if not self.search.follow_symlinks:
                return "symbolic link"
            entry.stat()  # raises where the link leads nowhere, unlike the questions below
        if entry.is_dir():
            return None if self.search.recursive else "in a subfolder"
        if path.suffix.lower() in SUFFIXES:
            return None
        if path.suffix.lower() in RAW_SUFFIXES:
            return "camera raw"
        if not entry.is_file():
            return "not a regular file"
        return None if is_image(_head(path)) else "no image"


def _head(path: Path) -> bytes:
    # Without O_NONBLOCK a pipe that has just taken the file's place would never open.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(descriptor, HEAD_BYTES)
    finally:
        os.close(descriptor)


def _failure(path: Path, error: OSError) -> Failure:
    gone = isinstance(error, FileNotFoundError | NotADirectoryError)
    reason = Reason.VANISHED if gone else Reason.UNREADABLE
    return Failure(path, Stage.READ, reason, error.strerror or type(error).__name__)
