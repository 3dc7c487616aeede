"""What the record of a run says, in words for the page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from batch.limits import duration_text
from batch.path_text import printable
from batch.recording.drift import Drift
from batch.recording.run_record import RunRecord, read_run, run_file

Fact = tuple[str, str]


def about_run(report: Path) -> tuple[Sequence[Fact], Sequence[str]]:
    """Tell of a report's last run in pairs of a name and a value, and what to beware of.

    Both are empty without a record, or where it is damaged: see ``read_run``.
    """
    record = read_run(run_file(report))
    if record is None:
        return (), ()
    try:
        return [(name, value) for name, value in _facts(record) if value], _warnings(record)
    except (TypeError, ValueError, AttributeError):  # values that no run writes
        return (), ()


def time_text(moment: datetime) -> str:
    """Write a time for people, in UTC and to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _warnings(record: RunRecord) -> list[str]:
    warnings = list(record.drift.warnings) if record.drift else []
    if not record.published:
        ended = f"The last run, of {time_text(record.started)}, published no report"
        warnings.insert(0, f"{ended} ({record.outcome}): this is an earlier one's.")
    if record.error:
        warnings.append(record.error)
    return warnings


def _facts(record: RunRecord) -> Iterator[Fact]:
    counts = record.counts
    yield "Run", f"{time_text(record.started)}, {record.outcome.value.replace('_', ' ')}"
    yield "Took", duration_text(max(1, round(record.seconds.wall)))
    yield "Photos of", ", ".join(map(printable, record.inputs))
    yield "Found", f"{counts.found:,} files, {counts.left_out:,} left out"
    known = f", {counts.reused:,} from earlier runs or photos of the same bytes"
    yield "Labelled", f"{counts.labelled_now:,} now{known if counts.reused else ''}"
    for name, count in (("Missing", counts.missing), ("Salvaged", counts.salvaged)):
        yield name, f"{count:,}" if count else ""
    yield "Models", ", ".join(f"{m.name} {m.version} ({m.sha256[:8]})" for m in record.models)
    devices = ", ".join(map(str, record.devices))
    yield "Provider", f"{record.provider or ''}{f', devices {devices}' if devices else ''}"
    versions = ((name, version) for name, version in record.versions.items() if version)
    yield "Software", ", ".join(f"{name} {version}" for name, version in versions)
    host = record.host
    yield "Machine", f"{host.name}, {host.system}, {host.cores} cores"
    yield "Drift", _drift(record.drift) if record.drift else ""


def _drift(drift: Drift) -> str:
    far = (("earlier runs", drift.from_last_run), ("the training data", drift.from_model))
    shares = [f"{share:.1%} from {what}" for what, share in far if share is not None]
    return ", ".join(shares)
