"""The command against `fer`, the package that most people take for this, on one core each.

fer finds faces with OpenCV's Haar cascade and asks a small network of seven expressions. Its
start-up is not counted, the command's is.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.command import CommandError, label
from bench.figure import Figure
from bench.machine import on_cores, usable_cores
from bench.sets import PhotoSet

SCRIPT = Path(__file__).with_name("peer_fer.py")
# What is compared: the default, which looks at the whole photo too, and like for like, faces only.
OURS = {"batch-label": (), "batch-label -m happy-sad": ("-m", "happy-sad")}


@dataclass(frozen=True)
class Against:
    """A setting of the command: photos a second on one core, and how many times the peer's."""

    setting: str
    count: int
    rate: Figure
    times: Figure


@dataclass(frozen=True)
class Peer:
    """The peer's photos a second on one core, and how the command compares."""

    versions: dict[str, str]
    count: int
    with_face: int
    rate: Figure
    against: list[Against]


def measure_peer(python: Path, photos: PhotoSet, pictures: int, rounds: int) -> Peer:
    """Measure both in turn, on the first core.

    The peer labels each of the ``pictures`` different photos once, the command all of ``photos``,
    which are the same pictures some times over: its start-up counts, and must not count as if
    nobody ever labelled more.

    Raises:
        CommandError: the peer or the command failed.
    """
    theirs: list[dict[str, Any]] = []
    ours: dict[str, list[float]] = {name: [] for name in OURS}
    with on_cores(usable_cores()[:1]):
        for _ in range(rounds):
            theirs.append(_peer(python, photos.paths()[:pictures]))
            for name, options in OURS.items():
                run = label(photos.folders(), "--provider", "cpu", *options, expected=photos.count)
                ours[name].append(photos.count / run.seconds)
    rates = [one["rate"] for one in theirs]
    return Peer(
        versions=theirs[0]["versions"],
        count=theirs[0]["photos"],
        with_face=theirs[0]["with_face"],
        rate=Figure.of(rates),
        against=[
            Against(
                name,
                photos.count,
                Figure.of(found),
                Figure.of(own / other for own, other in zip(found, rates, strict=True)),
            )
            for name, found in ours.items()
        ],
    )


def _peer(python: Path, paths: Sequence[Path]) -> dict[str, Any]:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as listing:
        listing.write("".join(f"{path.resolve()}\n" for path in paths))
        listing.flush()
        command = [str(python), str(SCRIPT), listing.name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"fer failed: {done.stderr.strip().splitlines()[-1:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured
