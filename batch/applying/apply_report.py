"""Applying a report: does something with the photos whose rows match, and undoes it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from batch.applying.folder_action import FolderAction, name_folder_action
from batch.applying.job import ApplyJob, make_absolute
from batch.applying.listing import Listing, check_list, open_listing
from batch.applying.operations import Operations
from batch.applying.repair import APPLIED_NOTE, open_operations
from batch.applying.roots import check_root, remove_root
from batch.applying.selection import RELABEL_REMEDY, PhotoReader, ReportedPhoto
from batch.applying.sidecar_action import SHARED, SidecarAction, check_sidecar_options
from batch.applying.steps import Action, Candidate, Skipped, Step, list_folders, perform, to_path
from batch.applying.summary import Summary
from batch.applying.transfer import Refusal, make_target_key, show_path, verify
from batch.errors import UsageError
from batch.files.lock import OnWait
from batch.files.publish import is_stdout, is_streamed, resolve_path, sync_folder
from batch.location import Location, Url
from batch.path_text import parse_path_text, path_text
from batch.reading.fields import read_checked_records
from batch.reading.saved import open_reader
from batch.stopping import Stop

BATCH_STEPS = 100  # operations that are recorded as intended at once
RESUME_HINT = "what was done is recorded: run the same command again to continue"
MISSING = "missing when the report was written"
REMOTE = "in an archive or store"
TWICE = "in the report twice"
UNHASHED = "without a sha256 in the report"


def apply_report(
    job: ApplyJob, stdout: BinaryIO, stop: Stop, on_wait: OnWait | None = None
) -> Summary:
    """Do something with the photos whose rows match.

    Args:
        job: what to do.
        stdout: standard output, for a list.
        stop: requests to stop.
        on_wait: as for ``hold_lock``.

    Returns:
        What was done, or is planned.

    Raises:
        ReportError: the report can't be read or lacks digests.
        UsageError: the job contradicts itself or the report.
        OutputError: a folder, the list or the record of operations can't be written.
        LockedError: another process applies the report.
        Interrupted: a signal stopped the work.
    """
    _check_job(job)
    summary = Summary(dry_run=not job.execute)
    summary.plans_list = not (job.execute or is_stdout(job.list_to or ""))
    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(job.location))
        # Before the report is read, which may be replaced meanwhile.
        note = _describe_applied(job)
        needs_faces = job.sidecars is not None and job.sidecars.faces
        photos = PhotoReader(reader, job.selection, needs_faces)
        operations = stack.enter_context(open_operations(job, on_wait, summary))
        if job.follows_run and note and operations.read_note(APPLIED_NOTE) == note:
            return summary
        for root, _ in job.folders:
            if job.execute:
                stack.callback(remove_root, root, operations)
            check_root(root, operations if job.execute else None)
        work = _Work(job, operations, summary, stop)
        listing = stack.enter_context(open_listing(job, stdout, stop))
        work.run(photos.read(), listing)
        # A sidecar that was cleared may be for another photo of its stem, in the next run.
        is_freed = summary.count("clear") and summary.skipped[SHARED]
        if job.follows_run and note and not summary.failed and not is_freed:
            operations.write_note(APPLIED_NOTE, note)
    return summary


class _Work:
    """The photos of a report, one after the other, and the operations on them in batches."""

    def __init__(self, job: ApplyJob, operations: Operations, summary: Summary, stop: Stop) -> None:
        self._job = job
        self._operations = operations
        self._summary = summary
        self._stop = stop
        self._steps: list[Step] = []
        dry_run = not job.execute
        base = _find_base(job, operations, stop) if job.folders else Path("/")
        self._actions: list[Action] = [
            FolderAction(root, how, job.flat, base, operations, dry_run)
            for root, how in job.folders
        ]
        summary.warnings += _find_warnings(job, base)
        if job.sidecars is not None:
            self._actions.append(SidecarAction(job.sidecars, operations, dry_run, job.follows_run))

    def run(self, photos: Iterable[ReportedPhoto], listing: Listing | None) -> None:
        for photo in photos:
            self._check_stop()
            self._summary.photos += 1
            self._summary.statuses.update(photo.statuses)
            if photo.matches:
                self._summary.matching += 1
                self._apply_to(photo, listing)
                if len(self._steps) >= BATCH_STEPS:
                    self._finish_batch()
        self._finish_batch()
        for action in self._actions:
            self._handle_unmatched(action)
        self._finish_batch()

    def _apply_to(self, reported: ReportedPhoto, listing: Listing | None) -> None:
        summary = self._summary
        location = _locate(reported.path, self._job.photos)
        if isinstance(location, Url):
            if listing:
                listing.add(location.text.encode("utf-8", "surrogateescape"))
                summary.listed[reported.folders[0]] += 1
            if self._actions:
                summary.skipped[REMOTE] += 1
            return
        source = make_absolute(location)
        if not self._operations.mark_seen(os.fsencode(source)):
            summary.skipped[TWICE] += 1
            return
        if reported.missing:
            summary.skipped[MISSING] += 1
            return
        try:
            if reported.sha256 is None:
                raise Refusal(UNHASHED, RELABEL_REMEDY)
            digest = bytes.fromhex(reported.sha256)
            photo = Candidate(source, digest, reported, self._job.follows_run)
            if listing:
                listing.check(location)
                verify(source, digest)
                listing.add(os.fsencode(location))
                summary.listed[photo.label] += 1
            for action in self._actions:
                self._plan(action, photo)
        except Refusal as refusal:
            summary.add_failed(source, refusal)

    def _plan(self, action: Action, photo: Candidate) -> None:
        try:
            steps = action.plan(photo)
        except Skipped as skipped:
            self._summary.add_skipped(str(skipped), skipped.made)
        else:
            self._summary.unchanged += not any(step.verb for step in steps)
            self._steps += steps

    def _handle_unmatched(self, action: Action) -> None:
        for made in action.list_unmatched():
            self._check_stop()
            if not self._job.prune:
                self._summary.unmatched += 1
                continue
            try:
                self._steps += action.plan_removal(made)
            except Refusal as refusal:
                self._summary.add_skipped(refusal.reason, to_path(made.target))
            if len(self._steps) >= BATCH_STEPS:
                self._finish_batch()

    def _finish_batch(self) -> None:
        """Do what is planned: record it as intended, do it, sync it and record it as done."""
        steps, self._steps = self._steps, []
        if not self._job.execute:
            for step in steps:
                self._count(step)
            return
        if not steps:
            return
        recorded = self._operations.record_intents(step.operation for step in steps)
        folders: set[Path] = set()
        is_done = False
        for step, operation in zip(steps, recorded, strict=True):
            # Copies may take long.
            is_dropped = not is_done if step.follows else self._stop.requested
            is_done = False
            if is_dropped:
                self._operations.drop(operation)
                continue
            try:
                keys = perform(replace(step, operation=operation))
            except Refusal as refusal:
                self._operations.drop(operation)
                self._summary.add_failed(step.photo, refusal)
            else:
                folders.update(list_folders(operation))
                self._operations.complete(operation, *keys)
                is_done = True
                self._count(step)
        for folder in folders:
            sync_folder(folder)
        self._operations.commit()
        self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.requested:
            raise self._stop.make_error(RESUME_HINT)

    def _count(self, step: Step) -> None:
        target = step.operation.target
        shown = None if target is None else to_path(target)
        self._summary.add_done(step.verb, step.label, step.photo, shown)


def _locate(text: str, base: Path) -> Location:
    try:
        location = parse_path_text(text)
    except ValueError:
        return base / text
    return location if isinstance(location, Url) else base / location


def _find_base(job: ApplyJob, operations: Operations, stop: Stop) -> Path:
    """Find the innermost folder of all photos, apart from those that are in their place already."""
    roots = [root for root, how in job.folders if how is not None]
    moves = [name_folder_action(root, how) for root, how in job.folders if how is None]
    base: Path | None = None
    before = None
    with open_reader(job.location) as reader:
        wanted = ("path", "label")
        records = read_checked_records(reader, wanted) if reader.columns else iter(())
        for _, (text, _label) in records:
            if stop.requested:
                raise stop.make_error("nothing was changed")
            location = _locate(text, job.photos)
            if isinstance(location, Url):
                continue
            source = make_absolute(location)
            if source.parent == before or any(root in source.parents for root in roots):
                continue
            name = os.fsencode(source)
            if any(operations.find_by_target(action, name) for action in moves):
                continue
            before = source.parent
            while base is None or not (base == before or base in before.parents):
                base = before if base is None else base.parent
    return base or Path("/")


def _find_warnings(job: ApplyJob, base: Path) -> Iterator[str]:
    """Yield what the next run will find if it labels the folder of all photos again."""
    if base == Path("/"):  # nothing is known about the folders of that run
        return
    for root, how in job.folders:
        is_inside = root == base or base in root.parents
        if how is None and not is_inside:
            yield (
                f"warning: photos that are moved out of {show_path(base)} are missing in the next "
                "run on it, and count for --max-gone"
            )
        elif how is not None and is_inside:
            yield (
                f"warning: {show_path(root)} is inside {show_path(base)}, which has all photos of "
                "the report: a run on it labels the copies too; choose a folder elsewhere, or give "
                "runs --exclude"
            )


def _describe_applied(job: ApplyJob) -> str:
    """Describe a report that is one local file, and what is done with it; empty for others."""
    location = job.location
    if isinstance(location, Url) or not location.is_file():
        return ""
    return f"{make_target_key(resolve_path(location))} {job}"


def _check_job(job: ApplyJob) -> None:
    if isinstance(job.location, Path) and is_streamed(job.report):
        raise UsageError(
            f"{path_text(job.location)} is a pipe", "save the report as a file, and give its name"
        )
    others = job.copy_to or job.link_to or job.sidecars or job.list_to
    if job.move_to is not None and others:
        raise UsageError(
            "--move-to and another action would name the photos by their old paths",
            "apply the report twice, with --move-to last",
        )
    roots = [os.path.realpath(root) for root, _ in job.folders]
    if len(set(roots)) < len(roots):
        raise UsageError(
            f"--copy-to and --link-to name the same folder, {path_text(job.folders[0][0])}",
            "choose another folder for one of them",
        )
    check_list(job)
    if job.sidecars is not None:
        check_sidecar_options(job.sidecars)
