"""Command-line options, in groups that commands combine.

Groups shared by several commands come first, then those of ``label`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from batch.limits import DEFAULT_MAX_GONE
from batch.log import LogFormat
from batch.options import DEFAULT_KEYWORD_ROOT, DEFAULT_MODEL, EngineKind, Provider, SidecarName

FILE = click.Path(path_type=Path, readable=False)

Command = Callable[..., None]
Decorator = Callable[[Command], Command]


class RealRange(click.FloatRange):
    """Range of numbers that rejects NaN, which passes the comparisons of ``FloatRange``."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Convert a text to a number in the range."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def _parse_devices(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...]:
    """Parse distinct device numbers separated by commas, such as ``0,1``."""
    if value is None:
        return ()
    words = value.split(",")
    if not all(word.isascii() and word.isdigit() for word in words):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0,1.")
    numbers = tuple(int(word) for word in words)
    if len(set(numbers)) < len(numbers):
        raise click.BadParameter(f"{value!r} names a device twice.")
    return numbers


def combine_options(*options: Decorator) -> Decorator:
    """Make one decorator that adds options in the given order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# The model, and the device that runs it.
device_options = combine_options(
    click.option(
        "-m",
        "--model",
        default=DEFAULT_MODEL,
        show_default=True,
        metavar="NAME|FILE",
        help="A shipped model, a model in ~/.local/share/batch-label/models, an .onnx file, or a "
        "pair FACE+PHOTO of a face model and a whole-photo model.",
    ),
    click.option(
        "--provider",
        type=click.Choice([provider.value for provider in Provider]),
        default=Provider.AUTO.value,
        show_default=True,
        help="Execution provider of the models. auto: CUDA if it works, else the CPU. cuda, "
        "tensorrt: no fallback.",
    ),
    click.option(
        "--devices",
        callback=_parse_devices,
        metavar="N,N,...",
        help="Numbers of the GPUs to use.  [default: 0]",
    ),
    click.option(
        "--engine-cache",
        type=FILE,
        metavar="DIR",
        help="Cache folder for TensorRT engines.  [default: ~/.cache/batch-label/tensorrt]",
    ),
)


# When a photo gets a label, and when the label is unsure.
answer_options = combine_options(
    click.option(
        "--min-confidence",
        type=RealRange(0, 1),
        metavar="P",
        help="Mark labels with a lower confidence as unsure.  [default: the model's threshold]",
    ),
    click.option(
        "--always-answer",
        is_flag=True,
        help="Give every photo its most likely label, even if it shows no person.",
    ),
)


# Which files are found.
search_options = combine_options(
    click.option("--recursive/--no-recursive", default=True, help="Search sub-folders (default)."),
    click.option("--hidden", is_flag=True, help="Include names that begin with a dot."),
    click.option("--follow-symlinks", is_flag=True, help="Follow symbolic links in folders."),
    click.option(
        "--raws",
        is_flag=True,
        help="Include camera raw files; their embedded previews are labelled.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Skip what matches a pattern in .gitignore syntax, such as raw/ or '*.png'; "
        "repeatable. '!@eaDir' includes a junk folder that is skipped by default.",
    ),
    click.option(
        "--exclude-from",
        multiple=True,
        metavar="FILE",
        help="Read exclude patterns from a file, one per line; repeatable.",
    ),
    click.option(
        "--newer-than",
        metavar="DATE|AGE",
        help="Skip files last modified before a date or longer ago than an age: 2026-11-01 or 7d.",
    ),
)


# Limits for a single file.
file_options = combine_options(
    click.option(
        "--decode-timeout",
        default="30s",
        show_default=True,
        metavar="DURATION",
        help="Fail a photo that takes longer.",
    ),
    click.option(
        "--max-pixels",
        default="100M",
        show_default=True,
        metavar="N",
        help="Fail a photo that needs more pixels than this to be decoded.",
    ),
    click.option(
        "--max-file-size",
        default="512M",
        show_default=True,
        metavar="SIZE",
        help="Fail a file of more bytes than this; K, M and G are powers of 1024.",
    ),
)


# The log on standard error.
log_options = combine_options(
    click.option(
        "--log-format",
        type=click.Choice([form.value for form in LogFormat]),
        default=LogFormat.TEXT.value,
        show_default=True,
        help="Format of the log on standard error.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Log warnings and errors only."),
)


# Where the photos of a report are.
photos_option = click.option(
    "--photos",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    metavar="DIR",
    help="Base folder of the relative paths in the report.  [default: the current folder]",
)


# What is written into XMP sidecars.
sidecar_options = combine_options(
    click.option(
        "--xmp",
        is_flag=True,
        help="Write labels as keywords into XMP sidecars, for photo managers.",
    ),
    click.option(
        "--sidecar-name",
        type=click.Choice([name.value for name in SidecarName]),
        default=SidecarName.FULL.value,
        show_default=True,
        help="Name of a sidecar: photo.jpg.xmp (full) or photo.xmp (stem).",
    ),
    click.option(
        "--keyword-root",
        default=DEFAULT_KEYWORD_ROOT,
        show_default=True,
        metavar="KEYWORD",
        help="Keyword above the labels; | separates levels.",
    ),
    click.option("--faces", is_flag=True, help="Also mark faces as regions in sidecars."),
)


# The model, and whether a row is about a photo or a face.
model_options = combine_options(
    device_options,
    click.option(
        "--per-face",
        is_flag=True,
        help="Write one row per face, not one per photo, and search all of a photo for small "
        "faces.",
    ),
    answer_options,
)


# Which of the files found are labelled.
choice_options = combine_options(
    click.option("--archives", is_flag=True, help="Include .zip and .tar files in folders."),
    click.option(
        "--salvage",
        is_flag=True,
        help="Label the readable part of a truncated photo, and note it in the column error.",
    ),
    click.option(
        "--with-location",
        is_flag=True,
        help="Add the columns latitude and longitude, from the photos' EXIF tags.",
    ),
    click.option(
        "--dry-run",
        is_flag=True,
        help="List the files that are found, labelled before or not, and exit.",
    ),
    click.option(
        "--shard",
        metavar="N/TOTAL",
        help="Label one shard of the files, such as 3/16; `batch-label merge` joins the reports.",
    ),
)


# What a run reuses from earlier runs.
journal_options = combine_options(
    click.option(
        "--state",
        type=FILE,
        metavar="FILE",
        help="The journal, which remembers labelled files.  [default: a hidden file beside the "
        "report; for a report at a URL, in ~/.local/state/batch-label]",
    ),
    click.option(
        "--fresh",
        is_flag=True,
        help="Ignore earlier results and label everything; if interrupted, the same command "
        "resumes.",
    ),
    click.option(
        "--verify-hash",
        is_flag=True,
        help="Detect changed files by their content, even if size and time are the same.",
    ),
    click.option(
        "--ignore-inode",
        is_flag=True,
        help="Do not read a file again only because its ctime or inode changed.",
    ),
    click.option(
        "--keep-missing",
        is_flag=True,
        help="Keep the rows of photos that no longer exist, marked as missing.",
    ),
    click.option(
        "--accept-failures",
        is_flag=True,
        help="Accept the files that fail in this run: until they change, they do not affect the "
        "exit code or --max-failures.",
    ),
    click.option(
        "--forget-reviews",
        is_flag=True,
        help="Report the models' answers again instead of people's, and rename the reviews file.",
    ),
)


# Which machines label.
cluster_options = combine_options(
    click.option(
        "--engine",
        type=click.Choice([kind.value for kind in EngineKind]),
        default=EngineKind.LOCAL.value,
        show_default=True,
        help="Label on this machine or on a Ray cluster (extra: ray).",
    ),
    click.option(
        "--ray-address",
        envvar="RAY_ADDRESS",
        metavar="ADDRESS",
        help="Address of the Ray cluster.  [default: RAY_ADDRESS, else a cluster started for the "
        "run]",
    ),
    click.option(
        "--actors",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="Actors on the Ray cluster, each with --workers workers (1 by default).  [default: "
        "as many as fit]",
    ),
    click.option(
        "--parts",
        metavar="DIR|URL",
        help="Folder for the results of actors.  [default: hidden beside the report]",
    ),
)


# When a run stops, fails or waits, and what it reports to a monitor.
schedule_options = combine_options(
    click.option(
        "--deadline",
        metavar="HH:MM",
        help="Start no photo after this time of day; the next run continues.",
    ),
    click.option(
        "--time-limit",
        metavar="DURATION",
        help="Start no photo after this much time: 2h30m, 90m, 45s.",
    ),
    click.option(
        "--max-failures",
        metavar="N|P%",
        help="Fail without publishing a report if more files than this fail.",
    ),
    click.option(
        "--max-gone",
        default=DEFAULT_MAX_GONE,
        show_default=True,
        metavar="N|P%",
        help="Fail without publishing a report if more known photos than this are gone; 0 turns "
        "off all guards against an unmounted disk.",
    ),
    click.option(
        "--require-file",
        multiple=True,
        metavar="NAME",
        help="Refuse to run unless this marker file exists: in each folder of PHOTOS, or at an "
        "absolute path; repeatable.",
    ),
    click.option("--wait", is_flag=True, help="Wait until no other run uses the report."),
    click.option(
        "--keep",
        type=click.IntRange(1, 10_000),
        metavar="N",
        help="Keep the last N versions of the report, dated, in the folder REPORT.history.",
    ),
    click.option(
        "--metrics-file",
        type=FILE,
        metavar="FILE.prom",
        help="Write metrics for the textfile collector of Prometheus.",
    ),
    click.option(
        "--fail-on-drift",
        is_flag=True,
        help="Fail, after publishing the report, if the answers differ much from earlier runs.",
    ),
    click.option(
        "--accept-drift",
        is_flag=True,
        help="Compare later runs with these answers, and do not warn about drift.",
    ),
)
