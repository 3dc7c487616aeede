"""Builds option records from the values of command-line options, and exits with errors.

The user's folders are those of the XDG Base Directory spec:
https://specifications.freedesktop.org/basedir-spec/latest/
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import click

from batch.errors import BatchLabelError, OutputClosed, UsageError
from batch.exclude import read_patterns
from batch.limits import (
    Limits,
    parse_count,
    parse_deadline,
    parse_duration,
    utc_now,
)
from batch.location import Url, hide_secrets, parse_location
from batch.log import PROGRAM, Event, Level, Log, escape_line
from batch.models.shipped import (
    MODELS_VARIABLE,
    SearchPath,
    list_hidden_models,
    resolve_models,
)
from batch.options import (
    ClusterOptions,
    Device,
    EngineKind,
    FileLimits,
    Job,
    JournalOptions,
    Options,
    Provider,
    Search,
    SidecarName,
    SidecarOptions,
    parse_max_file_size,
    parse_max_pixels,
)
from batch.path_text import path_text, printable_text
from batch.shard import parse_shard

_DAYS = re.compile(r"([0-9]{1,6})d")


def build_device(provider: str, devices: tuple[int, ...], engine_cache: Path | None) -> Device:
    """Build the record of the device that runs models.

    Raises:
        UsageError: the options contradict each other, or there is no cache folder for TensorRT.
    """
    if devices and provider == Provider.CPU:
        raise UsageError(
            "--devices names GPUs, but --provider cpu uses none", "omit one of the two"
        )
    if engine_cache is None and provider == Provider.TENSORRT:
        engine_cache = _find_cache_folder() / PROGRAM / "tensorrt"
    return Device(Provider(provider), devices, engine_cache)


def build_file_limits(decode_timeout: str, max_pixels: str, max_file_size: str) -> FileLimits:
    """Build the limits for a single file.

    Raises:
        UsageError: a value is not a valid limit.
    """
    return FileLimits(
        decode_timeout=parse_duration(decode_timeout, "--decode-timeout"),
        max_pixels=parse_max_pixels(max_pixels),
        max_file_size=parse_max_file_size(max_file_size),
    )


def build_search_options(
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
    """Build the record of how folders are searched.

    Raises:
        UsageError: a pattern or time is invalid, or a file of patterns can't be read.
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
    """Parse a local date, with or without a time, or an age before ``now``.

    Returns:
        A datetime with a time zone.

    Raises:
        UsageError: the text is neither a date nor an age.
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
            f"--newer-than {printable_text(text)} is neither a date nor an age",
            "write a date, such as 2026-11-01 or 2026-11-01T18:00, or an age, such as 7d or 12h",
        ) from error


def is_age(text: str) -> bool:
    """Check whether a text is an age, such as ``7d``: unlike a date, it ends in a unit."""
    return text[-1:] in "dhms" and text != ""


def parse_model_names(names: str) -> str:
    """Resolve names of the user's own models in ``--model`` to paths, for ``Options.model``.

    Raises:
        UsageError: a name is unknown, or a folder of ``BATCH_LABEL_MODELS`` can't be read.
    """
    return resolve_models(names, find_model_search_path())


def describe_hidden_models(names: str) -> list[str]:
    """Describe the files that a name in ``--model`` also fits, but does not mean."""
    return [
        f"the model {printable_text(hidden.name)} is {path_text(hidden.hidden_by)}; "
        f"{path_text(hidden.path)} has the same name and is not used"
        for hidden in list_hidden_models(names, find_model_search_path())
        if hidden.hidden_by
    ]


def warn_of_hidden_models(names: str) -> None:
    """Print ``describe_hidden_models`` to standard error."""
    for line in describe_hidden_models(names):
        click.echo(escape_line(f"{PROGRAM}: warning: {line}"), err=True)


def find_model_search_path() -> SearchPath:
    """Find the folders of the user's own models: those of ``BATCH_LABEL_MODELS``, then the default.

    Folders in the variable are separated as in ``PATH``; empty ones are ignored.
    """
    named = os.environ.get(MODELS_VARIABLE, "").split(os.pathsep)
    return SearchPath(tuple(Path(folder) for folder in named if folder), find_models_folder())


def find_models_folder() -> Path | None:
    """Find the default folder of the user's own models; None if the user has no home folder."""
    try:
        folder = find_user_folder(
            "XDG_DATA_HOME", ".local/share", "a model of your own", "give a path"
        )
    except UsageError:
        return None
    return folder / PROGRAM / "models"


def find_state_folder() -> Path:
    """Find the user's folder for persistent state of this machine.

    Raises:
        UsageError: the user has no home folder.
    """
    remedy = "name a file with --state"
    return find_user_folder("XDG_STATE_HOME", ".local/state", "the journal", remedy)


def _find_cache_folder() -> Path:
    remedy = "name a folder with --engine-cache"
    return find_user_folder("XDG_CACHE_HOME", ".cache", "the cache of TensorRT", remedy)


def find_user_folder(variable: str, default: str, what: str, remedy: str) -> Path:
    """Find a folder named by an XDG variable, by default under the user's home folder."""
    given = Path(os.environ.get(variable, ""))
    if given.is_absolute():  # the spec ignores relative paths
        return given
    try:
        return Path.home() / default
    except RuntimeError as error:
        raise UsageError(f"{what} needs a home folder, which this user lacks", remedy) from error


def build_job(
    photos: tuple[str, ...],
    output: str,
    per_face: bool,
    wait: bool,
    metrics_file: Path | None,
    fail_on_drift: bool,
    accept_drift: bool,
    xmp: bool,
    sidecar_name: str,
    keyword_root: str,
    faces: bool,
    forget_reviews: bool,
    keep: int | None,
    require_file: tuple[str, ...],
    **given: Any,
) -> Job:
    """Build the job of ``label`` from its options.

    Raises:
        UsageError: a value is invalid, or options contradict each other.
    """

    def take(group: type[JournalOptions | Limits | ClusterOptions]) -> dict[str, Any]:
        return {option.name: given.pop(option.name) for option in fields(group)}

    return Job(
        photos=tuple(map(hide_secrets, photos)),
        output=hide_secrets(output),
        per_face=per_face,
        journal=JournalOptions(**take(JournalOptions)),
        cluster=_build_cluster_options(**take(ClusterOptions)),
        limits=_build_limits(**take(Limits)),
        options=_build_options(per_face=per_face, **given),
        wait=wait,
        metrics_file=metrics_file,
        fail_on_drift=fail_on_drift,
        accept_drift=accept_drift,
        xmp=xmp,
        sidecars=build_sidecar_options(xmp, sidecar_name, keyword_root, faces),
        reviews=find_url_reviews(output),
        forget_reviews=forget_reviews,
        keep=keep if keep is None else _check_keep(output, keep),
        require_file=require_file,
    )


def _check_keep(output: str, number: int) -> int:
    from batch.files.publish import is_streamed

    if isinstance(parse_location(output), Url):
        raise UsageError(
            "--keep applies to reports on a disk, not at a URL",
            "omit it, and turn on the versioning of the store",
        )
    if is_streamed(output):
        raise UsageError(
            "--keep needs a report file or dataset, not standard output, a pipe or a device",
            "omit it, or name a report with -o",
        )
    return number


def find_url_reviews(report: str) -> Path | None:
    """Find the reviews file of a report at a URL, in the user's state folder.

    Returns:
        The path; None if the report is not at a URL, or the user has no home folder.
    """
    from batch.reviewing.reviews_file import find_url_reviews_path

    location = parse_location(report)
    if not isinstance(location, Url):
        return None
    try:
        return find_url_reviews_path(location.text, find_state_folder() / PROGRAM)
    except UsageError:
        return None


def _build_limits(
    deadline: str | None, time_limit: str | None, max_failures: str | None, max_gone: str
) -> Limits:
    return Limits(
        deadline=None if deadline is None else parse_deadline(deadline),
        time_limit=None if time_limit is None else parse_duration(time_limit, "--time-limit"),
        max_failures=None if max_failures is None else parse_count(max_failures, "--max-failures"),
        max_gone=parse_count(max_gone, "--max-gone"),
    )


def _build_cluster_options(
    engine: str, ray_address: str | None, actors: int | None, parts: str | None
) -> ClusterOptions:
    if engine == EngineKind.RAY:
        return ClusterOptions(EngineKind.RAY, ray_address, actors, parts and hide_secrets(parts))
    if actors is not None or parts is not None:
        name = "--parts" if actors is None else "--actors"
        raise UsageError(f"{name} applies to clusters only", "omit it, or add --engine ray")
    return ClusterOptions()


def _build_options(
    model: str,
    provider: str,
    devices: tuple[int, ...],
    engine_cache: Path | None,
    min_confidence: float | None,
    always_answer: bool,
    per_face: bool,
    salvage: bool,
    with_location: bool,
    shard: str | None,
    batch_size: int,
    workers: int | None,
    decode_timeout: str,
    max_pixels: str,
    max_file_size: str,
    **search: Any,
) -> Options:
    if shard is not None and search["newer_than"] and is_age(search["newer_than"]):
        raise UsageError(
            "--newer-than with an age means a different time in each shard",
            "give a date, or label a manifest made with the age",
        )
    device = build_device(provider, devices, engine_cache)
    return Options(
        model=parse_model_names(model),
        provider=device.provider,
        devices=device.devices,
        engine_cache=device.engine_cache,
        batch_size=batch_size,
        workers=workers,
        min_confidence=min_confidence,
        always_answer=always_answer,
        per_face=per_face,
        salvage=salvage,
        with_location=with_location,
        search=build_search_options(**search),
        shard=None if shard is None else parse_shard(shard),
        file_limits=build_file_limits(decode_timeout, max_pixels, max_file_size),
    )


def build_sidecar_options(
    xmp: bool, sidecar_name: str, keyword_root: str, faces: bool
) -> SidecarOptions:
    """Build the record of how sidecars are written.

    Raises:
        UsageError: an option is given without ``--xmp``.
    """
    options = SidecarOptions(SidecarName(sidecar_name), keyword_root, faces)
    if not xmp and options != SidecarOptions():
        raise UsageError(
            "--sidecar-name, --keyword-root and --faces are about sidecars", "add --xmp"
        )
    return options


def add_default_journal(job: Job) -> Job:
    """Add a journal in the user's state folder to a report at a URL, unless ``--state`` is given.

    Raises:
        UsageError: the user has no home folder, or an option needs a journal and there is none.
        OutputError: the folder can't be created.
    """
    from batch.journal.path import find_journal_path, find_url_journal_path

    if job.journal.state is not None or isinstance(parse_location(job.output), Path):
        if job.journal.accept_failures and find_journal_path(job) is None:
            raise UsageError(
                "--accept-failures needs a journal, but a report on standard output has none",
                "name a journal with --state, or a report file with -o",
            )
        return job
    from batch.os_errors import translate_write_errors

    folder = find_state_folder() / PROGRAM
    with translate_write_errors(f"folder {folder}", "name a journal with --state"):
        # The XDG Base Directory spec requires this mode.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = find_url_journal_path(job.output, folder)
    return replace(job, journal=replace(job.journal, state=state))


def announce_wait() -> None:
    """Say on stderr that the command waits for another process."""
    click.echo(f"{PROGRAM}: waiting for another process to end", err=True)


def exit_with_error(error: BatchLabelError, exit_code: int | None = None) -> NoReturn:
    """Print an error and exit with its exit code, unless another one is given."""
    if not isinstance(error, OutputClosed):
        click.echo(escape_line(f"{PROGRAM}: {error}"), err=True)
    sys.exit(error.exit_code if exit_code is None else exit_code)


def exit_with_logged_error(error: BatchLabelError, log: Log) -> NoReturn:
    """Log an error and exit with its exit code."""
    if not isinstance(error, OutputClosed):
        log(Event.ERROR, str(error), Level.ERROR, exit_code=error.exit_code)
    sys.exit(error.exit_code)
