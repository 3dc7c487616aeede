"""The comparison of a run's answers with those of earlier runs."""

from __future__ import annotations

from dataclasses import dataclass

from batch.errors import DriftError
from batch.log import Event, Level, Log
from batch.models.ensemble import Ensemble
from batch.options import Job
from batch.recording.drift import (
    Baseline,
    Drift,
    Profile,
    ProfileBuilder,
    find_drift,
    read_baseline,
)
from batch.records import Source

PUBLISHED_REMEDY = f"the report is published: {Drift.REMEDY}"


@dataclass(frozen=True)
class DriftCheck:
    """Compares the answers of one run with a baseline, by the options of its job.

    Attributes:
        job: the job, with its thresholds, ``accept_drift`` and ``fail_on_drift``.
        ensemble: the run's models.
    """

    job: Job
    ensemble: Ensemble

    @property
    def thresholds(self) -> str:
        """The thresholds as text: answers under other thresholds are not compared."""
        options = self.job.options
        return f"{options.min_confidence} {options.always_answer}"

    def new_profile(self) -> ProfileBuilder:
        """Make an empty profile of the models' labels and abstain outputs."""
        thresholds = self.ensemble.photo_thresholds
        # A run that always answers gives no abstain outputs, so they are not compared.
        abstain = () if thresholds.always_answer else tuple(thresholds.abstain_from)
        return ProfileBuilder(self.ensemble.labels, abstain)

    def read_baseline(self, text: str | None) -> Baseline | None:
        """Read a baseline; None if it is missing, or has other labels or thresholds."""
        baseline = read_baseline(text)
        if baseline is None or baseline.thresholds != self.thresholds:
            return None
        has_same_labels = set(baseline.usual.by_label) == set(self.ensemble.labels)
        return baseline if has_same_labels else None

    def find_drift(self, now: Profile, before: Baseline | None) -> Drift:
        """Compare the answers of this run with the baseline and the models' label shares."""
        models = self.ensemble.models
        shares = {Source(m.spec.region.value): dict(m.spec.label_shares) for m in models}
        return find_drift(now, before.usual if before else None, shares, self.job.accept_drift)

    def update_baseline(
        self, before: Baseline | None, now: Profile, drift: Drift, whole: Profile | None
    ) -> Baseline:
        """Add the answers of this run to the baseline.

        Without an earlier baseline, the new one has all answers of the report (``whole``) if it was
        written, else those of this run.
        """
        if before:
            return before.add_run(now, drift, self.job.accept_drift)
        return Baseline(whole or now, thresholds=self.thresholds)

    def report(self, drift: Drift | None, log: Log) -> None:
        """Log the drift of a run whose report is published.

        Raises:
            DriftError: there is drift, and the job has ``fail_on_drift``.
        """
        warnings = drift.warnings if drift else ()
        level = Level.INFO if self.job.fail_on_drift else Level.WARNING  # the error repeats them
        for warning in warnings:
            log(Event.DRIFT, f"{warning}; {PUBLISHED_REMEDY}", level)
        if self.job.accept_drift:
            text = "later runs are compared with the answers of this run as well"
            log(Event.DRIFT, f"drift is accepted: {text}")
        if warnings and self.job.fail_on_drift:
            raise DriftError(f"the answers have drifted: {'; '.join(warnings)}", PUBLISHED_REMEDY)
