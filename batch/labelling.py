"""The labelling of a run: with a journal, or straight into a stream."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

from batch.engine import Engine
from batch.errors import BatchLabelError, DriftError, OutputError, PublishedOnly
from batch.journal.basis import basis_of
from batch.journal.damage import find_damage, set_aside
from batch.journal.errors import JournalDamaged
from batch.journal.journal import FRESH, Journal
from batch.journal.place import journal_path
from batch.location import Location
from batch.log import Event, Level, Log, counted
from batch.names import path_text
from batch.options import Job
from batch.progress import Watch
from batch.recording.drift import find_drift
from batch.recording.profile import Profile, Tally
from batch.recording.recorder import Recorder
from batch.recording.timings import DISCOVER, REPORT
from batch.records import Failure, Row, Source
from batch.reports.report import Report, open_report
from batch.sources.walk import Found
from batch.stopping import Check, Stop
from batch.summary import Summary

# Under this name the journal keeps the profile of the last published report.
PROFILE = "profile"
GOES_ON = ": the fresh start of an earlier run, which was cut off, goes on"
# What to do about that which was left out, by the reason.
HINTS = {
    "hidden": "take names that begin with a dot with --hidden",
    "symbolic link": "follow links with --follow-symlinks",
    "in a subfolder": "leave out --no-recursive",
    "archive": "look into archives with --archives",
    "camera raw": "convert camera raws, such as to JPEG",
}
KEPT = "what is done is kept: run the same command again to go on"


@dataclass(frozen=True)
class Terminal:
    """What a run talks to: a list of paths, standard output, the log, and who looks on."""

    listing: BinaryIO
    stdout: BinaryIO
    log: Log
    watch: Watch


@dataclass(frozen=True)
class Labelling:
    """What a run needs once its models are open."""

    job: Job
    terminal: Terminal
    stop: Stop
    recorder: Recorder
    engine: Engine

    def through(self, survey: Iterable[Found]) -> None:
        """Label everything, with a journal where there is a place for one."""
        place = journal_path(self.job)
        if place is None:
            self._stream(survey)
            return
        try:
            self._with_journal(place, survey)
        except JournalDamaged as suspicion:
            # A disk that fails for a moment, or is full, looks the same: only damage that a second
            # look finds is damage.
            damage = find_damage(place)
            if damage is None:
                raise _unusable(place, suspicion) from suspicion
            broken = set_aside(place, damage, given=self.job.memory.state is not None)
            self.terminal.log(
                Event.JOURNAL_BROKEN,
                f"the journal {path_text(place)} is damaged ({damage}): it is now "
                f"{path_text(broken)}, and every photo is labelled anew",
                Level.WARNING,
            )
            try:
                self._with_journal(place, survey)
            except JournalDamaged as again:
                raise _unusable(place, again) from again

    def _begin(self) -> Summary:
        self.recorder.summary = summary = Summary(self.engine.ensemble.labels)
        return summary

    def _report(self, check: Check) -> Report:
        job, stdout = self.job, self.terminal.stdout
        numbered = job.options.shard is not None
        outputs = self.engine.ensemble.outputs
        return open_report(job.output, outputs, job.per_face, stdout, numbered, check)

    def _stream(self, found: Iterable[Found]) -> None:
        """Write rows as they come, and remember nothing."""
        summary, positions = self._begin(), deque[int | None]()
        total = None
        if self.terminal.watch.wants_total:  # holds all paths, so only where somebody looks on
            found = list(found)
            total = len(found)
        rows = self.engine.label(_counted(self.stop.until(found), summary, positions))
        with self._report(self.stop.check) as report:
            for finished in self.terminal.watch(rows, total):
                report.add(replace(finished.row, position=positions.popleft()))
                summary.look(finished)
                summary.add(finished.row)
            if not self.stop.cut:
                summary.check()
            self._check_failures(summary)
            report.publish()
        self.recorder.published = not self.stop.cut
        if self.stop.cut:
            raise self.stop.error(f"the {summary.done} photos that were done are written")

    def _with_journal(self, place: Path, survey: Iterable[Found]) -> None:
        summary, memory = self._begin(), self.job.memory
        basis = basis_of(self.engine.ensemble.models, self.job.options)
        with Journal(place, basis, self.job.options.shard) as journal:
            last = _last(journal)  # first of all: a damaged note is a damaged journal
            for finished in self.stop.until(self.engine.resume(journal)):
                journal.add(finished)
            with self.engine.timings.of(DISCOVER):
                plan = journal.plan(
                    self.stop.until(survey), fresh=memory.fresh, verify=memory.verify_hash
                )
            self._check_stop(journal)
            summary.found, summary.unchanged = plan.found, plan.found - plan.pending
            self.terminal.log(
                Event.FOUND,
                f"{counted(plan.found, 'photo')} found{self._of_all()}, "
                f"{plan.pending} to be labelled{GOES_ON if plan.goes_on else ''}"
                f"{'' if plan.found else _hint(summary)}",
                # Nobody labels nothing on purpose: mostly a disk is not there.
                Level.INFO if plan.found else Level.WARNING,
                found=plan.found,
                pending=plan.pending,
            )
            now = self._label(journal, plan.pending, summary)
            whole = self._publish(journal, summary)
            self._remember(journal, last, now, whole)
        self._check_drift()

    def _label(self, journal: Journal, pending: int, summary: Summary) -> Profile:
        now, done = self._tally(), 0
        files = self.stop.until(journal.pending())
        for finished in self.terminal.watch(self.engine.label(files, journal.known), pending):
            journal.add(finished)
            summary.look(finished)
            done += 1
            if not finished.copied:
                now.add(finished.row)
        self._check_stop(journal)
        if done != pending:
            raise BatchLabelError(
                f"{pending} photos were to be labelled, and {done} were", "please report this bug"
            )
        return now.profile()

    def _publish(self, journal: Journal, summary: Summary) -> Profile:
        """Write the report from the journal, whose rows are all on disk."""
        whole = self._tally()
        with (
            self.engine.timings.of(REPORT),
            self._report(self.stop.check_signal) as report,
        ):
            for row in self.stop.until_signal(_all_rows(journal, self.job.memory.keep_missing)):
                report.add(row)
                summary.add(row)
                whole.add(row)
            self._check_stop(journal)
            summary.check()
            self._check_failures(summary)
            report.publish()
        self.recorder.published = True
        self.terminal.log(Event.PUBLISHED, f"the report is {self.job.output}")
        return whole.profile()

    def _remember(
        self, journal: Journal, last: Profile | None, now: Profile, whole: Profile
    ) -> None:
        """Keep in the journal what later runs need to know of the published report.

        Raises:
            PublishedOnly: the system refuses.
        """
        sharded = self.recorder.sharded
        try:
            self.recorder.drift = find_drift(now, last, self._shares())
            journal.note(PROFILE, json.dumps(asdict(whole)))
            journal.note(FRESH, "")
            if not self.job.memory.keep_missing and (sharded is None or sharded.looked_everywhere):
                journal.forget_missing()
            journal.commit()
            self.engine.settle(journal)
        except (OutputError, JournalDamaged) as error:
            raise PublishedOnly(
                f"the report {self.job.output} is published, but its journal does not know that "
                f"({error})",
                "run the same command again once that is mended: the photos need no new labels",
            ) from error

    def _of_all(self) -> str:
        record = self.recorder.sharded.record if self.recorder.sharded else None
        return f" in shard {record.number}/{record.of} of {record.found}" if record else ""

    def _tally(self) -> Tally:
        ensemble = self.engine.ensemble
        thresholds = ensemble.photo_thresholds
        # A run that answers always gives no such status, and is not compared with one that does.
        abstain = () if thresholds.always_answer else tuple(thresholds.abstain_from)
        return Tally(ensemble.labels, abstain)

    def _shares(self) -> dict[Source, dict[str, float]]:
        models = self.engine.ensemble.models
        return {Source(m.spec.region.value): dict(m.spec.label_shares) for m in models}

    def _check_stop(self, journal: Journal) -> None:
        # What is said to be kept is on disk, or the run ends with why it is not.
        journal.commit()
        if self.stop.cut:
            raise self.stop.error(KEPT)

    def _check_failures(self, summary: Summary) -> None:
        limit = self.job.limits.max_failures
        if limit is not None and not self.stop.cut:
            limit.check(summary.by_reason, summary.found)

    def _check_drift(self) -> None:
        drift = self.recorder.drift
        for warning in drift.warnings if drift else ():
            self.terminal.log(Event.DRIFT, warning, Level.WARNING)
        if drift and drift.since_last_run and self.job.fail_on_drift:
            raise DriftError(
                f"the answers have drifted: {'; '.join(drift.since_last_run)}",
                "the report is published: look at it, and at the photos' source",
            )


def _unusable(place: Path, suspicion: JournalDamaged) -> OutputError:
    return OutputError(
        f"the journal {path_text(place)} can't be used ({suspicion}), although it is not damaged",
        "look after its disk and that of the temporary folder, then run the same command again",
    )


def _hint(summary: Summary) -> str:
    """Say what was left out where nothing was found, and which option would take it."""
    if not summary.left_out:
        return ""
    reasons = [why for why, _ in summary.left_out_by_reason.most_common()]
    hints = "; ".join(HINTS[why] for why in reasons if why in HINTS)
    return f": {summary.left_out_line()}{f'; {hints}' if hints else ''}"


def _counted(
    found: Iterable[Found], summary: Summary, positions: deque[int | None]
) -> Iterator[Location | Failure]:
    """Give the files, and note the positions, which their rows take back in the same order."""
    for file in found:
        summary.found += 1
        positions.append(file.position)
        yield file.failure or file.location


def _all_rows(journal: Journal, keep_missing: bool) -> Iterator[Row]:
    yield from journal.rows()
    if keep_missing:
        yield from journal.missing()


def _last(journal: Journal) -> Profile | None:
    text = journal.noted(PROFILE)
    try:
        return Profile(**json.loads(text)) if text else None
    except (ValueError, TypeError):
        return None
