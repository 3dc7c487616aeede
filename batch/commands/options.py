"""Options that several commands share, in groups."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from batch.log import LogFormat
from batch.options import DEFAULT_MODEL, Provider

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


def group(*options: Decorator) -> Decorator:
    """Make a decorator that adds options in the order in which they are named."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


# What is asked, and where it runs.
place_options = group(
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


# When a label is given, and when it is unsure.
answer_options = group(
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
search_options = group(
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
file_options = group(
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
log_options = group(
    click.option(
        "--log-format",
        type=click.Choice([form.value for form in LogFormat]),
        default=LogFormat.TEXT.value,
        show_default=True,
        help="What is written on standard error: lines for people or JSON.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="Say nothing unless something is wrong."),
)
