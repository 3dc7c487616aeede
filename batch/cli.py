"""The command line: options in, exit codes out; the one module that prints."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batch.default_command import DEFAULT_COMMAND, DefaultGroup
from batch.discover import Search
from batch.errors import BatchLabelError, ExitCode
from batch.options import DEFAULT_BATCH_SIZE, DEFAULT_MODEL, Options, Provider

# What a run needs is imported where it starts, so that --help is there at once.
if TYPE_CHECKING:
    from batch.progress import Watch

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
    help="A shipped model's name, the path of an .onnx file, or a face model and a whole-photo "
    "model as FACE+PHOTO.",
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
    from batch.summary import Summary

    summary = Summary()
    left_out = summary.leave_out
    for found in discover(photos, options.search, listing=sys.stdin.buffer, left_out=left_out):
        summary.found += 1
        click.echo(path_text(found.path if isinstance(found, Failure) else found))
    _say(f"{summary.found} files would be labelled, {summary.left_out} left out")


def _label(
    photos: tuple[str, ...], options: Options, output: str, per_face: bool, quiet: bool
) -> ExitCode:
    from batch.run import run

    summary = run(
        photos,
        options,
        output,
        per_face,
        listing=sys.stdin.buffer,
        stdout=sys.stdout.buffer,
        say=_say_nothing if quiet else _say,
        watch=_watch(output, quiet),
    )
    if not quiet or summary.exit_code is not ExitCode.OK:
        _say(summary.line())
    return summary.exit_code


def _watch(output: str, quiet: bool) -> Watch:
    from batch.progress import Bar, Lines, Nothing

    if quiet or (output == STDIO and sys.stdout.isatty()):
        return Nothing()
    return Bar(sys.stderr) if sys.stderr.isatty() else Lines(sys.stderr)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _say_nothing(line: str) -> None: ...
