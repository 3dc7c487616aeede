"""What the options of ``label`` come to: a job."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from batch.commands.settings import (
    file_limits_of,
    is_age,
    model_of,
    place_of,
    search_of,
    user_state,
)
from batch.errors import UsageError
from batch.limits import (
    Limits,
    parse_deadline,
    parse_max_failures,
    parse_max_gone,
    parse_time_limit,
)
from batch.location import hide_secrets, location_of
from batch.log import PROGRAM
from batch.options import Cluster, EngineKind, Job, Memory, Options
from batch.shard import parse_shard


def job_of(
    photos: tuple[str, ...],
    output: str,
    per_face: bool,
    wait: bool,
    metrics_file: Path | None,
    fail_on_drift: bool,
    accept_drift: bool,
    **given: Any,
) -> Job:
    """Make a job of the options, by their names.

    Raises:
        UsageError: one of them has no such value, or they contradict each other.
    """
    names = ("state", "fresh", "verify_hash", "ignore_inode", "keep_missing", "accept_failures")
    memory = Memory(**{name: given.pop(name) for name in names})
    limits = ("deadline", "time_limit", "max_failures", "max_gone")
    places = ("engine", "ray_address", "actors", "parts")
    cluster = _cluster(**{name: given.pop(name) for name in places})
    return Job(
        photos=tuple(map(hide_secrets, photos)),
        output=hide_secrets(output),
        per_face=per_face,
        memory=memory,
        limits=_limits(**{name: given.pop(name) for name in limits}),
        options=_options(per_face=per_face, **given),
        cluster=cluster,
        wait=wait,
        metrics_file=metrics_file,
        fail_on_drift=fail_on_drift,
        accept_drift=accept_drift,
    )


def _limits(
    deadline: str | None, time_limit: str | None, max_failures: str | None, max_gone: str
) -> Limits:
    return Limits(
        deadline=None if deadline is None else parse_deadline(deadline),
        time_limit=None if time_limit is None else parse_time_limit(time_limit),
        max_failures=None if max_failures is None else parse_max_failures(max_failures),
        max_gone=parse_max_gone(max_gone),
    )


def _cluster(
    engine: str, ray_address: str | None, actors: int | None, parts: str | None
) -> Cluster:
    if engine == EngineKind.RAY:
        return Cluster(EngineKind.RAY, ray_address, actors, parts and hide_secrets(parts))
    if actors is not None or parts is not None:
        name = "--parts" if actors is None else "--actors"
        raise UsageError(f"{name} is for clusters alone", "leave it out, or add --engine ray")
    return Cluster()


def _options(
    model: str,
    provider: str,
    devices: tuple[int, ...],
    engine_cache: Path | None,
    min_confidence: float | None,
    always_answer: bool,
    per_face: bool,
    salvage: bool,
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
            "--newer-than with an age means another time to each shard",
            "give a date, or make a manifest with it and label that",
        )
    place = place_of(provider, devices, engine_cache)
    return Options(
        model=model_of(model),
        provider=place.provider,
        devices=place.devices,
        engine_cache=place.engine_cache,
        batch_size=batch_size,
        workers=workers,
        min_confidence=min_confidence,
        always_answer=always_answer,
        per_face=per_face,
        salvage=salvage,
        search=search_of(**search),
        shard=None if shard is None else parse_shard(shard),
        file_limits=file_limits_of(decode_timeout, max_pixels, max_file_size),
    )


def with_journal(job: Job) -> Job:
    """Give a report at a URL a journal in the user's folder, unless ``--state`` names another.

    Raises:
        UsageError: this user has no such folder, or what is asked for needs a journal.
        OutputError: it can't be made.
    """
    from batch.journal.path import journal_path, url_journal_path

    if job.memory.state is not None or isinstance(location_of(job.output), Path):
        if job.memory.accept_failures and journal_path(job) is None:
            raise UsageError(
                "--accept-failures needs a journal, which a report on standard output has not",
                "name one with --state, or a file with -o",
            )
        return job
    from batch.files.publish import writing

    folder = user_state() / PROGRAM
    with writing(f"folder {folder}", "name a journal with --state"):
        # With the rights that the XDG Base Directory spec demands.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    state = url_journal_path(job.output, folder)
    return replace(job, memory=replace(job.memory, state=state))
