"""What the options that several commands share come to."""

from __future__ import annotations

import os
from pathlib import Path

from batch.errors import UsageError
from batch.file_limits import FileLimits, parse_max_file_size, parse_max_pixels
from batch.limits import parse_duration
from batch.log import PROGRAM
from batch.options import Place, Provider


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


def _user_cache() -> Path:
    """Find the user's folder for what can be made again, by the XDG Base Directory spec."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():  # by the spec, others are to be ignored
        return given
    try:
        return Path.home() / ".cache"
    except RuntimeError as error:
        raise UsageError(
            "TensorRT's engines have no place, for this user has no home",
            "name a folder with --engine-cache",
        ) from error
