"""What the options that several commands share come to."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from batch.errors import UsageError
from batch.exclude import read_patterns
from batch.limits import parse_duration, utc_now
from batch.log import PROGRAM
from batch.models.shipped import resolve_models
from batch.options import FileLimits, Place, Provider, Search, parse_max_file_size, parse_max_pixels
from batch.path_text import printable

_DAYS = re.compile(r"([0-9]{1,6})d")


def place_of(provider: str, devices: tuple[int, ...], engine_cache: Path | None) -> Place:
    """Make of the options where models are to run.

    Raises:
        UsageError: they contradict each other, or TensorRT's engines have no place.
    """
    if devices and provider == Provider.CPU:
        raise UsageError(
            "--devices names GPUs, and --provider cpu uses none", "leave one of the two out"
        )
    if engine_cache is None and provider == Provider.TENSORRT:
        engine_cache = _user_cache() / PROGRAM / "tensorrt"
    return Place(Provider(provider), devices, engine_cache)


def file_limits_of(decode_timeout: str, max_pixels: str, max_file_size: str) -> FileLimits:
    """Make of the options what one file may cost.

    Raises:
        UsageError: one of them is no such limit.
    """
    return FileLimits(
        decode_timeout=parse_duration(decode_timeout, "--decode-timeout"),
        max_pixels=parse_max_pixels(max_pixels),
        max_file_size=parse_max_file_size(max_file_size),
    )


def search_of(
    *,
    recursive: bool,
    hidden: bool,
    follow_symlinks: bool,
    exclude: Sequence[str],
    exclude_from: Sequence[str],
    newer_than: str | None,
    raws: bool,
    archives: bool = False,
) -> Search:
    """Make of the options how folders are searched.

    Raises:
        UsageError: a pattern or time is wrong, or a file of patterns can't be read.
    """
    patterns = [pattern for file in exclude_from for pattern in read_patterns(file)]
    return Search(
        recursive=recursive,
        hidden=hidden,
        follow_symlinks=follow_symlinks,
        archives=archives,
        raws=raws,
        exclude=(*patterns, *exclude),
        newer_than=None if newer_than is None else parse_newer_than(newer_than),
    )


def parse_newer_than(text: str, now: datetime | None = None) -> datetime:
    """Read a local date, with a time or without, or an age, and give the moment.

    Raises:
        UsageError: it is neither.
    """
    now = now or utc_now()
    try:
        if days := _DAYS.fullmatch(text):
            return now - timedelta(days=int(days[1]))
        if is_age(text):
            return now - timedelta(seconds=parse_duration(text, "--newer-than"))
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, UsageError) as error:
        raise UsageError(
            f"--newer-than {printable(text)} is neither a date nor an age",
            "write a date, such as 2026-11-01 or 2026-11-01T18:00, or an age, such as 7d or 12h",
        ) from error


def is_age(text: str) -> bool:
    """Tell an age, such as ``7d``, from a date: it ends in its unit."""
    return text[-1:] in "dhms" and text != ""


def model_of(names: str) -> str:
    """Make of ``--model`` what ``Options.model`` takes, which knows no models of the user's own.

    Raises:
        UsageError: a name is unknown.
    """
    return resolve_models(names, own_models_folder())


def own_models_folder() -> Path | None:
    """Find the folder of the user's own models, if the user has a home."""
    try:
        folder = _user_folder("XDG_DATA_HOME", ".local/share", "own models have", "give a path")
    except UsageError:
        return None
    return folder / PROGRAM / "models"


def user_state() -> Path:
    """Find the user's folder for what is to last, but is of this machine.

    Raises:
        UsageError: this user has none.
    """
    remedy = "name a file with --state"
    return _user_folder("XDG_STATE_HOME", ".local/state", "the journal has", remedy)


def _user_cache() -> Path:
    """Find the user's folder for what can be made again."""
    remedy = "name a folder with --engine-cache"
    return _user_folder("XDG_CACHE_HOME", ".cache", "TensorRT's engines have", remedy)


def _user_folder(variable: str, usual: str, lack: str, remedy: str) -> Path:
    """Find a folder of the user's by the XDG Base Directory spec."""
    given = Path(os.environ.get(variable, ""))
    if given.is_absolute():  # by the spec, others are to be ignored
        return given
    try:
        return Path.home() / usual
    except RuntimeError as error:
        raise UsageError(f"{lack} no place, for this user has no home", remedy) from error
