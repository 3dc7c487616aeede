"""``batch-label label``, the command that needs no name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.commands.options import (
    choice_options,
    cluster_options,
    file_options,
    log_options,
    memory_options,
    model_options,
    schedule_options,
    search_options,
)
from batch.commands.settings import file_limits_of, place_of, user_state
from batch.default_command import DEFAULT_COMMAND
from batch.errors import BatchLabelError, ExitCode, UsageError
from batch.limits import Limits, parse_deadline, parse_max_failures, parse_time_limit
from batch.location import location_of
from batch.log import PROGRAM, Event, Level, Log, LogFormat, open_log
from batch.options import DEFAULT_BATCH_SIZE, Cluster, EngineKind, Job, Memory, Options
from batch.shard import parse_shard
from batch.walk import Search

# What a run needs is imported where it starts, so that --help is there at once.
if TYPE_CHECKING:
    from batch.progress import Watch

STDIO = "-"


@click.command(DEFAULT_COMMAND)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTOS...")
@click.option(
    "-o",
    "--output",
    default=STDIO,
    metavar="FILE|DIR/|URL",
    help="The report: a .csv, .jsonl or .parquet file, a folder for a dataset in Parquet, any of "
    "them also in an object store, or - for CSV on standard output (default).",
)
@model_options
@search_options
@choice_options
@file_options
@memory_options
@cluster_options
@schedule_options
@log_options
@click.option(
    "--batch-size",
    type=click.IntRange(1, 4096),
    default=DEFAULT_BATCH_SIZE,
    show_default=True,
    metavar="N",
    help="Faces in one call of the model.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Photos worked on at the same time.  [default: as many as there are cores]",
)
def label(dry_run: bool, quiet: bool, log_format: str, **given: Any) -> None:
    """Label photos and write the report (the default command)."""
    form = LogFormat(log_format)
    log = open_log(sys.stderr, form, quiet)
    try:
        job = _job(**given)
        if dry_run:
            _list(job, log)
            return
        sys.exit(_run(_with_journal(job), log, quiet, form))
    except BatchLabelError as error:
        log(Event.ERROR, str(error), Level.ERROR, exit_code=error.exit_code)
        sys.exit(error.exit_code)


def _job(
    photos: tuple[str, ...],
    output: str,
    per_face: bool,
    wait: bool,
    metrics_file: Path | None,
    fail_on_drift: bool,
    **given: Any,
) -> Job:
    names = ("state", "fresh", "verify_hash", "keep_missing")
    memory = Memory(**{name: given.pop(name) for name in names})
    places = ("engine", "ray_address", "actors", "parts")
    cluster = _cluster(**{name: given.pop(name) for name in places})
    return Job(
        photos=photos,
        output=output,
        per_face=per_face,
        memory=memory,
        limits=_limits(given.pop("deadline"), given.pop("time_limit"), given.pop("max_failures")),
        options=_options(every_face=per_face, **given),
        cluster=cluster,
        wait=wait,
        metrics_file=metrics_file,
        fail_on_drift=fail_on_drift,
    )


def _limits(deadline: str | None, time_limit: str | None, max_failures: str | None) -> Limits:
    return Limits(
        deadline=None if deadline is None else parse_deadline(deadline),
        time_limit=None if time_limit is None else parse_time_limit(time_limit),
        max_failures=None if max_failures is None else parse_max_failures(max_failures),
    )


def _cluster(
    engine: str, ray_address: str | None, actors: int | None, parts: str | None
) -> Cluster:
    if engine == EngineKind.RAY:
        return Cluster(EngineKind.RAY, ray_address, actors, parts)
    if actors is not None or parts is not None:
        name = "--parts" if actors is None else "--actors"
        raise UsageError(f"{name} is for clusters alone", "leave it out, or add --engine ray")
    return Cluster()


def _options(
    model: str,
    provider: str,
    devices: tuple[int, ...],
    engine_cache: Path | None,
    min_confidence: float | None,
    every_face: bool,
    recursive: bool,
    hidden: bool,
    follow_symlinks: bool,
    archives: bool,
    salvage: bool,
    shard: str | None,
    batch_size: int,
    workers: int | None,
    **file_limits: str,
) -> Options:
    place = place_of(provider, devices, engine_cache)
    return Options(
        model=model,
        provider=place.provider,
        devices=place.devices,
        engine_cache=place.engine_cache,
        batch_size=batch_size,
        workers=workers,
        min_confidence=min_confidence,
        every_face=every_face,
        salvage=salvage,
        search=Search(
            recursive=recursive,
            hidden=hidden,
            follow_symlinks=follow_symlinks,
            archives=archives,
        ),
        shard=None if shard is None else parse_shard(shard),
        file_limits=file_limits_of(**file_limits),
    )


def _with_journal(job: Job) -> Job:
    """Give a report at a URL a journal in the user's folder, unless ``--state`` names another."""
    if job.memory.state is not None or isinstance(location_of(job.output), Path):
        return job
    from batch.journal_place import url_journal_path
    from batch.publish import writing

    folder = user_state() / PROGRAM
    with writing(f"folder {folder}", "name a journal with --state"):
        # With the rights that the XDG Base Directory spec demands.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = url_journal_path(job.output, folder)
    return replace(job, memory=replace(job.memory, state=state))


def _list(job: Job, log: Log) -> None:
    from batch.discover import discover
    from batch.names import path_text
    from batch.records import Failure
    from batch.summary import Summary

    summary = Summary()
    files = discover(
        job.photos,
        job.options.search,
        listing=sys.stdin.buffer,
        left_out=summary.leave_out,
        shard=job.options.shard,
    )
    for found in files:
        summary.found += 1
        path = found.path if isinstance(found, Failure) else found
        # As bytes: names are UTF-8 whatever the terminal's encoding is.
        click.echo(path_text(path).encode())
    log(
        Event.FOUND,
        f"{summary.found} files would be labelled, {summary.left_out} left out",
        found=summary.found,
        left_out=summary.left_out,
    )


def _run(job: Job, log: Log, quiet: bool, form: LogFormat) -> ExitCode:
    from batch.labelling import Terminal
    from batch.run import run

    watch = _watch(job.output, log, quiet, form)
    summary = run(job, Terminal(sys.stdin.buffer, sys.stdout.buffer, log, watch))
    level = Level.INFO if summary.exit_code is ExitCode.OK else Level.WARNING
    log(
        Event.SUMMARY,
        summary.line(),
        level,
        found=summary.found,
        labelled_now=summary.labelled_now,
        reused=summary.reused,
        by_status=summary.by_status,
        by_label=summary.by_label,
        exit_code=summary.exit_code,
    )
    return summary.exit_code


def _watch(output: str, log: Log, quiet: bool, form: LogFormat) -> Watch:
    from batch.progress import Bar, Lines, Nothing

    if quiet or (output == STDIO and sys.stdout.isatty()):
        return Nothing()
    if form is LogFormat.TEXT and sys.stderr is not None and sys.stderr.isatty():
        return Bar(sys.stderr)
    return Lines(log)
