"""The labelling of a run: with a journal, or straight into a stream."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain, groupby
from pathlib import Path
from typing import Any, BinaryIO

from batch.engines.engine import Engine
from batch.errors import BatchLabelError, DriftError, OutputError, PublishedOnly
from batch.exclude import EXCLUDED, JUNK_FOLDER
from batch.files.publish import digest_file, resolve_path
from batch.found import FoundFile
from batch.journal.damage import JournalDamaged, find_damage, rename_damaged
from batch.journal.gone import (
    InputCoverage,
    check_any_found,
    check_gone,
    check_report_count,
    keep_unavailable,
)
from batch.journal.journal import FRESH_NOTE, Journal, RunPlan
from batch.journal.path import find_journal_path
from batch.location import Location, Url, parse_location
from batch.log import PROGRAM, Event, Level, Log, count_text
from batch.options import TOO_OLD, EngineKind, Job
from batch.path_text import path_text
from batch.progress import Progress
from batch.recording.drift import Baseline, Profile, ProfileBuilder, find_drift, read_baseline
from batch.recording.recorder import Recorder
from batch.recording.run_record import find_version
from batch.records import Failure, PendingFile, Row, Source
from batch.reports.report import ReportWriter, open_report
from batch.stopping import Stop, StopCheck
from batch.tally import Tally
from batch.timings import DISCOVER, REPORT
from batch.vision.basis import compute_basis, describe_basis, describe_change
from batch.vision.decide import apply_thresholds

# Under this name the journal keeps what answers are compared with.
REFERENCE_NOTE = "reference"
# And under this one what the answers in it depend on, in words.
BASIS_NOTE = "basis"
# And under this one what the report was made of.
INPUTS_NOTE = "inputs"
# And under this one the digest of the last report, all that its bytes depend on besides rows, and
# what these come to. Empty from when a row changes until a report is published.
REPORT_NOTE = "report"
RESUMED_FRESH_TEXT = ": the fresh start of an earlier run, which was cut off, goes on"
# What to do about that which was left out, by the reason.
SKIP_HINTS = {
    "hidden": "take names that begin with a dot with --hidden",
    "symbolic link": "follow links with --follow-symlinks",
    "in a subfolder": "leave out --no-recursive",
    "archive": "look into archives with --archives",
    "folder in a list": "end a folder's name in a list in a slash to look into it",
    "symbolic link in an archive": "unpack the archive and follow links with --follow-symlinks",
    "camera raw": "take camera raws, by their previews, with --raws",
    "unsupported format": "convert what is of an unsupported format, such as to JPEG",
    EXCLUDED: "look over the patterns of --exclude and --exclude-from",
    JUNK_FOLDER: "take a junk folder by its name as PHOTOS, or with --exclude '!NAME'",
    TOO_OLD: "move or leave out --newer-than",
}
DRIFT_REMEDY = (
    "the report is published: look at its new photos, and if they are as they should be, run once "
    "with --accept-drift"
)
RESUME_HINT = "what is done is kept: run the same command again to go on"


@dataclass(frozen=True)
class Terminal:
    """What a run talks to: a list of paths, standard output, the log, and who looks on."""

    listing: BinaryIO
    stdout: BinaryIO
    log: Log
    progress: Progress


@dataclass(frozen=True)
class LabellingRun:
    """What a run needs once its models are open."""

    job: Job
    terminal: Terminal
    stop: Stop
    recorder: Recorder
    engine: Engine
    coverage: InputCoverage

    def run(self, found: Iterable[FoundFile]) -> None:
        """Label everything, with a journal where there is a place for one.

        ``survey`` is all of ``coverage`` or a shard of it.
        """
        place = find_journal_path(self.job)
        if place is None:
            self._label_to_stream(found)
            return
        try:
            self._label_with_journal(place, found)
        except JournalDamaged as suspicion:
            # A disk that fails for a moment, or is full, looks the same: only damage that a second
            # look finds is damage.
            damage = find_damage(place)
            if damage is None:
                raise _unusable_error(place, suspicion) from suspicion
            broken = rename_damaged(place, damage, given=self.job.journal.state is not None)
            self.terminal.log(
                Event.JOURNAL_BROKEN,
                f"the journal {path_text(place)} can't be used ({damage}): it is now "
                f"{path_text(broken)}, and every photo is labelled anew",
                Level.WARNING,
            )
            try:
                self._label_with_journal(place, found)
            except JournalDamaged as again:
                raise _unusable_error(place, again) from again

    def _start_summary(self) -> Tally:
        self.recorder.tally = tally = Tally(self.engine.ensemble.labels)
        return tally

    def _open_report(self, check: StopCheck) -> ReportWriter:
        job, stdout = self.job, self.terminal.stdout
        numbered = job.options.shard is not None
        outputs = self.engine.ensemble.outputs
        return open_report(job.output, outputs, job.per_face, stdout, numbered, check)

    def _label_to_stream(self, found: Iterable[FoundFile]) -> None:
        """Write rows as they come, and remember nothing."""
        tally, positions = self._start_summary(), deque[int | None]()
        self.engine.check_models()
        total = None
        if self.terminal.progress.wants_total:  # holds all paths, so only where somebody looks on
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
                if not tally.found:
                    # Nobody labels nothing on purpose: mostly a disk is not there.
                    hint = _describe_skipped(tally)
                    self.terminal.log(Event.FOUND, f"0 photos found{hint}", Level.WARNING, found=0)
            self._check_failures(tally, "repair them or their permissions, or raise the limit")
            report.publish()
        self.recorder.published = not self.stop.stopped_early
        if self.stop.stopped_early:
            raise self.stop.make_error(f"the {tally.done} photos that were done are written")

    def _label_with_journal(self, place: Path, found: Iterable[FoundFile]) -> None:
        tally, memory = self._start_summary(), self.job.journal
        basis = compute_basis(self.engine.ensemble.models, self.job.options)
        with Journal(place, basis, self.job.options.shard) as journal:
            # First of all: a damaged note is a damaged journal.
            reference, before = self._read_baseline(journal), _read_note(journal, BASIS_NOTE)
            for finished in self.stop.take_until_stop(self.engine.recover_finished(journal)):
                journal.write_note(REPORT_NOTE, "")
                journal.add(finished)
            with self.engine.timings.of(DISCOVER):
                plan = journal.plan_run(
                    self.stop.take_until_stop(found),
                    fresh=memory.fresh,
                    verify=memory.verify_hash,
                    # Actors on a cluster would label what is only to be read: they don't know it.
                    ignore_inode=memory.ignore_inode or self.job.cluster.engine is EngineKind.RAY,
                )
            self._check_stop(journal)
            tally.found, tally.unchanged = plan.found, plan.found - plan.pending
            tally.by_cause = {str(cause): count for cause, count in plan.by_cause.items()}
            self.terminal.log(
                Event.FOUND,
                f"{count_text(plan.found, 'photo')} found{self._shard_text()}, "
                f"{plan.describe(self._describe_change(before, bool(journal.read_note(FRESH_NOTE))))}"
                f"{RESUMED_FRESH_TEXT if plan.continues_fresh else ''}"
                f"{'' if plan.found else _describe_skipped(tally)}",
                # Nobody labels nothing on purpose: mostly a disk is not there.
                Level.INFO if plan.found or tally.skipped_by_reason[TOO_OLD] else Level.WARNING,
                found=plan.found,
                pending=plan.pending,
                by_cause=plan.by_cause,
            )
            reported = 0 if before else self._count_reported()
            self._check_stop(journal)
            self._check_found(plan, reported)
            # A report is noted together with a reference.
            is_up_to_date = reference is not None and self._is_up_to_date(journal, plan, tally)
            now = self._label_pending(journal, plan.pending, tally)
            self._check_gone(journal, tally, plan, None if before else reported)
            if is_up_to_date:
                self._keep_report(journal, tally)
                self._save_notes(journal, reference, now)
            else:
                whole, digest = self._publish(journal, tally)
                note = None
                if digest and not tally.missing:  # whose rows another run may not have
                    made_of, outcomes = self._report_inputs(plan), tally.outcomes()
                    note = {"sha256": digest.hex(), "made_of": made_of, "outcomes": outcomes}
                self._save_notes(journal, reference, now, whole, note)
        self._check_drift()

    @property
    def _destination(self) -> Location:
        place = parse_location(self.job.output)
        return place if isinstance(place, Url) else resolve_path(place)

    def _report_inputs(self, plan: RunPlan) -> dict[str, Any]:
        """Tell all that a report's bytes depend on, besides the rows in the journal."""
        job, models = self.job, self.engine.ensemble.models
        return {
            "report": os.fspath(self._destination),
            "order": plan.order.hex(),
            "basis": compute_basis(models, job.options).hex(),
            "thresholds": self._thresholds_text(),
            "shard": str(job.options.shard),
            "version": find_version(PROGRAM),
        }

    def _is_up_to_date(self, journal: Journal, plan: RunPlan, tally: Tally) -> bool:
        """Tell whether the report is as it would be written; then ``tally`` has its outcomes."""
        noted, place = _read_note(journal, REPORT_NOTE), self._destination
        is_same = not (plan.pending or plan.gone) and noted.get("made_of") == self._report_inputs(
            plan
        )
        if is_same and isinstance(place, Path):
            with self.engine.timings.of(REPORT):
                digest = digest_file(place)
            if digest is not None and digest.hex() == noted["sha256"]:
                tally.restore_outcomes(noted["outcomes"])
                return True
        return False

    def _keep_report(self, journal: Journal, tally: Tally) -> None:
        """Leave the report as it is, which is as it would be written."""
        self._check_stop(journal)
        tally.check()
        self.recorder.published = self.recorder.up_to_date = True
        self.terminal.log(
            Event.UP_TO_DATE, f"nothing has changed, so the report {self.job.output} stays as it is"
        )

    def _label_pending(self, journal: Journal, pending: int, tally: Tally) -> Profile:
        now, done = self._new_profile(), 0
        if pending:
            self.engine.check_models()
        files = self.stop.take_until_stop(journal.pending())
        for finished in self.terminal.progress(
            self.engine.label(files, journal.find_known), pending
        ):
            if not done:
                journal.write_note(REPORT_NOTE, "")
            journal.add(finished)
            tally.add_processed(finished)
            done += 1
            if not finished.copied:
                now.add(finished.row)
        self._check_stop(journal)
        if done != pending:
            raise BatchLabelError(
                f"{pending} photos were to be labelled, and {done} were", "please report this bug"
            )
        return now.profile()

    def _count_reported(self) -> int:
        """Count the photos of the earlier report, of which no journal is there."""
        from batch.reading.saved import open_saved_report  # here, as most runs have a journal

        try:
            with open_saved_report(self.job.output) as report:
                paths = groupby(row.path for row in report.rows())
                return sum(1 for _ in self.stop.take_until_stop(paths))
        except BatchLabelError:  # there is none, or none that can be read back
            return 0

    def _check_found(self, plan: RunPlan, reported: int) -> None:
        record = self.recorder.sharded.record if self.recorder.sharded else None
        found = record.found if record else plan.found
        if not found and not self._skips_older and not self.job.limits.max_gone.is_off:
            check_any_found(max(plan.find_known, reported), self.job.photos)

    def _check_gone(
        self, journal: Journal, tally: Tally, plan: RunPlan, reported: int | None
    ) -> None:
        """Keep the rows of photos whose disk seems to be away, and see how many are deleted.

        ``reported`` is how many the earlier report has, None if the journal knows them.

        Raises:
            BatchLabelError: more than ``--max-gone`` allows.
        """
        journal.find_moved()
        limit, exclusion = self.job.limits.max_gone, self.job.options.search.exclusion
        kept_missing = keep_unavailable(journal, self.coverage, limit.is_off, exclusion)
        tally.unavailable = kept_missing.total
        if kept_missing.total:
            self.terminal.log(
                Event.PHOTOS_MISSING,
                f"{count_text(kept_missing.total, 'known photo')} missing, and still in the report: "
                f"{kept_missing.describe()}; "
                f"{kept_missing.remedy}",
                Level.WARNING,
                missing=kept_missing.total,
                folders=kept_missing.photos,
            )
        if not self.job.journal.keep_missing and not self._skips_older:
            known = plan.find_known if reported is None else None
            # The same command passes over nothing that it found before: a list was cut short.
            passes = None if journal.read_note(INPUTS_NOTE) == self._inputs_text() else exclusion
            tally.gone = check_gone(journal, limit, known, passes)
            check_report_count(plan.found, reported or 0, limit)

    def _publish(self, journal: Journal, tally: Tally) -> tuple[Profile, bytes | None]:
        """Write the report from the journal, whose rows are all on disk; give its digest, too."""
        whole = self._new_profile()
        with (
            self.engine.timings.of(REPORT),
            self._open_report(self.stop.check_signal) as report,
        ):
            for row in self.stop.take_until_signal(self._report_rows(journal)):
                report.add(row)
                tally.add(row)
                whole.add(row)
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
        return whole.profile(), report.digest

    def _report_rows(self, journal: Journal) -> Iterator[Row]:
        """Give the report's rows, decided by this run's thresholds."""
        missing = journal.read_missing(all_gone=self.job.journal.keep_missing)
        outputs, accepts = set(self.engine.ensemble.outputs), self.job.journal.accept_failures
        for row in chain(journal.rows(), missing):
            # A row that is missing may be of a model with other labels.
            is_alike = row.answer is None or set(row.answer.probabilities) == outputs
            decided = apply_thresholds(row, self.engine.ensemble) if is_alike else row
            yield replace(decided, accepted=True) if accepts and row.failure else decided

    def _save_notes(
        self,
        journal: Journal,
        before: Baseline | None,
        now: Profile,
        whole: Profile | None = None,
        note: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep in the journal what later runs need to know of the published report.

        ``whole`` are all its answers, if it was written, and ``write_note`` is of a file's bytes.

        Raises:
            PublishedOnly: the system refuses.
        """
        try:
            usual, accept = before.usual if before else None, self.job.accept_drift
            self.recorder.drift = drift = find_drift(now, usual, self._label_shares(), accept)
            first = Baseline(whole or now, thresholds=self._thresholds_text())
            after = before.add_run(now, drift, accept) if before else first
            journal.write_note(REFERENCE_NOTE, json.dumps(asdict(after)))
            if note:
                journal.write_note(REPORT_NOTE, json.dumps(note))
            journal.write_note(BASIS_NOTE, json.dumps(self._describe_basis()))
            journal.write_note(INPUTS_NOTE, self._inputs_text())
            if self.job.journal.accept_failures:
                journal.accept_failures()
            journal.write_note(FRESH_NOTE, "")
            journal.forget_missing(all_kept=self.job.journal.keep_missing or self._skips_older)
            journal.commit()
            self.engine.clean_up(journal)
        except (OutputError, JournalDamaged) as error:
            raise PublishedOnly(
                f"the report {self.job.output} is published, but its journal does not know that "
                f"({error})",
                "run the same command again once that is mended: the photos need no new labels",
            ) from error

    def _read_baseline(self, journal: Journal) -> Baseline | None:
        """Read what to compare with; None if there is nothing of the same labels and thresholds."""
        reference = read_baseline(journal.read_note(REFERENCE_NOTE))
        if reference is None or reference.thresholds != self._thresholds_text():
            return None
        is_alike = set(reference.usual.by_label) == set(self.engine.ensemble.labels)
        return reference if is_alike else None

    def _thresholds_text(self) -> str:
        options = self.job.options
        return f"{options.min_confidence} {options.always_answer}"

    def _describe_change(self, before: dict[str, str], starts_over: bool) -> str:
        if starts_over:
            return "no longer used since --fresh was given"
        return describe_change(before, self._describe_basis())

    @property
    def _skips_older(self) -> bool:
        # What is only too old is still there, and needs no new labels without --newer-than.
        return self.job.options.search.newer_than is not None

    def _inputs_text(self) -> str:
        return json.dumps([self.job.photos, str(self.job.options.search)])

    def _describe_basis(self) -> dict[str, str]:
        return describe_basis(self.engine.ensemble.models, self.job.options)

    def _shard_text(self) -> str:
        record = self.recorder.sharded.record if self.recorder.sharded else None
        return f" in shard {record.number}/{record.of} of {record.found}" if record else ""

    def _new_profile(self) -> ProfileBuilder:
        ensemble = self.engine.ensemble
        thresholds = ensemble.photo_thresholds
        # A run that answers always gives no such status, and is not compared with one that does.
        abstain = () if thresholds.always_answer else tuple(thresholds.abstain_from)
        return ProfileBuilder(ensemble.labels, abstain)

    def _label_shares(self) -> dict[Source, dict[str, float]]:
        models = self.engine.ensemble.models
        return {Source(m.spec.region.value): dict(m.spec.label_shares) for m in models}

    def _check_stop(self, journal: Journal) -> None:
        # What is said to be kept is on disk, or the run ends with why it is not.
        journal.commit()
        if self.stop.stopped_early:
            raise self.stop.make_error(RESUME_HINT)

    def _check_failures(self, tally: Tally, remedy: str) -> None:
        limit = self.job.limits.max_failures
        if limit is not None and not self.stop.stopped_early:
            named = tally.describe_failures()
            limit.check_failures(tally.not_accepted, tally.found, named, remedy)

    def _check_drift(self) -> None:
        drift = self.recorder.drift
        # The error says it again.
        level = Level.INFO if self.job.fail_on_drift else Level.WARNING
        for warning in drift.warnings if drift else ():
            self.terminal.log(Event.DRIFT, f"{warning}; {DRIFT_REMEDY}", level)
        if self.job.accept_drift:
            told = "later runs are compared with the answers of this run as well"
            self.terminal.log(Event.DRIFT, f"drift is accepted: {told}")
        if drift and drift.warnings and self.job.fail_on_drift:
            raise DriftError(f"the answers have drifted: {'; '.join(drift.warnings)}", DRIFT_REMEDY)


def _unusable_error(place: Path, suspicion: JournalDamaged) -> OutputError:
    return OutputError(
        f"the journal {path_text(place)} can't be used ({suspicion}), although it is not damaged",
        "look after its disk and that of the temporary folder, then run the same command again",
    )


def _describe_skipped(tally: Tally) -> str:
    """Say what was left out where nothing was found, and which option would take it."""
    if not tally.skipped:
        return ""
    reasons = [why for why, _ in tally.skipped_by_reason.most_common()]
    hints = "; ".join(SKIP_HINTS[why] for why in reasons if why in SKIP_HINTS)
    return f": {tally.skipped_text()}{f'; {hints}' if hints else ''}"


def _count_files(
    found: Iterable[FoundFile], tally: Tally, positions: deque[int | None]
) -> Iterator[Failure | PendingFile]:
    """Give the files, and note the positions, which their rows take back in the same order."""
    for file in found:
        tally.found += 1
        positions.append(file.position)
        yield file.failure or PendingFile(file.location, may_be_known=False)


def _read_note(journal: Journal, name: str) -> dict[str, Any]:
    """Read a note that is a JSON object; empty where there is none."""
    try:
        values = json.loads(journal.read_note(name) or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
