"""The labelling of a run: plan, label, check and publish with a journal, or stream without one."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, groupby
from pathlib import Path
from typing import BinaryIO

from batch.engines.engine import Engine
from batch.errors import BatchLabelError, OutputError, PublishedOnly
from batch.exclude import EXCLUDED, JUNK_FOLDER
from batch.files.publish import digest_file, is_streamed, resolve_path
from batch.found import FoundFile
from batch.journal.damage import find_damage, rename_damaged
from batch.journal.journal import Journal, RunPlan
from batch.journal.missing import (
    InputCoverage,
    check_any_found,
    check_gone,
    check_report_count,
    keep_unavailable,
)
from batch.journal.notes import JournalNotes, ReportNote
from batch.journal.path import find_journal_path
from batch.journal.sqlite_errors import JournalDamaged
from batch.location import Location, Url, parse_location
from batch.log import PROGRAM, Event, Level, Log, count_text
from batch.options import TOO_OLD, EngineKind, Job
from batch.path_text import path_text
from batch.progress import Progress
from batch.recording.drift import Baseline, Profile
from batch.recording.drift_check import DriftCheck
from batch.recording.recorder import Recorder
from batch.recording.retention import update_history
from batch.recording.run_record import find_version
from batch.records import Failure, PendingFile, Row
from batch.reports.columns import column_names
from batch.reports.report import ReportWriter, open_report
from batch.reviewing.run_reviews import RunReviews
from batch.stopping import Stop, StopCheck
from batch.tally import Tally
from batch.timings import DISCOVER, REPORT
from batch.vision.basis import compute_basis, describe_basis, describe_change
from batch.vision.decide import apply_thresholds

RESUMED_FRESH_TEXT = ": resuming an earlier run with --fresh"
# How to include what discovery skips, by the reason.
SKIP_HINTS = {
    "hidden": "include names that begin with a dot with --hidden",
    "symbolic link": "follow links with --follow-symlinks",
    "in a subfolder": "do not use --no-recursive",
    "archive": "include archives with --archives",
    "folder in a list": "end a folder's name in a list with a slash to include it",
    "symbolic link in an archive": "unpack the archive and follow links with --follow-symlinks",
    "camera raw": "include camera raws, by their previews, with --raws",
    "unsupported format": "convert files of an unsupported format, for example to JPEG",
    EXCLUDED: "check the patterns of --exclude and --exclude-from",
    JUNK_FOLDER: "include a junk folder by its name as PHOTOS, or with --exclude '!NAME'",
    TOO_OLD: "change or remove --newer-than",
}
RESUME_HINT = "finished photos are kept: run the same command again to resume"


@dataclass(frozen=True)
class Terminal:
    """The streams of a run.

    Attributes:
        listing: the list of paths on standard input.
        stdout: standard output, for a streamed report.
        log: the log.
        progress: the progress display.
    """

    listing: BinaryIO
    stdout: BinaryIO
    log: Log
    progress: Progress


@dataclass(frozen=True)
class LabellingRun:
    """The labelling of a run whose models are open.

    Attributes:
        job: what to label, and how.
        terminal: the streams of the run.
        stop: requests to stop.
        recorder: the record of the run, updated as it goes on.
        engine: labels the photos.
        coverage: all files of the inputs.
        reviews: people's answers, which override the model's in the report.
    """

    job: Job
    terminal: Terminal
    stop: Stop
    recorder: Recorder
    engine: Engine
    coverage: InputCoverage
    reviews: RunReviews = field(default_factory=RunReviews)

    def run(self, found: Iterable[FoundFile]) -> None:
        """Label the files, with a journal unless the report is streamed.

        Args:
            found: ``coverage``, or a shard of it.

        Raises:
            BatchLabelError: the run can't go on, was stopped, or has drifted.
        """
        path = find_journal_path(self.job)
        if path is None:
            self._label_to_stream(found)
            return
        try:
            self._label_with_journal(path, found)
        except JournalDamaged as suspicion:
            # A full disk or a transient disk error looks the same, so check the whole journal.
            damage = find_damage(path)
            if damage is None:
                raise _unusable_error(path, suspicion) from suspicion
            broken = rename_damaged(path, damage, given=self.job.journal.state is not None)
            self.terminal.log(
                Event.JOURNAL_BROKEN,
                f"the journal {path_text(path)} can't be used ({damage}): it is renamed to "
                f"{path_text(broken)}, and every photo is labelled again",
                Level.WARNING,
            )
            try:
                self._label_with_journal(path, found)
            except JournalDamaged as again:
                raise _unusable_error(path, again) from again

    def _label_to_stream(self, found: Iterable[FoundFile]) -> None:
        """Write each row in its order as soon as it is ready, without a journal."""
        tally, positions = self._start_tally(), deque[int | None]()
        self.engine.check_models()
        total = None
        if self.terminal.progress.wants_total:  # holds all paths in memory
            found = list(found)
            total = len(found)
        rows = self.engine.label(
            _count_files(self.stop.take_until_stop(found), tally, positions), in_order=True
        )
        with self._open_report(self.stop.check) as report:
            for finished in self.terminal.progress(rows, total):
                report.add(replace(finished.row, position=positions.popleft()))
                tally.add_processed(finished)
                tally.add(finished.row)
            if not self.stop.stopped_early:
                tally.check()
                if not tally.found:  # usually because a disk is not mounted
                    hint = _describe_skipped(tally)
                    self.terminal.log(Event.FOUND, f"0 photos found{hint}", Level.WARNING, found=0)
            self._check_failures(tally, "repair them or their permissions, or raise the limit")
            report.publish()
        self.recorder.published = not self.stop.stopped_early
        if self.stop.stopped_early:
            raise self.stop.make_error(f"the {tally.done} photos that were done are written")

    def _label_with_journal(self, path: Path, found: Iterable[FoundFile]) -> None:
        """Plan the run by the journal, label what is pending, and write the report from it."""
        tally = self._start_tally()
        basis = compute_basis(self.engine.ensemble.models, self.job.options)
        with Journal(path, basis, self.job.options.shard) as journal:
            notes = JournalNotes(journal)
            # Read these first: a damaged note means a damaged journal.
            baseline, basis_before = self._drift_check.read_baseline(notes.reference), notes.basis
            for finished in self.stop.take_until_stop(self.engine.recover_finished(journal)):
                notes.clear_report()
                journal.add(finished)
            plan = self._plan(journal, found)
            self._check_stop(journal)
            self._log_plan(plan, tally, notes, basis_before)
            reported = 0 if basis_before else self._count_reported()
            self._check_stop(journal)
            self._check_found(plan, reported)
            # Without a baseline this journal has published no report, and has no note of one.
            is_up_to_date = baseline is not None and self._is_up_to_date(notes, plan, tally)
            now = self._label_pending(journal, notes, plan.pending, tally)
            self._check_missing(
                journal, notes, tally, plan, None if basis_before else reported or 0
            )
            if is_up_to_date:
                self._keep_report(journal, tally)
                self._save_notes(journal, notes, baseline, now)
            else:
                self.reviews.check_kept(notes.reviews, self.terminal.log)
                whole, digest = self._publish(journal, tally)
                report = None
                # The outcomes hold no failures, and another run may not have the missing rows.
                if digest and not tally.missing and not tally.by_reason:
                    made_of, outcomes = self._report_inputs(plan), tally.outcomes()
                    report = ReportNote(digest.hex(), made_of, outcomes)
                self._save_notes(journal, notes, baseline, now, whole, report)
        self.reviews.forget(self.terminal.log)
        output = parse_location(self.job.output)
        if self.job.keep is not None and isinstance(output, Path):
            self.recorder.kept = update_history(output, self.job.keep, self.terminal.log)
        self._drift_check.report(self.recorder.drift, self.terminal.log)

    def _start_tally(self) -> Tally:
        self.recorder.tally = tally = Tally(self.engine.ensemble.labels)
        return tally

    def _open_report(self, check: StopCheck) -> ReportWriter:
        job, stdout = self.job, self.terminal.stdout
        numbered = job.options.shard is not None
        outputs = self.engine.ensemble.outputs
        located = job.options.with_location
        return open_report(
            job.output, outputs, job.per_face, stdout, numbered, check, located=located
        )

    @property
    def _drift_check(self) -> DriftCheck:
        return DriftCheck(self.job, self.engine.ensemble)

    def _plan(self, journal: Journal, found: Iterable[FoundFile]) -> RunPlan:
        options = self.job.journal
        with self.engine.timings.of(DISCOVER):
            return journal.plan_run(
                self.stop.take_until_stop(found),
                fresh=options.fresh,
                verify=options.verify_hash,
                # Actors have no access to the journal: they would label such files again.
                ignore_inode=options.ignore_inode or self.job.cluster.engine is EngineKind.RAY,
            )

    def _log_plan(
        self, plan: RunPlan, tally: Tally, notes: JournalNotes, basis_before: dict[str, str]
    ) -> None:
        tally.found, tally.unchanged = plan.found, plan.found - plan.pending
        tally.by_cause = {str(cause): count for cause, count in plan.by_cause.items()}
        if notes.starts_over:
            change = "no longer used since --fresh was given"
        else:
            change = describe_change(basis_before, self._describe_basis())
        record = self.recorder.sharded.record if self.recorder.sharded else None
        shard = f" in shard {record.number}/{record.of} of {record.found}" if record else ""
        # Finding no photo usually means that a disk is not mounted.
        is_usual = plan.found or tally.skipped_by_reason[TOO_OLD]
        self.terminal.log(
            Event.FOUND,
            f"{count_text(plan.found, 'photo')} found{shard}, {plan.describe(change)}"
            f"{RESUMED_FRESH_TEXT if plan.continues_fresh else ''}"
            f"{'' if plan.found else _describe_skipped(tally)}",
            Level.INFO if is_usual else Level.WARNING,
            found=plan.found,
            pending=plan.pending,
            by_cause=plan.by_cause,
        )

    def _count_reported(self) -> int | None:
        """Count the photos of an earlier report whose journal is gone; None if that fails."""
        from batch.reading.saved import open_saved_report  # late: most runs have a journal

        if is_streamed(self.job.output):  # opening a pipe would wait for its other end
            return 0
        try:
            with open_saved_report(self.job.output) as report:
                paths = groupby(row.path for row in report.rows())
                return sum(1 for _ in self.stop.take_until_stop(paths))
        except BatchLabelError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return 0
            self.terminal.log(
                Event.NOT_COMPARED,
                f"{error.problem}: without a journal, the run can't tell how many of its "
                "photos are gone",
                Level.WARNING,
            )
            return None

    def _check_found(self, plan: RunPlan, reported: int | None) -> None:
        record = self.recorder.sharded.record if self.recorder.sharded else None
        found = record.found if record else plan.found
        if not found and not self._skips_older and not self.job.limits.max_gone.is_off:
            known = None if reported is None else max(plan.known, reported)
            check_any_found(known, self.job.photos)

    @property
    def _skips_older(self) -> bool:
        # Photos that are too old still exist; their labels serve later runs without --newer-than.
        return self.job.options.search.newer_than is not None

    def _label_pending(
        self, journal: Journal, notes: JournalNotes, pending: int, tally: Tally
    ) -> Profile:
        now, done = self._drift_check.new_profile(), 0
        if pending:
            self.engine.check_models()
        files = self.stop.take_until_stop(journal.pending())
        for finished in self.terminal.progress(
            self.engine.label(files, journal.find_known), pending
        ):
            if not done:
                notes.clear_report()
            journal.add(finished)
            tally.add_processed(finished)
            done += 1
            if not finished.copied:
                now.add(finished.row)
        self._check_stop(journal)
        if done != pending:
            raise BatchLabelError(
                f"{done} photos were labelled instead of {pending}", "please report this bug"
            )
        return now.profile()

    def _check_missing(
        self,
        journal: Journal,
        notes: JournalNotes,
        tally: Tally,
        plan: RunPlan,
        reported: int | None,
    ) -> None:
        """Keep the rows of unavailable photos, and check the number of those that are gone.

        ``reported`` is the number of photos in the earlier report; None if the journal knows them.

        Raises:
            BatchLabelError: more are gone than ``--max-gone`` allows.
        """
        journal.find_moved()
        limit, exclusion = self.job.limits.max_gone, self.job.options.search.exclusion
        unavailable = keep_unavailable(journal, self.coverage, limit.is_off, exclusion)
        tally.unavailable = unavailable.total
        if unavailable.total:
            self.terminal.log(
                Event.PHOTOS_MISSING,
                f"{count_text(unavailable.total, 'known photo')} missing, and still in the report: "
                f"{unavailable.describe()}; {unavailable.remedy}",
                Level.WARNING,
                missing=unavailable.total,
                folders=unavailable.photos,
            )
        if not self.job.journal.keep_missing and not self._skips_older:
            known = plan.known if reported is None else None
            # With the same inputs and search, missing photos are not skipped ones: a list may have
            # been cut short.
            skipping = None if notes.inputs == self._inputs_text() else exclusion
            tally.gone = check_gone(journal, limit, known, skipping)
            check_report_count(plan.found, reported or 0, limit)

    def _inputs_text(self) -> str:
        return json.dumps([self.job.photos, str(self.job.options.search)])

    @property
    def _destination(self) -> Location:
        place = parse_location(self.job.output)
        return place if isinstance(place, Url) else resolve_path(place)

    def _report_inputs(self, plan: RunPlan) -> dict[str, str | None]:
        """Return all that the report's bytes depend on, besides the rows in the journal."""
        job, models = self.job, self.engine.ensemble.models
        return {
            "report": os.fspath(self._destination),
            "order": plan.order.hex(),
            "basis": compute_basis(models, job.options).hex(),
            "thresholds": self._drift_check.thresholds,
            "shard": str(job.options.shard),
            "columns": ",".join(
                column_names(
                    self.engine.ensemble.outputs, job.per_face, located=job.options.with_location
                )
            ),
            "reviews": self.reviews.digest,
            "version": find_version(PROGRAM),
        }

    def _is_up_to_date(self, notes: JournalNotes, plan: RunPlan, tally: Tally) -> bool:
        """Return whether the report would stay the same; if so, restore its counts in ``tally``."""
        noted, path = notes.report, self._destination
        if plan.pending or plan.missing or noted is None or not isinstance(path, Path):
            return False
        if noted.made_of != self._report_inputs(plan):
            return False
        with self.engine.timings.of(REPORT):
            digest = digest_file(path)
        if digest is None or digest.hex() != noted.sha256:
            return False
        tally.restore_outcomes(noted.outcomes)
        return True

    def _keep_report(self, journal: Journal, tally: Tally) -> None:
        """Leave the report as it is."""
        self._check_stop(journal)
        tally.check()
        self.recorder.published = self.recorder.up_to_date = True
        self.terminal.log(
            Event.UP_TO_DATE, f"nothing has changed, so the report {self.job.output} stays as it is"
        )

    def _publish(self, journal: Journal, tally: Tally) -> tuple[Profile, bytes | None]:
        """Write the report from the journal.

        Returns:
            The profile of all its rows, and its SHA-256 if it is one local file.
        """
        whole = self._drift_check.new_profile()
        labels = self.engine.ensemble.labels
        corrections = self.reviews.make_corrections(labels, self.job.per_face)
        with (
            self.engine.timings.of(REPORT),
            self._open_report(self.stop.check_signal) as report,
        ):
            for row in self.stop.take_until_signal(self._report_rows(journal)):
                reported = corrections.correct_row(row) if corrections else row
                report.add(reported)
                tally.add(reported)
                whole.add(row)  # drift is about the model's own answers
            tally.unmatched_reviews = corrections.unmatched if corrections else 0
            self._check_stop(journal)
            tally.check()
            self._check_failures(
                tally,
                "repair them or their permissions, raise the limit, or run once with "
                "--accept-failures; to see all, run without --max-failures, with another -o and "
                f"--state {path_text(journal.path)}",
            )
            report.publish()
        self.recorder.published = True
        self.terminal.log(Event.PUBLISHED, f"the report is {self.job.output}")
        if corrections:
            self.reviews.log_use(corrections, tally.reviewed, self.terminal.log)
        return whole.profile(), report.digest

    def _report_rows(self, journal: Journal) -> Iterator[Row]:
        """Yield the report's rows, decided by this run's thresholds."""
        missing = journal.read_missing_rows(include_all=self.job.journal.keep_missing)
        outputs, accepts = set(self.engine.ensemble.outputs), self.job.journal.accept_failures
        for row in chain(journal.rows(), missing):
            # The row of a missing photo may come from a model with other outputs.
            is_current = row.answer is None or set(row.answer.probabilities) == outputs
            decided = apply_thresholds(row, self.engine.ensemble) if is_current else row
            yield replace(decided, accepted=True) if accepts and row.failure else decided

    def _save_notes(
        self,
        journal: Journal,
        notes: JournalNotes,
        baseline: Baseline | None,
        now: Profile,
        whole: Profile | None = None,
        report: ReportNote | None = None,
    ) -> None:
        """Save in the journal what later runs need to know about the published report.

        Args:
            journal: the journal.
            notes: its notes.
            baseline: the answers of earlier runs.
            now: the answers of this run.
            whole: all answers of the report, if it was written.
            report: the note of the report, if it is one local file.

        Raises:
            PublishedOnly: the journal can't be written.
        """
        try:
            self.recorder.drift = drift = self._drift_check.find_drift(now, baseline)
            after = self._drift_check.update_baseline(baseline, now, drift, whole)
            basis, inputs = self._describe_basis(), self._inputs_text()
            notes.save(
                reference=asdict(after),
                basis=basis,
                inputs=inputs,
                reviews=len(self.reviews),
                report=report,
            )
            if self.job.journal.accept_failures:
                journal.accept_failures()
            journal.forget_missing(all_kept=self.job.journal.keep_missing or self._skips_older)
            journal.commit()
            self.engine.clean_up(journal)
        except (OutputError, JournalDamaged) as error:
            raise PublishedOnly(
                f"the report {self.job.output} is published, but its journal can't be updated "
                f"({error})",
                "fix this, then run the same command again: no photo is labelled again",
            ) from error

    def _describe_basis(self) -> dict[str, str]:
        return describe_basis(self.engine.ensemble.models, self.job.options)

    def _check_stop(self, journal: Journal) -> None:
        journal.commit()  # the error says that the work is kept
        if self.stop.stopped_early:
            raise self.stop.make_error(RESUME_HINT)

    def _check_failures(self, tally: Tally, remedy: str) -> None:
        limit = self.job.limits.max_failures
        if limit is not None and not self.stop.stopped_early:
            named = tally.describe_failures()
            limit.check_failures(tally.not_accepted, tally.found, named, remedy)


def _unusable_error(path: Path, suspicion: JournalDamaged) -> OutputError:
    return OutputError(
        f"the journal {path_text(path)} can't be used ({suspicion}), but a check found no damage",
        "check its disk and the disk of the temporary folder, then run the same command again",
    )


def _describe_skipped(tally: Tally) -> str:
    """Describe what was skipped and how to include it, for a run that found no photo."""
    if not tally.skipped:
        return ""
    reasons = [why for why, _ in tally.skipped_by_reason.most_common()]
    hints = "; ".join(SKIP_HINTS[why] for why in reasons if why in SKIP_HINTS)
    return f": {tally.skipped_text()}{f'; {hints}' if hints else ''}"


def _count_files(
    found: Iterable[FoundFile], tally: Tally, positions: deque[int | None]
) -> Iterator[Failure | PendingFile]:
    """Yield the files, and queue their positions for their rows, which come in the same order."""
    for file in found:
        tally.found += 1
        positions.append(file.position)
        yield file.failure or PendingFile(file.location, may_be_known=False)
