"""Scenarios for fault injection: commands, and the files that exist before they start."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batch.errors import EXIT_MEANINGS, ExitCode
from tests.support.runs import BASE_ARGUMENTS, JOURNAL, REPORT, RunFolder, make_photos

PHOTOS = 8  # per scenario, so that a run takes half a second
EARLIER = b"an earlier report\n"
# Placeholder for the URL of the bucket.
BUCKET = "{bucket}"
REPORT_URL = f"{BUCKET}/{REPORT}"

Arrange = Callable[[RunFolder], None]

# Documented exit codes that an error of the system may cause.
LABELLING = frozenset(map(int, EXIT_MEANINGS)) - {
    *(ExitCode.USAGE, ExitCode.TIME_IS_UP, ExitCode.LOCKED),
    *(ExitCode.HUNG_UP, ExitCode.INTERRUPTED, ExitCode.TERMINATED),
}
# A report that can't be read back is a usage error.
READING = LABELLING | {ExitCode.USAGE}


@dataclass(frozen=True)
class Scenario:
    """A command whose system calls get faults.

    Attributes:
        name: the name, which also selects the scenario.
        command: the arguments of the command.
        published: the files, dataset folders or objects that it publishes.
        arrange: prepares the folder before the command.
        codes: the allowed exit codes after an error.
        damaged: whether the journal is damaged, so that it is set aside.
        spared: files that get no faults.
        weight: the share of faults, relative to the other scenarios.
        needs_store: whether it publishes to an object store.
        normalize: takes what depends on the folder out of a published file.
    """

    name: str
    command: tuple[str, ...]
    published: tuple[str, ...]
    arrange: Arrange
    codes: frozenset[int] = LABELLING
    damaged: bool = False
    spared: tuple[str, ...] = ("photos",)
    weight: int = 2
    needs_store: bool = False
    normalize: Callable[[bytes], bytes] = bytes


def _arrange_photos(place: RunFolder) -> None:
    make_photos(place.folder / "photos", PHOTOS)


def _arrange_labelled(*options: str) -> Arrange:
    """Prepare a folder with an earlier run with these options."""

    def arrange(place: RunFolder) -> None:
        _arrange_photos(place)
        _run(place, *_label(*(options or ("-o", REPORT))))

    return arrange


def _arrange_changed(*options: str) -> Arrange:
    """Prepare a folder with an earlier run, and photos added, changed and removed since."""

    def arrange(place: RunFolder) -> None:
        _arrange_labelled(*options)(place)
        photos = place.folder / "photos"
        make_photos(photos, 3, first=PHOTOS)
        (photos / "00001.jpg").unlink()
        (photos / "00002.jpg").write_bytes((photos / "00010.jpg").read_bytes())
        (photos / "00003.jpg").write_bytes(b"no photo")

    return arrange


def _arrange_damaged_journal(place: RunFolder) -> None:
    _arrange_labelled()(place)
    size = place.journal.stat().st_size
    with place.journal.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))


def _arrange_shards(place: RunFolder) -> None:
    _arrange_photos(place)
    for number in (1, 2):
        _run(place, *_label("-o", f"{number}.csv", "--shard", f"{number}/2"))
    place.report.write_bytes(EARLIER)


def _arrange_two_reports(place: RunFolder) -> None:
    _arrange_changed()(place)
    (place.folder / "old.csv").write_bytes(place.report.read_bytes())
    _run(place, *_label("-o", REPORT))
    (place.folder / "changes.csv").write_bytes(EARLIER)


def _arrange_page(place: RunFolder) -> None:
    _arrange_labelled()(place)
    (place.folder / "r.html").write_bytes(EARLIER)


def _drop_series(page: bytes) -> bytes:
    """Take the identity of the report's path out of a page; a torn page stays as it is."""
    start, rows, end = page.partition(b'id="rows">')
    text, close, rest = end.partition(b"</script>")
    if not close:
        return page
    content = json.loads(gzip.decompress(base64.b64decode(text)))
    del content["series"]
    return start + rows + json.dumps(content).encode() + close + rest


def _arrange_manifest(place: RunFolder) -> None:
    _arrange_photos(place)
    (place.folder / "m.parquet").write_bytes(EARLIER)


def _run(place: RunFolder, *command: str) -> None:
    ran = place.command(*command)
    assert ran.returncode in (0, 3), ran.stderr


def _label(*options: str) -> tuple[str, ...]:
    return (*BASE_ARGUMENTS, "photos", *options)


DATASET = ("-o", "results/", "--state", "state.db")

SCENARIOS = (
    Scenario("first run", _label("-o", REPORT), (REPORT,), _arrange_photos),
    Scenario("no change", _label("-o", REPORT), (REPORT,), _arrange_labelled()),
    Scenario("some changed", _label("-o", REPORT), (REPORT,), _arrange_changed(), weight=4),
    Scenario("--fresh", _label("-o", REPORT, "--fresh"), (REPORT,), _arrange_changed()),
    Scenario(
        "--keep-missing", _label("-o", REPORT, "--keep-missing"), (REPORT,), _arrange_changed()
    ),
    Scenario(
        "JSON Lines, --per-face",
        _label("-o", "r.jsonl", "--per-face"),
        ("r.jsonl",),
        _arrange_changed("-o", "r.jsonl", "--per-face"),
    ),
    Scenario(
        "Parquet", _label("-o", "r.parquet"), ("r.parquet",), _arrange_changed("-o", "r.parquet")
    ),
    Scenario("dataset, the first", _label(*DATASET), ("results",), _arrange_photos),
    Scenario(
        "dataset, replaced", _label(*DATASET), ("results",), _arrange_changed(*DATASET), weight=4
    ),
    Scenario(
        "merge of shards",
        ("merge", "1.csv", "2.csv", "-o", REPORT),
        (REPORT,),
        _arrange_shards,
        codes=READING,
    ),
    Scenario(
        "diff",
        ("diff", "old.csv", REPORT, "-o", "changes.csv"),
        ("changes.csv",),
        _arrange_two_reports,
        codes=READING,
    ),
    Scenario(
        "manifest", ("manifest", "photos", "-o", "m.parquet"), ("m.parquet",), _arrange_manifest
    ),
    Scenario(
        "page",
        ("report", REPORT),
        ("r.html",),
        _arrange_page,
        codes=READING,
        # The page ignores an unreadable run record, so its content may differ after an error.
        spared=("photos", f"{REPORT}.run.json"),
        normalize=_drop_series,
    ),
    Scenario(
        "damaged journal", _label("-o", REPORT), (REPORT,), _arrange_damaged_journal, damaged=True
    ),
    Scenario(
        "report in a store",
        _label("-o", REPORT_URL, "--state", "state.db"),
        (REPORT_URL,),
        _arrange_photos,
        needs_store=True,
    ),
)


def find_scenario(name: str) -> Scenario:
    """Find a scenario by its name."""
    (found,) = (scenario for scenario in SCENARIOS if scenario.name == name)
    return found


JOURNALS = (JOURNAL, ".r.jsonl.journal", ".r.parquet.journal", "state.db")


def find_journals(folder: Path) -> list[Path]:
    """Find the journals in a folder."""
    return [folder / name for name in JOURNALS if (folder / name).exists()]
