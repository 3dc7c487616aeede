"""The command line: options in, exit codes out; the one module that prints."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batch.default_command import DEFAULT_COMMAND, DefaultGroup
from batch.discover import Search
from batch.errors import BatchLabelError, ExitCode
from batch.options import DEFAULT_BATCH_SIZE, DEFAULT_MODEL, Options, Provider

# What a run needs is imported where it starts, so that --help is there at once.
if TYPE_CHECKING:
    from pathlib import Path

    from batch.pipeline import Pipeline
    from batch.records import Failure, Row
    from batch.summary import Summary

PROGRAM = "batch-label"
STDIO = "-"


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        click.echo(f"{PROGRAM} {version(PROGRAM)}")
        ctx.exit()


_VERSION_OPTION = click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version and exit.",
)


@click.group(
    PROGRAM,
    cls=DefaultGroup,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@_VERSION_OPTION
def cli() -> None:
    """Label whole folders of photos: is the person happy or sad?

    PHOTOS are folders (with all that lies in them), files, glob patterns, or "-" for a list
    of paths on standard input, one a line or separated by NUL bytes.
    """


@cli.command(DEFAULT_COMMAND)
@click.argument("photos", nargs=-1, required=True, metavar="PHOTOS...")
@click.option(
    "-o",
    "--output",
    default=STDIO,
    metavar="FILE",
    help="The report: a .csv, .jsonl or .parquet file, or - for CSV on standard output (default).",
)
@click.option(
    "-m",
    "--model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="NAME|FILE",
    help="A shipped model's name or the path of an .onnx file.",
)
@click.option(
    "--provider",
    type=click.Choice([provider.value for provider in Provider]),
    default=Provider.AUTO.value,
    show_default=True,
    help="Where the model runs. auto: CUDA where it works, else the CPU. cuda: CUDA or nothing.",
)
@click.option("--per-face", is_flag=True, help="Write one row a face, not one row a photo.")
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Answers less likely than this (0 to 1) are unsure.  [default: what the model says]",
)
@click.option("--recursive/--no-recursive", default=True, help="Look into sub-folders (default).")
@click.option("--hidden", is_flag=True, help="Take names that begin with a dot as well.")
@click.option("--follow-symlinks", is_flag=True, help="Follow symbolic links inside the folders.")
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
@click.option("--dry-run", is_flag=True, help="Only list the files that would be labelled.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong.")
@_VERSION_OPTION
def label(
    photos: tuple[str, ...], output: str, per_face: bool, dry_run: bool, **given: Any
) -> None:
    """Label photos and write the report (the default command)."""
    quiet = given.pop("quiet")
    try:
        options = _options(**given)
        if dry_run:
            _list(photos, options)
            return
        sys.exit(_label(photos, options, output, per_face, quiet))
    except BatchLabelError as error:
        click.echo(f"{PROGRAM}: {error}", err=True)
        sys.exit(error.exit_code)


def main() -> NoReturn:
    """Run the program and end the process with the exit code of what happened."""
    cli.main(prog_name=PROGRAM)
    raise AssertionError("click ends the process")


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


def _list(photos: tuple[str, ...], options: Options) -> None:
    from batch.discover import discover
    from batch.names import path_text
    from batch.records import Failure

    left_out = _Count()
    listed = 0
    for found in discover(photos, options.search, listing=sys.stdin.buffer, left_out=left_out.add):
        listed += 1
        click.echo(path_text(found.path if isinstance(found, Failure) else found))
    click.echo(f"{listed} files would be labelled, {left_out.count} left out", err=True)


def _label(
    photos: tuple[str, ...], options: Options, output: str, per_face: bool, quiet: bool
) -> ExitCode:
    """Run in the order in which things can fail: the cheap checks first."""
    from batch.discover import discover
    from batch.lock import locked
    from batch.report import check_output
    from batch.stopping import stop_on_signals

    check_output(output)
    left_out = _Count()
    found = discover(photos, options.search, listing=sys.stdin.buffer, left_out=left_out.add)
    with locked(output), stop_on_signals() as stop:
        from batch.pipeline import Pipeline
        from batch.report import open_report
        from batch.summary import Summary

        pipeline = Pipeline(options)
        if not quiet:
            click.echo(_introduction(pipeline), err=True)
        labels = pipeline.model.spec.labels
        summary, started = Summary(labels), time.monotonic()
        with open_report(output, labels, per_face, sys.stdout.buffer) as report:
            rows, total = _rows(pipeline, summary, stop.until(found), quiet)
            for row in _watched(rows, total, output, quiet):
                report.add(row)
                summary.add(row)
            summary.left_out, summary.seconds = left_out.count, time.monotonic() - started
            summary.check()
            if stop:
                partial = report.keep_partial()
                where = f"kept in {partial}" if partial else "written"
                raise stop.error(f"the {summary.done} photos that were done are {where}")
            report.publish()
    if not quiet or summary.exit_code is not ExitCode.OK:
        click.echo(summary.line(), err=True)
    return summary.exit_code


def _rows(
    pipeline: Pipeline, summary: Summary, found: Iterable[Path | Failure], quiet: bool
) -> tuple[Iterator[Row], int | None]:
    """Start labelling; only a bar, which shows the time left, needs all paths at once."""
    total = None
    if not quiet and sys.stderr.isatty():
        found = list(found)
        total = len(found)
    return pipeline.run(_counted(found, summary)), total


def _counted(found: Iterable[Path | Failure], summary: Summary) -> Iterator[Path | Failure]:
    for item in found:
        summary.found += 1
        yield item


def _watched(rows: Iterator[Row], total: int | None, output: str, quiet: bool) -> Iterable[Row]:
    from batch.progress import with_bar, with_lines

    if quiet or (output == STDIO and sys.stdout.isatty()):
        return rows
    return with_lines(rows, sys.stderr) if total is None else with_bar(rows, total, sys.stderr)


def _introduction(pipeline: Pipeline) -> str:
    spec = pipeline.model.spec
    note = f" ({pipeline.provider_note})" if pipeline.provider_note else ""
    return (
        f"model {spec.name} {spec.version} on {pipeline.provider.value}{note}, "
        f"{pipeline.workers} workers"
    )


class _Count:
    """Counts what discovery leaves out."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, path: Path, why: str) -> None:
        self.count += 1
