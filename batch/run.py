"""A whole run of the command: from what was asked for to the published report."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from batch.discover import discover
from batch.lock import locked
from batch.options import Options
from batch.pipeline import Pipeline
from batch.progress import Watch
from batch.records import Failure
from batch.report import check_output, open_report
from batch.stopping import stop_on_signals
from batch.summary import Summary


def run(
    photos: Sequence[str],
    options: Options,
    output: str,
    per_face: bool,
    *,
    listing: BinaryIO,
    stdout: BinaryIO,
    say: Callable[[str], None],
    watch: Watch,
) -> Summary:
    """Label photos and publish the report; return what became of every file.

    Things are done in the order in which they can fail: the cheap checks first. ``say``
    gets lines for people, ``watch`` sees the rows pass.

    Raises:
        BatchLabelError: the run can't go on, or a signal ended it. An earlier report is left
            as it was.
    """
    check_output(output)
    summary = Summary()
    found = discover(photos, options.search, listing=listing, left_out=summary.leave_out)
    with locked(output), stop_on_signals() as stop:
        pipeline = Pipeline(options)
        say(_introduction(pipeline))
        summary.labels = labels = pipeline.ensemble.labels
        started = time.monotonic()
        with open_report(output, labels, per_face, stdout) as report:
            paths: Iterable[Path | Failure] = found
            total = None
            if watch.wants_total:  # holds all paths, so only where somebody looks on
                paths = list(found)
                total = len(paths)
            for row in watch(pipeline.run(_counted(stop.until(paths), summary)), total):
                report.add(row)
                summary.add(row)
            summary.seconds = time.monotonic() - started
            summary.check()
            if stop:
                partial = report.keep_partial()
                where = f"kept in {partial}" if partial else "written"
                raise stop.error(f"the {summary.done} photos that were done are {where}")
            report.publish()
    return summary


def _counted(found: Iterable[Path | Failure], summary: Summary) -> Iterator[Path | Failure]:
    for item in found:
        summary.found += 1
        yield item


def _introduction(pipeline: Pipeline) -> str:
    ensemble = pipeline.ensemble
    note = f" ({ensemble.provider_note})" if ensemble.provider_note else ""
    provider = ensemble.provider.value
    return f"{ensemble.describe()} on {provider}{note}, {pipeline.workers} workers"
