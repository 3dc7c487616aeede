"""Speed and accuracy of the command and of other programs, on one core.

``fer`` and ``facex`` are packages that install with their weights; both find faces with OpenCV's
Haar cascade and classify seven expressions. ``plain.py`` is a minimal script with this project's
face model. Times include start-up, except for the two packages.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batch.models.shipped import find_model
from batch.records import Status
from bench.command import CommandError, label_photos, run_process
from bench.labelled import AnswerQuality, find_truths, judge_answers, unpack_photos
from bench.machine import list_usable_cores, pin_to_cores
from bench.reference import find_detector_file
from bench.rounds import MedianRange, run_in_turns
from bench.sets import PhotoSet

HERE = Path(__file__).parent
PACKAGES = ("fer", "facex")
PLAIN = "plain.py"
FACE_MODEL = "happy-sad"
# The default also looks at the whole photo; the face model alone is comparable with the others.
OUR_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "batch-label": (),
    f"batch-label -m {FACE_MODEL}": ("-m", FACE_MODEL),
}
ONE_WORKER = ("--provider", "cpu", "--workers", "1")


@dataclass(frozen=True)
class Peer:
    """The speed and accuracy of a program on one core.

    Attributes:
        name: the name of the program, with the version of a package.
        photos: the number of photos that were timed.
        rate: photos per second.
        times: the rate over that of the first program, within a round.
        judged: accuracy, by the name of the labelled photos.
    """

    name: str
    photos: int
    rate: MedianRange
    times: MedianRange
    judged: dict[str, AnswerQuality]


@dataclass(frozen=True)
class ProgramAnswers:
    """The answers of one run of a program.

    Attributes:
        rate: photos per second.
        labels: the label of each photo; empty if it has none.
        name: the name of the program, with the version of a package.
    """

    rate: float
    labels: dict[Path, str]
    name: str


def measure_peers(
    python: Path | None,
    photos: PhotoSet,
    pictures: int,
    rounds: int,
    labelled: Sequence[Path],
    most: int,
) -> list[Peer]:
    """Measure all programs in turn, on the first core.

    The packages label each of the ``pictures`` different photos once. The other programs label
    all of ``photos``, which repeat these pictures: their times include start-up, which would
    weigh too much in a short run.

    Args:
        python: a Python that has the packages; None to skip them.
        photos: the photos that are timed.
        pictures: how many of them are different.
        rounds: the number of timed rounds.
        labelled: folders or zip files of labelled photos, see ``bench.labelled``.
        most: the most photos of each of these to evaluate.

    Raises:
        CommandError: a program failed, or there are no labelled photos.
    """
    programs = _list_programs(python)
    with ExitStack() as folders, pin_to_cores(list_usable_cores()[:1]):
        truths = {
            source.name: find_truths(folders.enter_context(unpack_photos(source)), most)
            for source in labelled
        }
        for source in labelled:
            if not truths[source.name]:
                raise CommandError(f"{source} has no folder named happy or sad")
        every = photos.paths()
        sets = {name: every[:pictures] if name in PACKAGES else every for name in programs}

        def measure(name: str, _: int) -> ProgramAnswers:
            return programs[name](sets[name])

        found = run_in_turns({name: partial(measure, name) for name in programs}, rounds)
        judged = {
            name: {
                source: judge_answers(known, program(list(known)).labels)
                for source, known in truths.items()
            }
            for name, program in programs.items()
        }
    first = found[next(iter(programs))]
    return [
        Peer(
            name=results[0].name,
            photos=len(sets[name]),
            rate=MedianRange.of(one.rate for one in results),
            times=MedianRange.of(
                own.rate / other.rate for own, other in zip(results, first, strict=True)
            ),
            judged=judged[name],
        )
        for name, results in found.items()
    ]


def _list_programs(python: Path | None) -> dict[str, Callable[[Sequence[Path]], ProgramAnswers]]:
    packages = {name: partial(_ask_package, python, name) for name in PACKAGES} if python else {}
    ours = {name: partial(_ask_command, name, options) for name, options in OUR_PROGRAMS.items()}
    return {**packages, PLAIN: _ask_plain, **ours}


def _ask_package(python: Path, name: str, paths: Sequence[Path]) -> ProgramAnswers:
    with tempfile.TemporaryDirectory() as place:
        listing = _write_list(paths, Path(place))
        command = [str(python), str(HERE / "peer_programs.py"), name, str(listing)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandError(f"{name} failed: {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    labels = dict(zip(paths, found["answers"], strict=True))
    return ProgramAnswers(found["rate"], labels, f"{name} {found['versions'][name]}")


def _ask_plain(paths: Sequence[Path]) -> ProgramAnswers:
    with tempfile.TemporaryDirectory() as place:
        listing, output = _write_list(paths, Path(place)), Path(place) / "out.csv"
        models = find_detector_file(), find_model(FACE_MODEL)
        command = [sys.executable, HERE / PLAIN, listing, *models, output]
        seconds = run_process([*map(str, command)]).seconds
        with output.open(encoding="utf-8", newline="") as file:
            labels = {Path(row["path"]): row["label"] for row in csv.DictReader(file)}
    return ProgramAnswers(len(paths) / seconds, labels, PLAIN)


def _ask_command(name: str, options: Sequence[str], paths: Sequence[Path]) -> ProgramAnswers:
    with tempfile.TemporaryDirectory() as place:
        listing, report = _write_list(paths, Path(place)), Path(place) / "r.csv"
        run = label_photos([listing], *ONE_WORKER, *options, report=report, incomplete=True)
        with report.open(encoding="utf-8", newline="") as file:
            labels = {
                Path(row["path"]): row["label"] if row["status"] == Status.OK else ""
                for row in csv.DictReader(file)
            }
    if len(labels) != len(paths):
        raise CommandError(f"the report of {name} has {len(labels)} photos, not {len(paths)}")
    return ProgramAnswers(len(paths) / run.seconds, labels, name)


def _write_list(paths: Sequence[Path], folder: Path) -> Path:
    listing = folder / "photos.txt"
    listing.write_text("".join(f"{path.resolve()}\n" for path in paths), encoding="utf-8")
    return listing
