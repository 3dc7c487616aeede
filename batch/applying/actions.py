"""Actions: what is to be done with a photo that matches, compared with what was done before."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from batch.applying.operations import Kind, Operation, Operations
from batch.applying.selection import ReportedPhoto
from batch.applying.steps import (
    COMPANION,
    FOREIGN,
    SIDECAR_UNUSABLE,
    Skipped,
    Step,
    check_removable,
    is_intact,
    is_stale,
    make_draft,
    read_sidecar,
    to_path,
)
from batch.applying.transfer import (
    CHANGED,
    GONE,
    UNREADABLE,
    How,
    Refusal,
    make_source_key,
    make_target_key,
    verify,
)
from batch.errors import SidecarError
from batch.file_types import SIDECAR_SUFFIX
from batch.options import SidecarName, SidecarOptions

BELOW = "below the folder already"
LINKED = "a symbolic link, which is not moved"
SHARED = "with the sidecar of another photo"
UNLABELLED = "without a label for a keyword"
VERBS = {How.COPY: "copy", How.HARD: "link", How.SYMBOLIC: "link", How.REFLINK: "link"}


@dataclass(frozen=True)
class Candidate:
    """A photo that matches.

    Attributes:
        source: its absolute path.
        digest: SHA-256 of the bytes that were labelled.
        reported: what the report says.
        is_trusted: whether the photo is known to have the digest.
    """

    source: Path
    digest: bytes
    reported: ReportedPhoto
    is_trusted: bool = False

    @property
    def label(self) -> str:
        """The label, or status, of its folder."""
        return self.reported.folders[0]


class Action(Protocol):
    """Something to do with photos."""

    def plan(self, photo: Candidate) -> list[Step]:
        """Return what is to be done, in order; empty if it is done already.

        Raises:
            Refusal: it can't be done, as the photo is gone or has changed.
            Skipped: the action is not meant for the photo.
        """

    def list_unmatched(self) -> Iterator[Operation]:
        """Yield what was made for photos that do not match any more."""

    def plan_removal(self, made: Operation) -> list[Step]:
        """Return what is to be done to remove it.

        Raises:
            Refusal: it can't be removed, or must not be.
        """


class FolderAction:
    """Copies, links or moves photos into a folder per label.

    Args:
        root: absolute path of the folder of these folders.
        how: how a photo gets there; None to move it.
        flat: without the sub-folders in which the photos are.
        base: the folder to which the paths of sub-folders are relative.
        operations: what was done before.
        dry_run: whether only to plan, without reading photos.
    """

    def __init__(
        self,
        root: Path,
        how: How | None,
        flat: bool,
        base: Path,
        operations: Operations,
        dry_run: bool,
    ) -> None:
        self.root = root
        self.place = make_folder_place(root, how)
        self._how = how
        self._verb = "move" if how is None else VERBS[how]
        self._flat = flat
        self._base = base
        self._operations = operations
        self._dry_run = dry_run

    def plan(self, photo: Candidate) -> list[Step]:
        """Plan to make a copy or link, or to move the photo: see ``Action``."""
        return self._plan_move(photo) if self._how is None else self._plan_make(photo, self._how)

    def list_unmatched(self) -> Iterator[Operation]:
        """Yield the copies and links; moved photos stay: see ``Action``."""
        if self._how is not None:
            for made in self._operations.unseen(self.place):
                if os.path.lexists(to_path(made.target)):
                    yield made

    def plan_removal(self, made: Operation) -> list[Step]:
        """Plan to remove a copy or link: see ``Action``."""
        check_removable(made)
        return [self._remove(made, "remove")]

    def _plan_make(self, photo: Candidate, how: How) -> list[Step]:
        if self.root in photo.source.parents:
            raise Skipped(BELOW)
        wanted = self._find_wanted(photo.label, self._find_relative(photo.source))
        made = self._operations.find_current(self.place, os.fsencode(photo.source))
        if made is None or made.target is None or not os.path.lexists(to_path(made.target)):
            if make_source_key(photo.source) is None:
                raise Refusal(GONE)
            number = made.number if made is not None and made.wanted == wanted else 1
            return [self._make(photo, how, wanted, self._verb, number)]
        if not is_intact(made):
            raise Skipped(FOREIGN)
        if is_stale(made, photo.digest) and not self._dry_run and not photo.is_trusted:
            verify(photo.source, photo.digest)
        if made.digest != photo.digest or made.how != how:
            number = made.number if made.wanted == wanted else 1
            make = self._make(photo, how, wanted, "replace", number, made.target)
            return [replace(self._remove(made, ""), label=photo.label), make]
        if made.wanted != wanted:
            return [self._rename(made, photo, wanted)]
        self._refresh(made)
        return []

    def _plan_move(self, photo: Candidate) -> list[Step]:
        moved = self._find_moved(photo.source)
        if moved is None:
            return self._plan_new_move(photo)
        target = to_path(moved.target)
        key = make_target_key(target)
        if key != moved.target_key and not self._dry_run:
            verify(target, photo.digest)
            self._operations.set_keys(moved, moved.source_key, key, photo.digest)
            moved = replace(moved, target_key=key, digest=photo.digest)
        elif moved.digest != photo.digest:
            # The photo of the report is neither at its old place nor at its new one.
            raise Refusal(CHANGED if photo.source == target else GONE)
        relative = to_path(moved.wanted).relative_to(self.root)
        relative = Path(*relative.parts[1:]) if len(relative.parts) > 1 else relative
        wanted = self._find_wanted(photo.label, Path(relative.name) if self._flat else relative)
        if moved.wanted == wanted:
            return []
        step = self._rename(moved, photo, wanted)
        return [step, *self._move_companion(target, step)]

    def _find_moved(self, source: Path) -> Operation | None:
        """Find the move of a photo that the report names by its old or its new path."""
        name = os.fsencode(source)
        moved = self._operations.find_by_target(self.place, name)
        if moved is not None:
            newest = self._operations.find_current(self.place, moved.source)
            return moved if newest is not None and newest.id == moved.id else None
        if os.path.lexists(source):
            return None
        moved = self._operations.find_current(self.place, name)
        if moved is None or moved.target is None or not os.path.lexists(to_path(moved.target)):
            return None
        return moved

    def _plan_new_move(self, photo: Candidate) -> list[Step]:
        source, folder = photo.source, self.root / name_folder(photo.label)
        if make_source_key(source) is None:
            raise Refusal(GONE)
        if folder in source.parents:
            return []
        if source.is_symlink():
            raise Skipped(LINKED)
        wanted = self._find_wanted(photo.label, self._find_relative(source))
        number, target = self._allocate(wanted, os.fsencode(source))
        step = Step(
            Operation(
                Kind.MOVE,
                self.place,
                os.fsencode(source),
                wanted=wanted,
                number=number,
                target=os.fsencode(target),
                digest=photo.digest,
                draft=make_draft(target),
            ),
            "move",
            photo.label,
            source,
            self.root,
        )
        return [step, *self._move_companion(source, step)]

    def _move_companion(self, photo: Path, step: Step) -> list[Step]:
        """Plan to move the sidecar of a photo that is moved, if it has one."""
        sidecar = Path(f"{photo}{SIDECAR_SUFFIX}")
        if sidecar.is_symlink() or not sidecar.is_file():
            return []
        target = Path(f"{to_path(step.operation.target)}{SIDECAR_SUFFIX}")
        moved = self._operations.find_by_target(self.place, os.fsencode(sidecar))
        operation = Operation(
            Kind.MOVE if moved is None else Kind.RENAME,
            self.place,
            os.fsencode(sidecar) if moved is None else moved.source,
            how=COMPANION,
            target=os.fsencode(target),
            previous=None if moved is None else os.fsencode(sidecar),
            draft=make_draft(target),
        )
        return [replace(step, operation=operation, verb="move sidecar", photo=sidecar)]

    def _make(
        self,
        photo: Candidate,
        how: How,
        wanted: bytes,
        verb: str,
        number: int,
        freed: bytes | None = None,
    ) -> Step:
        source = os.fsencode(photo.source)
        number, target = self._allocate(wanted, source, number, freed)
        operation = Operation(
            Kind.MAKE,
            self.place,
            source,
            how=how,
            wanted=wanted,
            number=number,
            target=os.fsencode(target),
            digest=photo.digest,
            draft=make_draft(target) if how in (How.COPY, How.REFLINK) else None,
        )
        return Step(operation, verb, photo.label, photo.source, self.root)

    def _rename(self, made: Operation, photo: Candidate, wanted: bytes) -> Step:
        number, target = self._allocate(wanted, made.source)
        operation = replace(
            made,
            kind=Kind.RENAME,
            wanted=wanted,
            number=number,
            target=os.fsencode(target),
            previous=made.target,
        )
        return Step(operation, "rename", photo.label, photo.source, self.root)

    def _remove(self, made: Operation, verb: str) -> Step:
        operation = replace(made, kind=Kind.REMOVE, target=None, previous=made.target)
        label = to_path(made.target).relative_to(self.root).parts[0]
        return Step(operation, verb, label, to_path(made.source), self.root)

    def _refresh(self, made: Operation) -> None:
        """Record new states of files whose bytes are the same, so that they are not read again."""
        keys = make_source_key(to_path(made.source)), make_target_key(to_path(made.target))
        if keys != (made.source_key, made.target_key) and not self._dry_run:
            self._operations.set_keys(made, *keys, made.digest)

    def _find_relative(self, source: Path) -> Path:
        if not self._flat and self._base in source.parents:
            return source.relative_to(self._base)
        return Path(source.name)

    def _find_wanted(self, label: str, relative: Path) -> bytes:
        return os.fsencode(self.root / name_folder(label) / relative)

    def _allocate(
        self, wanted: bytes, source: bytes, number: int = 1, freed: bytes | None = None
    ) -> tuple[int, Path]:
        """Find a free name and reserve it.

        Args:
            wanted: the path without a number.
            source: the photo.
            number: the number to try first; 1 for none.
            freed: a path that will be free.
        """
        path = add_number(to_path(wanted), number)
        is_reserved = self._operations.find_reserved(wanted, number) not in (None, source)
        if is_reserved or (os.path.lexists(path) and os.fsencode(path) != freed):
            number = max(1, self._operations.find_last_number(wanted))
            while True:
                number += 1
                path = add_number(to_path(wanted), number)
                if not os.path.lexists(path):
                    break
        self._operations.reserve(wanted, number, source)
        return number, path


class SidecarAction:
    """Writes labels as keywords, and faces as regions, into XMP sidecars.

    Args:
        options: what is written.
        operations: what was done before.
        dry_run: whether only to plan, without reading photos.
    """

    def __init__(self, options: SidecarOptions, operations: Operations, dry_run: bool) -> None:
        self.place = b"sidecar " + options.sidecar_name.encode()
        self._options = options
        self._operations = operations
        self._dry_run = dry_run

    def plan(self, photo: Candidate) -> list[Step]:
        """Plan to write the sidecar: see ``Action``."""
        source, sidecar = os.fsencode(photo.source), self._find_sidecar(photo.source)
        key = make_source_key(photo.source)
        if key is None:
            raise Refusal(GONE)
        written = self._operations.find_current(self.place, source)
        if not photo.reported.keywords:
            if written is not None and written.content is not None:
                return self.plan_removal(written)
            raise Skipped(UNLABELLED)
        if self._options.sidecar_name is SidecarName.STEM and self._is_shared(sidecar, source):
            raise Skipped(SHARED)
        content = self._compute_content(photo.reported)
        if written is not None and written.content == content:
            is_same_photo = written.source_key == key and written.digest == photo.digest
            if make_target_key(sidecar) == written.target_key and is_same_photo:
                return []
        before = read_sidecar(sidecar)
        data = self._update(photo, before, written)
        if data == before:
            self._refresh(written, photo, content, sidecar)
            return []
        operation = Operation(
            Kind.WRITE,
            self.place,
            source,
            how=self._options.keyword_root,
            target=os.fsencode(sidecar),
            digest=photo.digest,
            before=None if before is None else zlib.compress(before),
            written=hashlib.sha256(data).digest(),
            content=content,
            draft=make_draft(sidecar),
        )
        return [
            Step(
                operation,
                "write",
                photo.reported.keywords[0],
                photo.source,
                sidecar.parent,
                data,
                photo.is_trusted,
            )
        ]

    def list_unmatched(self) -> Iterator[Operation]:
        """Yield the sidecars that have labels: see ``Action``."""
        for written in self._operations.unseen(self.place):
            if written.content is not None and os.path.lexists(to_path(written.target)):
                yield written

    def plan_removal(self, made: Operation) -> list[Step]:
        """Plan to take the labels out of a sidecar: see ``Action``."""
        from batch.xmp import remove_content

        sidecar = to_path(made.target)
        before = read_sidecar(sidecar)
        if before is None:
            return []
        try:
            data = remove_content(before, made.how)
        except SidecarError as error:
            raise Refusal(SIDECAR_UNUSABLE, error.problem) from error
        if data == before:
            return []
        operation = replace(
            made,
            kind=Kind.WRITE,
            before=zlib.compress(before),
            written=None if data is None else hashlib.sha256(data).digest(),
            content=None,
            draft=make_draft(sidecar),
        )
        return [Step(operation, "clear", made.how, to_path(made.source), sidecar.parent, data)]

    def _is_shared(self, sidecar: Path, source: bytes) -> bool:
        """Return whether a sidecar belongs to another photo with the same stem; else claim it."""
        name = os.fsencode(sidecar)
        claimed = self._operations.find_reserved(name, 1)
        if claimed is None:
            written = self._operations.find_by_target(self.place, name)
            if written is not None and written.content is not None:
                claimed = written.source
                if not to_path(claimed).exists():
                    claimed = None
        if claimed not in (None, source):
            return True
        self._operations.reserve(name, 1, source)
        return False

    def _update(self, photo: Candidate, before: bytes | None, written: Operation | None) -> bytes:
        from batch.xmp import FaceRegion, SidecarContent, remove_content, update_sidecar

        reported, faces = photo.reported, None
        if self._options.faces:
            faces = tuple(FaceRegion(face.label, *face.box) for face in reported.faces)
        content = SidecarContent(
            reported.keywords,
            self._options.keyword_root,
            faces,
            reported.width or 0,
            reported.height or 0,
            read_orientation(photo.source) if faces else 1,
        )
        old_root = written.how if written is not None and written.content is not None else None
        try:
            if before is not None and old_root not in (None, self._options.keyword_root):
                before = remove_content(before, old_root)
            return update_sidecar(before, content)
        except SidecarError as error:
            raise Refusal(SIDECAR_UNUSABLE, error.problem) from error

    def _compute_content(self, reported: ReportedPhoto) -> bytes:
        faces = (reported.faces, reported.width, reported.height) if self._options.faces else None
        return hashlib.sha256(
            repr((self._options.keyword_root, reported.keywords, faces)).encode()
        ).digest()

    def _refresh(
        self, written: Operation | None, photo: Candidate, content: bytes, sidecar: Path
    ) -> None:
        """Record the new state of a sidecar that needs no change, so that it is not read again."""
        if written is None or self._dry_run:
            return
        if written.content == content and written.target == os.fsencode(sidecar):
            if not photo.is_trusted and is_stale(written, photo.digest):
                verify(photo.source, photo.digest)
            keys = make_source_key(photo.source), make_target_key(sidecar)
            self._operations.set_keys(written, *keys, photo.digest)

    def _find_sidecar(self, photo: Path) -> Path:
        if self._options.sidecar_name is SidecarName.STEM:
            return photo.with_suffix(SIDECAR_SUFFIX)
        return Path(f"{photo}{SIDECAR_SUFFIX}")


def check_sidecar_options(options: SidecarOptions) -> None:
    """Check that sidecars can be written at all.

    Raises:
        UsageError: lxml is not installed.
        SidecarError: the root can't be a keyword.
    """
    from batch.xmp import SidecarContent, update_sidecar

    update_sidecar(None, SidecarContent((), options.keyword_root, None, 0, 0))


def make_folder_place(root: Path, how: How | None) -> bytes:
    """Return the place of copies and links, or of moved photos, below a folder."""
    return (b"moved to " if how is None else b"made in ") + os.fsencode(root)


def name_folder(label: str) -> str:
    """Return the name of a label's folder: what can't be in a name becomes ``%HH``."""
    name = label.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def add_number(path: Path, number: int) -> Path:
    """Add a number to a file's name: ``photo-2.jpg``; 1 adds none."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def read_orientation(photo: Path) -> int:
    """Read the EXIF orientation of a photo; 1 if it has none.

    Raises:
        Refusal: the photo can't be read.
    """
    from PIL import ExifTags, Image

    from batch.file_types import RAW_TYPE, detect_file_type
    from batch.records import Failure
    from batch.vision.raw import find_preview
    from batch.vision.read_file import read_file

    data = read_file(photo)
    if isinstance(data, Failure):
        raise Refusal(UNREADABLE, data.detail)
    if detect_file_type(data) is RAW_TYPE:
        preview = find_preview(data)
        return (preview.orientation or 1) if preview else 1
    try:
        # Only formats that store an orientation and whose decoder does not apply it.
        with Image.open(photo, formats=("JPEG", "MPO", "PNG", "TIFF", "WEBP")) as image:
            found = int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF data have no orientation
        return 1
    return found if 1 <= found <= 8 else 1
