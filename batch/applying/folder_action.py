"""Copies, links and moves into a folder per label, compared with what was done before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from batch.applying.operation_row import Kind, Operation
from batch.applying.operations import Operations
from batch.applying.steps import (
    COMPANION,
    Candidate,
    Skipped,
    Step,
    check_removable,
    is_intact,
    is_stale,
    make_draft,
    to_path,
)
from batch.applying.transfer import (
    CHANGED,
    FOREIGN,
    GONE,
    How,
    Refusal,
    make_source_key,
    make_target_key,
    verify,
)
from batch.file_types import SIDECAR_SUFFIX

BELOW = "below the folder already"
OTHER_ACTION = "in the folder already by another action"
LINKED = "a symbolic link, which is not moved"
# Names of actions, followed by their folder.
_MOVED, _MADE = b"moved to ", b"made in "
VERBS = {How.COPY: "copy", How.HARD: "link", How.SYMBOLIC: "link", How.REFLINK: "link"}


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
        self.name = name_folder_action(root, how)
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
            for made in self._operations.list_unseen(self.name):
                if self._is_own(made, self._how) and os.path.lexists(to_path(made.target)):
                    yield made

    def plan_removal(self, made: Operation) -> list[Step]:
        """Plan to remove a copy or link: see ``Action``."""
        check_removable(made)
        return [self._remove(made, "remove")]

    def _plan_make(self, photo: Candidate, how: How) -> list[Step]:
        if self.root in photo.source.parents:
            raise Skipped(BELOW)
        wanted = self._find_wanted(photo.label, self._find_relative(photo.source))
        made = self._operations.find_current(self.name, os.fsencode(photo.source))
        if made is None or made.target is None or not os.path.lexists(to_path(made.target)):
            if make_source_key(photo.source) is None:
                raise Refusal(GONE)
            number = made.number if made is not None and made.wanted == wanted else 1
            return [self._make(photo, how, wanted, self._verb, number)]
        if not self._is_own(made, how):
            raise Skipped(OTHER_ACTION)
        if not is_intact(made):
            raise Skipped(FOREIGN, to_path(made.target))
        if is_stale(made, photo.digest) and not self._dry_run:
            verify(photo.source, photo.digest)
        if made.digest != photo.digest or made.how != how:
            number = made.number if made.wanted == wanted else 1
            make = self._make(photo, how, wanted, "replace", number, made.target)
            remove = replace(self._remove(made, ""), label=photo.label)
            return [remove, replace(make, follows=True)]
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
            return self._fetch_companion(moved, photo)
        step = self._rename(moved, photo, wanted)
        return [step, *self._move_companion(target, step)]

    def _find_moved(self, source: Path) -> Operation | None:
        """Find the move of a photo that the report names by its old or its new path."""
        name = os.fsencode(source)
        moved = self._operations.find_by_target(self.name, name)
        if moved is not None:
            newest = self._operations.find_current(self.name, moved.source)
            return moved if newest is not None and newest.id == moved.id else None
        if os.path.lexists(source):
            return None
        moved = self._operations.find_current(self.name, name)
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
                self.name,
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
        """Plan to move the sidecar of a photo once it is moved, if it has one."""
        sidecar = Path(f"{photo}{SIDECAR_SUFFIX}")
        if sidecar.is_symlink() or not sidecar.is_file():
            return []
        target = Path(f"{to_path(step.operation.target)}{SIDECAR_SUFFIX}")
        moved = self._operations.find_by_target(self.name, os.fsencode(sidecar))
        operation = Operation(
            Kind.MOVE if moved is None else Kind.RENAME,
            self.name,
            os.fsencode(sidecar) if moved is None else moved.source,
            how=COMPANION,
            target=os.fsencode(target),
            previous=None if moved is None else os.fsencode(sidecar),
            draft=make_draft(target),
        )
        verb = "move sidecar"
        return [replace(step, operation=operation, verb=verb, photo=sidecar, follows=True)]

    def _fetch_companion(self, moved: Operation, photo: Candidate) -> list[Step]:
        """Plan to move the sidecar that a kill left at the old place of a photo."""
        old = to_path(moved.source if moved.kind is Kind.MOVE else moved.previous)
        if os.path.lexists(old) or os.path.lexists(f"{to_path(moved.target)}{SIDECAR_SUFFIX}"):
            return []
        step = Step(moved, "", photo.label, photo.source, self.root)
        return [replace(one, follows=False) for one in self._move_companion(old, step)]

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
            self.name,
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

    @staticmethod
    def _is_own(made: Operation, how: How) -> bool:
        """Return whether a copy was made by copying, or a link by linking."""
        return (made.how == How.COPY) is (how is How.COPY)

    def _find_relative(self, source: Path) -> Path:
        if not self._flat and self._base in source.parents:
            return source.relative_to(self._base)
        return Path(source.name)

    def _find_wanted(self, label: str, relative: Path) -> bytes:
        return os.fsencode(self.root / name_folder(label) / relative)

    def _allocate(
        self, wanted: bytes, source: bytes, number: int = 1, freed: bytes | None = None
    ) -> tuple[int, Path]:
        """Find a free name and reserve it, and the path that it gives.

        Args:
            wanted: the path without a number.
            source: the photo.
            number: the number to try first; 1 for none.
            freed: a path that will be free.
        """
        path = add_number(to_path(wanted), number)
        if not self._is_free(path, source, freed):
            number = max(1, self._operations.find_last_number(wanted))
            while True:
                number += 1
                path = add_number(to_path(wanted), number)
                if self._is_free(path, source):
                    break
        self._operations.reserve(wanted, number, source)
        if number > 1:  # the name of another photo may have this number
            self._operations.reserve(os.fsencode(path), 1, source)
        return number, path

    def _is_free(self, path: Path, source: bytes, freed: bytes | None = None) -> bool:
        """Return whether a photo can have a path, with its sidecar if it is moved."""
        name = os.fsencode(path)
        if self._operations.find_reserved(name, 1) not in (None, source):
            return False
        if name == freed:
            return True
        if self._how is None and os.path.lexists(f"{path}{SIDECAR_SUFFIX}"):
            return False
        return not os.path.lexists(path)


def name_folder_action(root: Path, how: How | None) -> bytes:
    """Return the name of the action that fills a folder; all copies and links in it share one."""
    return (_MOVED if how is None else _MADE) + os.fsencode(root)


def parse_action_root(name: bytes) -> Path | None:
    """Parse the folder in the name of an action; None for an action that fills no folder."""
    for start in (_MOVED, _MADE):
        if name.startswith(start):
            return Path(os.fsdecode(name[len(start) :]))
    return None


def name_folder(label: str) -> str:
    """Return the name of a label's folder: what can't be in a name becomes ``%HH``."""
    name = label.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return f"%2E{name[1:]}" if name.startswith(".") else name


def add_number(path: Path, number: int) -> Path:
    """Add a number to a file's name: ``photo-2.jpg``; 1 adds none."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
