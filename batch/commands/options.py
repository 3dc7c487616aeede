"""The options of the commands that run models, in groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from batch.log import LogFormat
from batch.options import DEFAULT_MODEL, EngineKind, Provider

FILE = click.Path(path_type=Path)

Command = Callable[..., None]
Decorator = Callable[[Command], Command]


def _devices(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
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


def _group(*options: Decorator) -> Decorator:
    """Make a decorator that adds options in the order in which they are named."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# What is asked, and where it runs.
place_options = _group(
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
        help="What runs the model. auto: CUDA where it works, else the CPU. cuda, tensorrt: that "
        "or nothing.",
    ),
    click.option(
        "--devices",
        callback=_devices,
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


confidence_option = click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    metavar="P",
    help="Answers less likely than this (0 to 1) are unsure.  [default: what the model says]",
)


model_options = _group(
    place_options,
    click.option(
        "--per-face",
        is_flag=True,
        help="Write one row a face, not one row a photo, and look for small faces everywhere.",
    ),
    confidence_option,
)


# What is looked at.
search_options = _group(
    click.option(
        "--recursive/--no-recursive", default=True, help="Look into sub-folders (default)."
    ),
    click.option("--hidden", is_flag=True, help="Take names that begin with a dot as well."),
    click.option(
        "--follow-symlinks", is_flag=True, help="Follow symbolic links inside the folders."
    ),
)


# What of it is labelled.
choice_options = _group(
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


# What one file may cost.
file_options = _group(
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


# What becomes of earlier runs' work.
memory_options = _group(
    click.option(
        "--state",
        type=FILE,
        metavar="FILE",
        help="The journal of what is done.  [default: hidden beside the report; of a URL in "
        "~/.local/state/batch-label]",
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


# Which machines do the work.
cluster_options = _group(
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
schedule_options = _group(
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
        help="Fail, once the report is published, if the answers differ much from the last run's.",
    ),
)


# How a command talks.
log_options = _group(
    click.option(
        "--log-format",
        type=click.Choice([form.value for form in LogFormat]),
        default=LogFormat.TEXT.value,
        show_default=True,
        help="What is written on standard error: lines for people or JSON.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong."),
)
