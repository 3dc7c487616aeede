"""Diff: lists the photos that are new, gone, moved or have another label between two reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO

from batch.errors import UsageError
from batch.files.lock import hold_lock
from batch.location import parse_location
from batch.os_errors import translate_write_errors
from batch.path_text import guard_cell, path_text
from batch.reading.moves import split_path
from batch.reading.pairs import Pair, open_pairs
from batch.reading.saved import DIGEST_COLUMN, SavedReport, SavedRow, open_saved_report
from batch.records import Status
from batch.reports.columns import PROBABILITY_DECIMALS
from batch.reports.dataset_place import check_outside_datasets
from batch.reports.formats import open_writer
from batch.reports.output import check_not_input, describe_output, publish_output
from batch.reports.report import check_output, report_format
from batch.reports.tabular import Column, ColumnKind, Record, Value

MAX_NAMED_CHANGES = 5  # kinds of relabelling in the summary
_MAX_SHOWN_CHARS = 300  # characters of labels in a message


class Change(StrEnum):
    """A change of a photo, or of a face, between two reports."""

    NEW = "new"
    GONE = "gone"
    MOVED = "moved"
    RENAMED = "renamed"
    RELABELLED = "relabelled"
    FAILED = "failed"
    HEALED = "healed"


CHANGE_MEANINGS = {
    Change.NEW: "only in the new report",
    Change.GONE: "only in the old report, or kept as missing in the new one",
    Change.MOVED: "the same bytes in another folder, under any name",
    Change.RENAMED: "the same bytes in the same folder, under another name",
    Change.RELABELLED: "same path, label or status changed, failed in neither report",
    Change.FAILED: "same path, failed only in the new report",
    Change.HEALED: "same path, failed only in the old report",
}
SAME, REPLACED = "same", "replaced"  # values of the column `file`


@dataclass(frozen=True)
class Comparison:
    """Counts of the differences between two reports.

    Attributes:
        old: rows of the old report, without missing photos.
        new: rows of the new report, without missing photos.
        per_face: whether a row is about a face.
        changes: rows by change.
        relabelled: rows with another label or status by their old and new label, or status if they
            have no label; those that were moved or renamed too are included.
        relabelled_moves: how many of these were moved or renamed.
        replaced: rows with other bytes at the same path.
        replaced_only: how many of these have no other change, and count as unchanged.
        untold_moves: why moves can't be told; empty if they can.
    """

    old: int
    new: int
    per_face: bool
    changes: Mapping[Change, int]
    relabelled: Mapping[tuple[str, str], int]
    relabelled_moves: int = 0
    replaced: int = 0
    replaced_only: int = 0
    untold_moves: str = ""

    @property
    def is_different(self) -> bool:
        """Whether a photo, its place or its label changed; other bytes alone are no change."""
        return any(self.changes.values())

    @property
    def unchanged(self) -> int:
        """Rows with the same path, status and label in both reports."""
        return self.new - sum(self.changes.values()) + self.changes[Change.GONE]

    def describe(self, old: str, new: str) -> Iterator[str]:
        """Yield the lines of the summary; ``old`` and ``new`` are the reports' names."""
        noun = "faces and photos without one" if self.per_face else "photos"
        yield f"{_display(old)}: {self.old} {noun}; {_display(new)}: {self.new}"
        counts = (f"{count} {change}" for change, count in self.changes.items())
        yield f"{', '.join(counts)}; {self.unchanged} unchanged"
        order = sorted(self.relabelled.items(), key=lambda item: (-item[1], item[0]))
        shown = [f"{was} -> {now}: {n}" for (was, now), n in order[:MAX_NAMED_CHANGES]]
        others = sum(count for _, count in order[MAX_NAMED_CHANGES:])
        if shown:
            moved = f"; {self.relabelled_moves} of them moved or renamed"
            yield (
                f"relabelled {', '.join([*shown, *([f'others: {others}'] if others else [])])}"
                f"{moved if self.relabelled_moves else ''}"
            )
        if self.replaced:
            yield (
                f"{self.replaced} replaced by other bytes at the same path, "
                f"{self.replaced_only} of them otherwise unchanged"
            )
        if self.untold_moves:
            yield self.untold_moves


def diff(old: str, new: str, output: str, stdout: BinaryIO) -> Comparison:
    """Compare two reports and write the list of changes.

    The list is in the new report's order; photos that are gone follow, in the old report's order.

    Args:
        old: path or URL of the old report.
        new: path or URL of the new report.
        output: where to write the list, in the format of its suffix; ``-`` is CSV on ``stdout``.
        stdout: standard output.

    Raises:
        ReportError: a report is missing, damaged, or not a report.
        UsageError: they can't be compared, or the output is one of them.
        LockedError: another process writes the list.
        OutputError: the list can't be written.
    """
    report_format(output)  # refuses a dataset: only a report can be one
    check_output(output)
    check_not_input(output, "one of the reports to compare", old, new, kind="list of changes")
    check_outside_datasets(output, parse_location(old), parse_location(new))
    with (
        hold_lock(output),
        open_saved_report(old) as before,
        open_saved_report(new) as after,
        open_pairs() as pairs,
    ):
        check_comparable(before, after)
        counts = pairs.load("old", before), pairs.load("new", after)
        per_face = before.per_face or after.per_face
        tally = _Tally()
        with _open_list(output, per_face, stdout) as write:
            for pair in pairs.find_changed():
                change = classify_change(pair)
                tally.add(change, pair)
                if change is not None:
                    write(_to_record(change, pair, per_face))
    return Comparison(
        *counts,
        per_face,
        {change: tally.changes[change] for change in Change},
        dict(tally.relabelled),
        tally.relabelled_moves,
        tally.replaced,
        tally.replaced_only,
        explain_untold_moves((_display(old), before), (_display(new), after)),
    )


@dataclass
class _Tally:
    """Counts of a comparison, as in ``Comparison``."""

    changes: Counter[Change] = field(default_factory=Counter)
    relabelled: Counter[tuple[str, str]] = field(default_factory=Counter)
    relabelled_moves: int = 0
    replaced: int = 0
    replaced_only: int = 0

    def add(self, change: Change | None, pair: Pair) -> None:
        """Count a pair."""
        if pair.same_bytes is False:
            self.replaced += 1
            self.replaced_only += change is None
        if change is None:
            return
        self.changes[change] += 1
        if change in (Change.FAILED, Change.HEALED) or not (pair.old and pair.new):
            return
        if pair.is_relabelled:
            self.relabelled[_outcome_text(pair.old), _outcome_text(pair.new)] += 1
            self.relabelled_moves += change is not Change.RELABELLED


def check_comparable(old: SavedReport, new: SavedReport) -> None:
    """Make sure that two reports have the same labels and the same kind of rows.

    Raises:
        UsageError: they do not, and can't be compared.
    """
    if old.labels is None or new.labels is None:
        return  # without rows, everything is new or gone
    if old.per_face != new.per_face:
        by_face, other = (old, new) if old.per_face else (new, old)
        raise UsageError(
            f"{by_face.display_name} has one row per face, {other.display_name} one per photo",
            "compare two reports that were both made with --per-face, or both without",
        )
    if set(old.labels) != set(new.labels):
        raise UsageError(
            f"{old.display_name} has the labels {', '.join(old.labels)[:_MAX_SHOWN_CHARS]}, "
            f"{new.display_name} has {', '.join(new.labels)[:_MAX_SHOWN_CHARS]}",
            "compare reports of models with the same labels",
        )


def explain_untold_moves(*reports: tuple[str, SavedReport]) -> str:
    """Say that moves can't be told, if a report lacks the column `sha256`; empty if they can.

    Args:
        reports: names and reports; none is named if one of them has no rows.
    """
    lacking = [name for name, report in reports if not report.has_digests]
    if not lacking or any(report.labels is None for _, report in reports):
        return ""
    lack = "lacks" if len(lacking) == 1 else "lack"
    return (
        f"moved, renamed and replaced photos can't be told: {' and '.join(lacking)} {lack} "
        f"the column {DIGEST_COLUMN}"
    )


def classify_change(pair: Pair) -> Change | None:
    """Name the change of a pair; None if only the bytes of the photo changed."""
    if pair.old is None or pair.new is None:
        return Change.NEW if pair.old is None else Change.GONE
    if pair.is_moved:
        same_folder = split_path(pair.old.path)[0] == split_path(pair.new.path)[0]
        return Change.RENAMED if same_folder else Change.MOVED
    if not pair.is_relabelled:
        return None
    if Status.FAILED in (pair.old.status, pair.new.status):
        return Change.FAILED if pair.new.status == Status.FAILED else Change.HEALED
    return Change.RELABELLED


@contextmanager
def _open_list(output: str, per_face: bool, stdout: BinaryIO) -> Iterator[Callable[[Record], None]]:
    """Yield a function that writes a record; publish the list at the end of the block."""
    with publish_output(output, stdout) as stream:
        with translate_write_errors(describe_output(output)):
            writer = open_writer(report_format(output), stream, diff_columns(per_face))

        def write(record: Record) -> None:
            with translate_write_errors(describe_output(output)):
                writer.write(record)

        yield write
        with translate_write_errors(describe_output(output)):
            writer.finish()


def diff_columns(per_face: bool) -> tuple[Column, ...]:
    """List the columns of the list of changes; ``per_face`` adds the column `face`."""
    face = (Column("face", ColumnKind.INT32),) if per_face else ()
    sides = (
        (
            Column(f"{side}_status"),
            Column(f"{side}_label"),
            Column(f"{side}_confidence", ColumnKind.FLOAT, PROBABILITY_DECIMALS),
        )
        for side in ("old", "new")
    )
    return (
        Column("change"),
        Column("path"),
        Column("old_path"),
        *face,
        Column("file"),
        *(column for three in sides for column in three),
    )


def _display(report: str) -> str:
    return path_text(parse_location(report))


def _outcome_text(row: SavedRow) -> str:
    if row.label is None:
        return row.status
    return row.label if row.status == Status.OK else f"{row.label} ({row.status})"


def _to_record(change: Change, pair: Pair, per_face: bool) -> dict[str, Value]:
    row = pair.new or pair.old
    assert row is not None
    # Reports are untrusted: no cell of the list may run as a formula in a spreadsheet.
    record: dict[str, Value] = {"change": change.value, "path": guard_cell(row.path, "./")}
    record["old_path"] = guard_cell(pair.old.path, "./") if pair.old and pair.is_moved else None
    record["file"] = {None: None, True: SAME, False: REPLACED}[pair.same_bytes]
    if per_face:
        record["face"] = row.face or (pair.old.face if pair.old else None)
    for side, side_row in zip(("old", "new"), pair, strict=True):
        record[f"{side}_status"] = side_row.status if side_row else None
        record[f"{side}_label"] = (
            guard_cell(side_row.label) if side_row and side_row.label else None
        )
        record[f"{side}_confidence"] = side_row.confidence if side_row else None
    return record
