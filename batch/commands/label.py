"""``batch-label label``, the command that needs no name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch.default_command import DEFAULT_COMMAND
from batch.discover import Search
from batch.errors import BatchLabelError, ExitCode
from batch.limits import Limits, parse_deadline, parse_max_failures, parse_time_limit
from batch.log import Event, Level, Log, LogFormat, open_log
from batch.options import DEFAULT_BATCH_SIZE, DEFAULT_MODEL, Job, Memory, Options, Provider

# What a run needs is imported where it starts, so that --help is there at once.
if TYPE_CHECKING:
    from batch.progress import Watch

STDIO = "-"
FILE = click.Path(path_type=Path)

Command = Callable[..., None]


def _model_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option(
                "-m",
                "--model",
                default=DEFAULT_MODEL,
                show_default=True,
                metavar="NAME|FILE",
                help="A shipped model's name, the path of an .onnx file, or a face model and a "
                "whole-photo model as FACE+PHOTO.",
            ),
            click.option(
                "--provider",
                type=click.Choice([provider.value for provider in Provider]),
                default=Provider.AUTO.value,
                show_default=True,
                help="Where the model runs. auto: CUDA where it works, else the CPU. cuda: CUDA or "
                "nothing.",
            ),
            click.option(
                "--per-face", is_flag=True, help="Write one row a face, not one row a photo."
            ),
            click.option(
                "--min-confidence",
                type=click.FloatRange(0, 1),
                metavar="P",
                help="Answers less likely than this (0 to 1) are unsure.  [default: what the model "
                "says]",
            ),
        )
    ):
        command = option(command)
    return command


def _search_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option(
                "--recursive/--no-recursive", default=True, help="Look into sub-folders (default)."
            ),
            click.option(
                "--hidden", is_flag=True, help="Take names that begin with a dot as well."
            ),
            click.option(
                "--follow-symlinks", is_flag=True, help="Follow symbolic links inside the folders."
            ),
            click.option(
                "--dry-run", is_flag=True, help="Only list the files that would be labelled."
            ),
        )
    ):
        command = option(command)
    return command


def _memory_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option(
                "--state",
                type=FILE,
                metavar="FILE",
                help="The journal of what is done.  [default: hidden beside the report]",
            ),
            click.option("--fresh", is_flag=True, help="Forget the journal and label everything."),
            click.option(
                "--verify-hash",
                is_flag=True,
                help="Read every file to see whether it has changed, whatever size and time say.",
            ),
            click.option(
                "--keep-missing",
                is_flag=True,
                help="Keep the rows of photos that are gone, marked as missing.",
            ),
        )
    ):
        command = option(command)
    return command


def _schedule_options(command: Command) -> Command:
    for option in reversed(
        (
            click.option(
                "--deadline",
                metavar="HH:MM",
                help="Begin no photo after this time of the day; the next run goes on.",
            ),
            click.option(
                "--time-limit", metavar="DURATION", help="The same after so long: 2h30m, 90m, 45s."
            ),
            click.option(
                "--max-failures",
                metavar="N|P%",
                help="Fail, and publish nothing, if more files than this can't be read.",
            ),
            click.option(
                "--wait", is_flag=True, help="Wait while another run is at work on the report."
            ),
            click.option(
                "--metrics-file",
                type=FILE,
                metavar="FILE.prom",
                help="Write the run's figures for Prometheus' textfile collector.",
            ),
            click.option(
                "--fail-on-drift",
                is_flag=True,
                help="Fail, once the report is published, if the answers differ much from the last "
                "run's.",
            ),
            click.option(
                "--log-format",
                type=click.Choice([form.value for form in LogFormat]),
                default=LogFormat.TEXT.value,
                show_default=True,
                help="What is written on standard error: lines for people or JSON.",
            ),
            click.option(
                "-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong."
            ),
        )
    ):
        command = option(command)
    return command


@click.command(DEFAULT_COMMAND)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTOS...")
@click.option(
    "-o",
    "--output",
    default=STDIO,
    metavar="FILE",
    help="The report: a .csv, .jsonl or .parquet file, or - for CSV on standard output (default).",
)
@_model_options
@_search_options
@_memory_options
@_schedule_options
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
        sys.exit(_run(job, log, quiet, form))
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
    return Job(
        photos=photos,
        output=output,
        per_face=per_face,
        memory=memory,
        limits=_limits(given.pop("deadline"), given.pop("time_limit"), given.pop("max_failures")),
        options=_options(**given),
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


def _options(
    model: str,
    provider: str,
    min_confidence: float | None,
    recursive: bool,
    hidden: bool,
    follow_symlinks: bool,
    batch_size: int,
    workers: int | None,
) -> Options:
    return Options(
        model=model,
        provider=Provider(provider),
        batch_size=batch_size,
        workers=workers,
        min_confidence=min_confidence,
        search=Search(recursive=recursive, hidden=hidden, follow_symlinks=follow_symlinks),
    )


def _list(job: Job, log: Log) -> None:
    from batch.discover import discover
    from batch.names import path_text
    from batch.records import Failure
    from batch.summary import Summary

    summary = Summary()
    search, left_out = job.options.search, summary.leave_out
    for found in discover(job.photos, search, listing=sys.stdin.buffer, left_out=left_out):
        summary.found += 1
        click.echo(path_text(found.path if isinstance(found, Failure) else found))
    log(
        Event.FOUND,
        f"{summary.found} files would be labelled, {summary.left_out} left out",
        found=summary.found,
        left_out=summary.left_out,
    )


def _run(job: Job, log: Log, quiet: bool, form: LogFormat) -> ExitCode:
    from batch.run import Terminal, run

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
