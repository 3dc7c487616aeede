"""Broken reports: they are read back or refused with a known error."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path

from batch.errors import OutputError, ReportError, UsageError
from batch.page.gather import read_page_report
from batch.reading.diff import diff
from batch.reading.saved import SavedReport, open_saved_report
from batch.records import Status
from batch.reports.report import open_report
from tests.fuzz.cases import Case, check_message, get_case_folder, make_broken_case, write_case
from tests.fuzz.journals import make_rows
from tests.fuzz.mutations import Mutation
from tests.fuzz.text_mutations import (
    BYTES,
    LINES,
    mutate_end,
    mutate_line,
    replace_value,
)

OUTPUTS = ("happy", "sad")
DATASET = "dataset"
FILES = {"csv": "r.csv", "jsonl": "r.jsonl", "parquet": "r.parquet"}
DIFF_INTERVAL = 4  # cases between two diffs, which are slower than reading
FOOTER = 600  # bytes at the end of a Parquet file, with its schema and index


@functools.cache
def make_sound_files() -> dict[str, bytes]:
    """Make reports of every format, and the files of a dataset."""
    made = {}
    for per_face in (False, True):
        for form in FILES:
            path = _write_report(f"sound{per_face:d}.{form}", per_face)
            made[f"{form}-{'faces' if per_face else 'photos'}"] = path.read_bytes()
    for name, file in _dataset_files().items():
        made[f"{DATASET}-{name}"] = file.read_bytes()
    return made


def make(seed: int, number: int) -> Case:
    """Make a broken report, or file of a dataset, from a seed and a number."""
    names = sorted(make_sound_files())
    name = names[number % len(names)]
    return make_broken_case(seed, number, {name: make_sound_files()[name]}, _mutations(name))


def _mutations(name: str) -> tuple[Mutation, ...]:
    if name.startswith("csv"):
        return (*BYTES, *LINES, *LINES)
    if name.startswith("jsonl"):
        return (*BYTES, *LINES, *(mutate_line(replace_value),) * 4)
    if name == f"{DATASET}-_SUCCESS":
        return (*BYTES, *LINES, *(replace_value,) * 6)
    return (*BYTES, *(mutate_end(mutation, FOOTER) for mutation in BYTES))


def check(case: Case) -> str:
    """Read a broken report, sum it up for a page, and compare it with the sound one."""
    number, form, kind, *_ = case.name.split("-")
    if form == DATASET:
        file = _dataset_files()[kind]
        before = file.read_bytes()
        file.write_bytes(case.data)
        try:
            return _read(get_case_folder() / DATASET, int(number))
        finally:
            file.write_bytes(before)
    return _read(write_case(FILES[form], case.data), int(number), kind)


def _read(report: Path, number: int, kind: str = "photos") -> str:
    word = _attempt(lambda: _rows(report))
    # A page reads more columns, so it may refuse more.
    _attempt(lambda: read_page_report(report))
    if number % DIFF_INTERVAL == 0:
        suffix = report.suffix or ".parquet"
        other = get_case_folder() / f"sound{int(kind == 'faces')}{suffix}"
        changes = str(get_case_folder() / "changes.csv")
        _attempt(lambda: diff(str(other), str(report), changes, io.BytesIO()))
    return word or "read"


def _attempt(use: Callable[[], object]) -> str | None:
    try:
        use()
    except (ReportError, UsageError, OutputError) as error:
        check_message(error)
        return type(error).__name__
    return None


def _rows(report: Path) -> None:
    with open_saved_report(report) as saved:
        _check_report(saved)
        for row in saved.rows():
            assert row.status in set(Status)
            row.path.encode()
            assert row.confidence is None or 0 <= row.confidence <= 1
            assert row.face is None or row.face >= 1


def _check_report(saved: SavedReport) -> None:
    assert saved.display_name
    for label in saved.labels or ():
        label.encode()  # raises if it is not valid text


def _write_report(name: str, per_face: bool) -> Path:
    path = get_case_folder() / name
    with open_report(str(path), OUTPUTS, per_face, io.BytesIO()) as report:
        for row in make_rows().values():
            report.add(row)
        report.publish()
    return path


@functools.cache
def _dataset_files() -> dict[str, Path]:
    """Write a dataset; return its success file and its file of rows."""
    place = get_case_folder() / DATASET
    with open_report(f"{place}/", OUTPUTS, False, io.BytesIO()) as report:
        for row in make_rows().values():
            report.add(row)
        report.publish()
    (part,) = place.glob("part-*")
    return {"_SUCCESS": place / "_SUCCESS", "part": part}
