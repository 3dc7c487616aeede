"""Options that several commands share, in groups."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from batch.limits import DEFAULT_MAX_GONE
from batch.log import LogFormat
from batch.options import DEFAULT_MODEL, EngineKind, Provider

FILE = click.Path(path_type=Path, readable=False)

Command = Callable[..., None]
Decorator = Callable[[Command], Command]


class RealRange(click.FloatRange):
    """A range of numbers that does not let NaN through, as every comparison with it is false."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number.", param, ctx)
        return number


def _parse_devices(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...]:
    """Read numbers of devices such as ``0,1``."""
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
    """Make a decorator that adds options in the order in which they are named."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# What is asked, and where it runs.
device_options = combine_options(
    click.option(
        "-m",
        "--model",
        default=DEFAULT_MODEL,
        show_default=True,
        metavar="NAME|FILE",
        help="The name of a shipped model or of one in ~/.local/share/batch-label/models, the path "
        "of an .onnx file, or a face model and a whole-photo model as FACE+PHOTO.",
    ),
    click.option(
        "--provider",
        type=click.Choice([provider.value for provider in Provider]),
        default=Provider.AUTO.value,
        show_default=True,
        help="What runs the model. auto: CUDA where it works, else the CPU. cuda, tensorrt: that "
        "or nothing.",
    ),
    click.option(
        "--devices",
        callback=_parse_devices,
        metavar="N,N,...",
        help="The GPUs to use, by their numbers.  [default: 0]",
    ),
    click.option(
        "--engine-cache",
        type=FILE,
        metavar="DIR",
        help="Where TensorRT's engines are kept.  [default: ~/.cache/batch-label/tensorrt]",
    ),
)


# When a label is given, and when it is unsure.
answer_options = combine_options(
    click.option(
        "--min-confidence",
        type=RealRange(0, 1),
        metavar="P",
        help="Labels less likely than this (0 to 1) are unsure.  [default: what the model says]",
    ),
    click.option(
        "--always-answer",
        is_flag=True,
        help="Give every photo its likeliest label, even if the photo shows no person.",
    ),
)


# What is looked at.
search_options = combine_options(
    click.option(
        "--recursive/--no-recursive", default=True, help="Look into sub-folders (default)."
    ),
    click.option("--hidden", is_flag=True, help="Take names that begin with a dot as well."),
    click.option(
        "--follow-symlinks", is_flag=True, help="Follow symbolic links inside the folders."
    ),
    click.option(
        "--raws",
        is_flag=True,
        help="Take camera raws as well, by the previews inside them.",
    ),
    click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        help="Skip what matches, with the syntax of .gitignore, such as raw/ or '*.png'; may be "
        "given more than once. !@eaDir takes a junk folder that is skipped by default.",
    ),
    click.option(
        "--exclude-from",
        multiple=True,
        metavar="FILE",
        help="Read such patterns from a file, one a line; may be given more than once.",
    ),
    click.option(
        "--newer-than",
        metavar="DATE|AGE",
        help="Skip files last changed before this: 2026-11-01 or 7d.",
    ),
)


# What one file may cost.
file_options = combine_options(
    click.option(
        "--decode-timeout",
        default="30s",
        show_default=True,
        metavar="DURATION",
        help="Give up a photo that takes longer than this.",
    ),
    click.option(
        "--max-pixels",
        default="100M",
        show_default=True,
        metavar="N",
        help="Refuse photos that take more pixels than this to be decoded.",
    ),
    click.option(
        "--max-file-size",
        default="512M",
        show_default=True,
        metavar="SIZE",
        help="Refuse files of more bytes than this: K, M and G are powers of 1024.",
    ),
)


# How a command talks.
log_options = combine_options(
    click.option(
        "--log-format",
        type=click.Choice([form.value for form in LogFormat]),
        default=LogFormat.TEXT.value,
        show_default=True,
        help="What is written on standard error: lines for people or JSON.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong."),
)


# == The options of ``label`` alone, in groups.

# The model, and what it is asked.
model_options = combine_options(
    device_options,
    click.option(
        "--per-face",
        is_flag=True,
        help="Write one row a face, not one row a photo, and look for small faces everywhere.",
    ),
    answer_options,
)


# What of it is labelled.
choice_options = combine_options(
    click.option(
        "--archives", is_flag=True, help="Look into the .zip and .tar files in folders as well."
    ),
    click.option(
        "--salvage",
        is_flag=True,
        help="Label what is there of truncated photos, and say so in the column error.",
    ),
    click.option("--dry-run", is_flag=True, help="Only list the files that would be labelled."),
    click.option(
        "--shard",
        metavar="N/TOTAL",
        help="Label a part of the files alone, such as 3/16, for `batch-label merge`.",
    ),
)


# What becomes of earlier runs' work.
memory_options = combine_options(
    click.option(
        "--state",
        type=FILE,
        metavar="FILE",
        help="The journal of what is done.  [default: hidden beside the report; of a URL in "
        "~/.local/state/batch-label]",
    ),
    click.option(
        "--fresh",
        is_flag=True,
        help="Forget the journal and label everything; cut off, it goes on.",
    ),
    click.option(
        "--verify-hash",
        is_flag=True,
        help="Read every file to see whether it has changed, whatever size and time say.",
    ),
    click.option(
        "--ignore-inode",
        is_flag=True,
        help="Do not read a file again only because its ctime or inode changed.",
    ),
    click.option(
        "--keep-missing",
        is_flag=True,
        help="Keep the rows of photos that are gone, marked as missing.",
    ),
    click.option(
        "--accept-failures",
        is_flag=True,
        help="Accept the files that fail in this run: until they change, they count neither for "
        "the exit code nor for --max-failures.",
    ),
)


# Which machines do the work.
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
        help="The Ray cluster.  [default: RAY_ADDRESS, else one is started for the run]",
    ),
    click.option(
        "--actors",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="Actors on the Ray cluster, of --workers each (1 unless given).  [default: as many "
        "as it has room for]",
    ),
    click.option(
        "--parts",
        metavar="DIR|URL",
        help="Where actors leave what they have done.  [default: hidden beside the report]",
    ),
)


# What a scheduler wants to say.
schedule_options = combine_options(
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
        "--max-gone",
        default=DEFAULT_MAX_GONE,
        show_default=True,
        metavar="N|P%",
        help="Fail, and publish nothing, if more known photos than this are gone; 0 switches off "
        "all guards against a disk that is away.",
    ),
    click.option("--wait", is_flag=True, help="Wait while another run is at work on the report."),
    click.option(
        "--metrics-file",
        type=FILE,
        metavar="FILE.prom",
        help="Write the run's figures for Prometheus' textfile collector.",
    ),
    click.option(
        "--fail-on-drift",
        is_flag=True,
        help="Fail, once the report is published, if the answers differ much from earlier runs'.",
    ),
    click.option(
        "--accept-drift",
        is_flag=True,
        help="Take the new answers for the usual ones, and do not warn of how they differ.",
    ),
)
