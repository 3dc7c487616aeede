"""Labels in XMP sidecars, compared with what was written before."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from batch.applying.operation_row import Kind, Operation
from batch.applying.operations import Operations
from batch.applying.selection import ReportedPhoto
from batch.applying.steps import (
    SIDECAR_UNUSABLE,
    Candidate,
    Skipped,
    Step,
    is_stale,
    make_draft,
    read_sidecar,
    to_path,
)
from batch.applying.transfer import (
    GONE,
    UNREADABLE,
    Refusal,
    make_source_key,
    make_target_key,
    verify,
)
from batch.errors import SidecarError
from batch.file_types import SIDECAR_SUFFIX
from batch.options import SidecarName, SidecarOptions
from batch.records import Failure
from batch.xmp import SidecarContent, remove_content, update_sidecar

SHARED = "with the sidecar of another photo"
OF_APPLY = "kept, as apply wrote the keywords and no run did"
UNLABELLED = "without a label for a keyword"


class SidecarAction:
    """Writes labels as keywords, and faces as regions, into XMP sidecars.

    Args:
        options: what is written.
        operations: what was done before.
        dry_run: whether only to plan, without reading photos.
        follows_run: see ``ApplyJob``; content that only ``apply`` wrote is not removed.
    """

    def __init__(
        self,
        options: SidecarOptions,
        operations: Operations,
        dry_run: bool,
        follows_run: bool,
    ) -> None:
        self.name = name_sidecar_action(options.sidecar_name)
        (self._other_name,) = (
            name_sidecar_action(name) for name in SidecarName if name != options.sidecar_name
        )
        self._options = options
        self._operations = operations
        self._dry_run = dry_run
        self._follows_run = follows_run

    def plan(self, photo: Candidate) -> list[Step]:
        """Plan to write the sidecar, and to clear the one of the other name: see ``Action``."""
        other = self._operations.find_current(self._other_name, os.fsencode(photo.source))
        clearing = self._clear(other) if other is not None and self._is_own(other) else []
        try:
            steps = self._plan_own(photo)
        except Skipped:
            if not clearing:
                raise
            return clearing
        return [*steps, *(replace(step, follows=bool(steps)) for step in clearing)]

    def _plan_own(self, photo: Candidate) -> list[Step]:
        key = make_source_key(photo.source)
        if key is None:
            raise Refusal(GONE)
        if not photo.source.name:
            raise Refusal(UNREADABLE, "the folder /")  # which can't have a sidecar
        source, sidecar = os.fsencode(photo.source), self._find_sidecar(photo.source)
        written = self._operations.find_current(self.name, source)
        if not photo.reported.keywords:
            if written is not None and self._is_own(written):
                return self.plan_removal(written)
            raise Skipped(UNLABELLED)
        if self._options.sidecar_name is SidecarName.STEM and self._is_shared(sidecar, source):
            raise Skipped(SHARED)
        content = self._compute_content(photo.reported)
        if written is not None and written.content == content:
            is_same_photo = written.source_key == key and written.digest == photo.digest
            if self._follows_run and not written.after_run:
                self._operations.adopt(written)
            if make_target_key(sidecar) == written.target_key and is_same_photo:
                return []
        before = read_sidecar(sidecar)
        data = self._update(photo, sidecar, before, written)
        if data == before and self._refresh(written, photo, content, sidecar):
            return []
        operation = Operation(
            Kind.WRITE,
            self.name,
            source,
            how=self._options.keyword_root,
            target=os.fsencode(sidecar),
            digest=photo.digest,
            before=None if before is None else zlib.compress(before),
            written=hashlib.sha256(data).digest(),
            content=content,
            draft=make_draft(sidecar),
            after_run=self._follows_run,
        )
        return [
            Step(
                operation,
                "" if data == before else "write",  # written by a move or another report
                photo.reported.keywords[0],
                photo.source,
                sidecar.parent,
                data,
                photo.is_trusted,
            )
        ]

    def list_unmatched(self) -> Iterator[Operation]:
        """Yield the sidecars that have labels: see ``Action``."""
        for name in (self.name, self._other_name):
            for written in self._operations.list_unseen(name):
                if self._is_own(written) and os.path.lexists(to_path(written.target)):
                    yield written

    def plan_removal(self, made: Operation) -> list[Step]:
        """Plan to take the labels out of a sidecar: see ``Action``."""
        if self._follows_run and not made.after_run:
            raise Refusal(OF_APPLY)
        return self._clear(made)

    def _clear(self, made: Operation) -> list[Step]:
        """Plan to take the labels out of a sidecar; empty if it has none."""
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

    def _is_own(self, written: Operation) -> bool:
        """Return whether a sidecar has labels of a photo, and no others were written since."""
        if written.content is None or written.target is None:
            return False
        owner = self._operations.find_reserved(written.target, 1)
        if owner is None:
            last = self._operations.find_by_target(written.action, written.target)
            owner = written.source if last is None else last.source
        return owner == written.source

    def _is_shared(self, sidecar: Path, source: bytes) -> bool:
        """Return whether a sidecar belongs to another photo with the same stem; else claim it."""
        name = os.fsencode(sidecar)
        claimed = self._operations.find_reserved(name, 1)
        if claimed is None:
            written = self._operations.find_by_target(self.name, name)
            if written is not None and written.content is not None:
                claimed = written.source
                if not to_path(claimed).exists():
                    claimed = None
        if claimed not in (None, source):
            return True
        self._operations.reserve(name, 1, source)
        return False

    def _update(
        self,
        photo: Candidate,
        sidecar: Path,
        before: bytes | None,
        written: Operation | None,
    ) -> bytes:
        reported = photo.reported
        faces = reported.faces if self._options.faces else None
        content = SidecarContent(
            reported.keywords,
            self._options.keyword_root,
            faces,
            reported.width or 0,
            reported.height or 0,
            _read_orientation(photo.source) if faces else 1,
        )
        # Another photo of the stem may have had the sidecar.
        last = self._operations.find_by_target(self.name, os.fsencode(sidecar)) or written
        old_root = last.how if last is not None and last.content is not None else None
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
    ) -> bool:
        """Record the new state of a sidecar that needs no change, so that it is not read again.

        Returns:
            whether it is known what the sidecar has.
        """
        if written is None or written.content != content:
            return False
        if written.target != os.fsencode(sidecar):
            return False
        if not self._dry_run:
            if not photo.is_trusted and is_stale(written, photo.digest):
                verify(photo.source, photo.digest)
            keys = make_source_key(photo.source), make_target_key(sidecar)
            self._operations.set_keys(written, *keys, photo.digest)
        return True

    def _find_sidecar(self, photo: Path) -> Path:
        if self._options.sidecar_name is SidecarName.STEM:
            return photo.with_suffix(SIDECAR_SUFFIX)
        return Path(f"{photo}{SIDECAR_SUFFIX}")


def name_sidecar_action(name: SidecarName) -> bytes:
    """Return the name of the action that writes sidecars with such names."""
    return b"sidecar " + name.encode()


def check_sidecar_options(options: SidecarOptions) -> None:
    """Check that sidecars can be written at all.

    Raises:
        UsageError: lxml is not installed.
        SidecarError: the root can't be a keyword.
    """
    update_sidecar(None, SidecarContent((), options.keyword_root, None, 0, 0))


def _read_orientation(photo: Path) -> int:
    """Read the EXIF orientation of a photo; 1 if it has none.

    Raises:
        Refusal: the photo can't be read.
    """
    from batch.vision.orientation import read_stored_orientation
    from batch.vision.read_file import read_file

    data = read_file(photo)
    if isinstance(data, Failure):
        raise Refusal(UNREADABLE, data.detail)
    return read_stored_orientation(data)
