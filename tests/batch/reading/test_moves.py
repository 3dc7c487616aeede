"""Moved, renamed, copied and replaced photos between two reports with the column ``sha256``."""

from __future__ import annotations

import csv
import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from batch.cli.diff import diff as command_diff
from batch.reading import moves
from batch.reading.diff import Change, Comparison
from batch.reading.diff import diff as compare
from batch.reading.moves import split_path
from batch.reading.pairs import SELECT_CHANGED, SELECT_GONE, open_pairs
from batch.reading.saved import open_saved_report
from batch.reports.formats import READABLE_FORMATS, Format, open_writer
from batch.reports.tabular import Column, ColumnKind

COLUMNS = ("path", "status", "label", "confidence", "p_happy", "p_sad", "face", "sha256", "error")


class Line(NamedTuple):
    """A row of a report; photos with the same ``content`` have the same bytes."""

    path: str
    content: str | None
    label: str | None = "happy"
    status: str = "ok"
    face: int | None = None

    @property
    def key(self) -> tuple[str, int]:
        return self.path, self.face or 1


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(
    name: str, lines: Iterable[Line], per_face: bool = False, left_out: Sequence[str] = ()
) -> None:
    skipped = {*left_out, *(() if per_face else ("face",))}
    kinds = {"confidence": ColumnKind.FLOAT, "face": ColumnKind.INT32}
    columns = [
        Column(column, kinds.get(column, ColumnKind.TEXT), 1)
        for column in COLUMNS
        if column not in skipped
    ]
    form = Format(Path(name).suffix)
    with open(name, "wb") as file:
        writer = open_writer(form, file, columns)
        for line in lines:
            digest = hashlib.sha256(line.content.encode()).hexdigest() if line.content else None
            values = (line.path, line.status, line.label, 0.5 if line.label else None, None, None)
            record = dict(zip(COLUMNS, (*values, line.face, digest, None), strict=True))
            writer.write({column.name: record[column.name] for column in columns})
        writer.finish()


def diff(*args: str) -> Result:
    return CliRunner().invoke(command_diff, ("-o", "changes.csv", *args))


def listed() -> list[dict[str, str]]:
    with open("changes.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def compared(old: Iterable[Line], new: Iterable[Line], per_face: bool = False) -> list[str]:
    """Compare two reports and return each change as ``change old_path>path``."""
    write("old.csv", old, per_face)
    write("new.csv", new, per_face)
    ran = diff("old.csv", "new.csv")
    assert ran.exit_code == 0, ran.stderr
    return [f"{row['change']} {row['old_path']}>{row['path']}" for row in listed()]


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_a_photo_at_another_path_is_moved_or_renamed(form: str) -> None:
    old = [Line("a/1.jpg", "1"), Line("a/2.jpg", "2"), Line("a/3.jpg", "3"), Line("a/4.jpg", "4")]
    new = [Line("b/1.jpg", "1"), Line("a/two.jpg", "2", "sad"), Line("b/three.jpg", "3"), old[3]]
    write(f"old{form}", old)
    write(f"new{form}", new)
    ran = diff(f"old{form}", f"new{form}", "--exit-code")
    assert ran.exit_code == 1, ran.stderr
    assert Path("changes.csv").read_text().splitlines()[1:] == [
        "moved,b/1.jpg,a/1.jpg,same,ok,happy,0.5000,ok,happy,0.5000",
        "renamed,a/two.jpg,a/2.jpg,same,ok,happy,0.5000,ok,sad,0.5000",
        "moved,b/three.jpg,a/3.jpg,same,ok,happy,0.5000,ok,happy,0.5000",
    ]
    assert ran.stderr.splitlines()[1:] == [
        "0 new, 0 gone, 2 moved, 1 renamed, 0 relabelled, 0 failed, 0 healed; 1 unchanged",
        "relabelled happy -> sad: 1; 1 of them moved or renamed",
    ]


def test_a_move_alone_is_a_difference() -> None:
    write("old.csv", [Line("a.jpg", "1")])
    write("new.csv", [Line("b.jpg", "1")])
    assert diff("old.csv", "new.csv", "--exit-code").exit_code == 1


@pytest.mark.parametrize(
    ("old", "new", "changes"),
    [
        # A copy beside a photo that is still there.
        (["a"], ["a", "x/a"], ["new >x/a"]),
        (["a", "x/a"], ["a"], ["gone >x/a"]),
        # Of two copies, the one with the same name is the moved photo.
        (["x/a"], ["y/b", "y/a"], ["new >y/b", "moved x/a>y/a"]),
        (["x/b", "x/a"], ["y/a"], ["moved x/a>y/a", "gone >x/b"]),
        # A whole folder was moved: each copy stays in its own folder.
        (["1/a", "2/a"], ["z/2/a", "z/1/a"], ["moved 2/a>z/2/a", "moved 1/a>z/1/a"]),
        (["1/a", "2/a"], ["z/2/a"], ["moved 2/a>z/2/a", "gone >1/a"]),
        # The same folder comes before another one.
        (["x/a"], ["y/c", "x/b"], ["new >y/c", "renamed x/a>x/b"]),
        # The same name comes before the same folder.
        (["x/a"], ["x/b", "y/a"], ["new >x/b", "moved x/a>y/a"]),
        # In the order of the reports otherwise.
        (["x/b", "x/a"], ["y/d", "y/c"], ["moved x/b>y/d", "moved x/a>y/c"]),
    ],
)
def test_copies_are_paired_by_name_then_folder_then_order(
    old: list[str], new: list[str], changes: list[str]
) -> None:
    assert compared([Line(path, "1") for path in old], [Line(path, "1") for path in new]) == changes


def test_photos_without_a_digest_and_failed_ones_are_not_paired() -> None:
    old = [Line("a", None), Line("b", "2", None, "failed"), Line("c", "3")]
    new = [Line("x/a", None), Line("x/b", "2"), Line("x/c", "3", None, "failed")]
    assert Counter(change.split()[0] for change in compared(old, new)) == {"new": 3, "gone": 3}


def test_a_replaced_photo_is_counted_and_only_its_answer_is_a_change() -> None:
    old = [Line("a", "1"), Line("b", "2"), Line("c", None), Line("d", "4"), Line("e", "5")]
    new = [Line("a", "x"), Line("b", "y", "sad"), Line("c", "z"), Line("d", "4", "sad"), old[4]]
    write("old.csv", old)
    write("new.csv", new)
    ran = diff("old.csv", "new.csv")
    assert [(row["path"], row["file"]) for row in listed()] == [("b", "replaced"), ("d", "same")]
    assert ran.stderr.splitlines()[-1] == (
        "2 replaced by other bytes at the same path, 1 of them otherwise unchanged"
    )
    write("new.csv", [new[0], *old[1:]])
    assert diff("old.csv", "new.csv", "--exit-code").exit_code == 0


def test_swapped_photos_are_replaced_not_moved() -> None:
    assert compared([Line("a", "1"), Line("b", "2")], [Line("a", "2"), Line("b", "1")]) == []


def test_faces_of_a_moved_photo_are_paired_by_number() -> None:
    old = [Line("a", "1", face=1), Line("a", "1", face=2), Line("b", "2"), Line("c", "3", face=1)]
    new = [
        Line("x/a", "1", face=1),
        Line("x/a", "1", "sad", face=2),
        Line("x/a", "1", face=3),
        Line("x/b", "2", face=1),
        Line("x/b", "2", face=2),
    ]
    assert compared(old, new, per_face=True) == [
        "moved a>x/a",
        "moved a>x/a",
        "new >x/a",
        "moved b>x/b",
        "new >x/b",
        "gone >c",
    ]
    assert [row["face"] for row in listed()] == ["1", "2", "3", "1", "2", "1"]
    assert [row["new_label"] for row in listed()][:2] == ["happy", "sad"]


@pytest.mark.parametrize(
    ("lacking", "names"),
    [
        (("old.csv",), "old.csv lacks"),
        (("old.csv", "new.csv"), "old.csv and new.csv lack"),
    ],
)
def test_without_the_column_the_summary_says_so(lacking: tuple[str, ...], names: str) -> None:
    for name, path in (("old.csv", "a/1"), ("new.csv", "b/1")):
        write(name, [Line(path, "1")], left_out=["sha256"] if name in lacking else [])
    ran = diff("old.csv", "new.csv")
    assert "1 new, 1 gone, 0 moved, 0 renamed" in ran.stderr
    assert ran.stderr.splitlines()[-1] == (
        f"moved, renamed and replaced photos can't be told: {names} the column sha256"
    )


def test_a_report_without_rows_hides_no_move() -> None:
    Path("none.jsonl").write_text("")
    write("new.csv", [Line("a", "1")], left_out=["sha256"])
    assert "can't be told" not in diff("none.jsonl", "new.csv").stderr


def test_paths_of_moved_photos_can_t_run_as_formulas() -> None:
    assert compared([Line("=a", "1"), Line("x;=b", "2")], [Line("y/a", "1"), Line("@b", "2")]) == [
        "moved ./=a>y/a",
        "renamed x\\x3B=b>./@b",
    ]


@pytest.mark.parametrize(
    ("path", "folder", "name"),
    [
        ("a.jpg", "", "a.jpg"),
        ("./=a.jpg", "", "=a.jpg"),
        ("/x/y/a.jpg", "/x/y", "a.jpg"),
        ("s3://bucket/x/a.jpg", "s3://bucket/x", "a.jpg"),
        ("zip://x/a.jpg::s3://bucket/p.zip", "s3://bucket/p.zip/x", "a.jpg"),
        ("zip://a.jpg::p.zip", "p.zip/", "a.jpg"),
    ],
)
def test_a_folder_may_be_inside_an_archive(path: str, folder: str, name: str) -> None:
    assert split_path(path) == (folder, name)


@pytest.mark.parametrize("per_face", [False, True])
def test_random_reports_are_compared_as_a_simple_model_does(per_face: bool) -> None:
    for seed in range(150):
        random_lines = random.Random(seed)
        old, new = (list(make_lines(random_lines, per_face)) for _ in range(2))
        write("old.csv", old, per_face)
        write("new.csv", new, per_face)
        found = compare("old.csv", "new.csv", "changes.csv", None)  # type: ignore[arg-type]
        expected = compare_simply(old, new)
        assert [
            (row["change"], row["old_path"], row["path"], row.get("face") or "") for row in listed()
        ] == expected, seed
        assert found.changes == {
            change: sum(row[0] == change for row in expected) for change in Change
        }
        check_sums(found, old, new)


def make_lines(chance: random.Random, per_face: bool) -> Iterator[Line]:
    paths = [f"{folder}{name}" for folder in ("", "p/", "q/", "r/p/") for name in "abc"]
    for path in chance.sample(paths, chance.randrange(len(paths) + 1)):
        content = chance.choice([*"112345", None])
        if chance.random() < 0.15:
            yield Line(path, content, None, "failed")
            continue
        for face in range(1, 1 + chance.randrange(1, 4)) if per_face else (None,):
            yield Line(path, content, chance.choice(("happy", "sad")), face=face)


def compare_simply(old: list[Line], new: list[Line]) -> list[tuple[str, str, str, str]]:
    """List the changes with loops over all pairs."""
    olds = {line.path: line for line in reversed(old)}
    news = {line.path: line for line in reversed(new)}
    lost = [path for path in dict.fromkeys(row.path for row in old) if path not in news]
    added = [path for path in dict.fromkeys(row.path for row in new) if path not in olds]
    moved: dict[str, str] = {}

    def name(path: str) -> str:
        return path.rpartition("/")[2]

    def folder(path: str) -> str:
        return path.rpartition("/")[0]

    closest: list[Callable[[str, str], bool]] = [
        lambda a, b: name(a) == name(b) and name(folder(a)) == name(folder(b)),
        lambda a, b: name(a) == name(b),
        lambda a, b: folder(a) == folder(b),
        lambda a, b: True,
    ]
    for is_close in closest:
        for path in added:
            for was in lost:
                a, b = olds[was], news[path]
                same = a.content is not None and a.content == b.content
                failed = "failed" in (a.status, b.status)
                free = path not in moved and was not in moved.values()
                if same and not failed and free and is_close(was, path):
                    moved[path] = was
    before = {line.key: line for line in old}
    after = {line.key: line for line in new}
    changes, kept = [], set()
    for line in new:
        earlier = before.get((moved.get(line.path, line.path), line.face or 1))
        face = str(line.face or (earlier.face if earlier else None) or "")
        if earlier is None:
            changes.append(("new", "", line.path, face))
            continue
        kept.add(earlier.key)
        if earlier.path != line.path:
            is_renamed = folder(earlier.path) == folder(line.path)
            change = "renamed" if is_renamed else "moved"
            changes.append((change, earlier.path, line.path, face))
        elif "failed" in (line.status, earlier.status):
            if line.status != earlier.status:
                change = "failed" if line.status == "failed" else "healed"
                changes.append((change, "", line.path, face))
        elif line.label != earlier.label:
            changes.append(("relabelled", "", line.path, face))
    assert len(after) == len(new)
    gone = [line for line in old if line.key not in kept]
    return [*changes, *(("gone", "", line.path, str(line.face or "")) for line in gone)]


def check_sums(found: Comparison, old: list[Line], new: list[Line]) -> None:
    changes = found.changes
    matched = sum(changes.values()) - changes[Change.NEW] - changes[Change.GONE] + found.unchanged
    assert found.unchanged >= 0
    assert found.new == len(new) == matched + changes[Change.NEW]
    assert found.old == len(old) == matched + changes[Change.GONE]
    answers = sum(found.relabelled.values())
    assert answers == changes[Change.RELABELLED] + found.relabelled_moves
    assert 0 <= found.replaced_only <= min(found.replaced, found.unchanged)


def test_a_million_copies_would_be_paired_in_sorted_order_not_by_all_pairs() -> None:
    count = 20_000  # 400 million pairs
    write("old.csv", (Line(f"a/{number}", "1") for number in range(count)))
    write("new.csv", (Line(f"b/{number}x", "1") for number in range(count)))
    assert f"0 new, 0 gone, {count} moved" in diff("old.csv", "new.csv").stderr


def test_no_query_compares_all_rows_with_all_rows() -> None:
    write("old.csv", [Line("a", "1", face=1), Line("b", "1", face=1)], per_face=True)
    write("new.csv", [Line("c", "1", face=1), Line("d", "1", face=1)], per_face=True)
    with open_pairs() as pairs:
        for side in ("old", "new"):
            with open_saved_report(f"{side}.csv") as report:
                pairs.load(side, report)
        executed: list[str] = []
        pairs._database.set_trace_callback(executed.append)
        assert len(list(pairs.find_changed())) == 2
        pairs._database.set_trace_callback(None)
        selects = [query for query in executed if "SELECT " in query]
        assert {
            SELECT_CHANGED,
            SELECT_GONE,
            moves.FIND_GONE,
            moves.FIND_ADDED,
            moves.PAIR_SINGLES,
            moves.FIND_OLD_COPIES,
            moves.FIND_NEW_COPIES,
            *map(moves.pair_copies_by, moves.COPY_KEYS),
            moves.PAIR_OTHER_FACES,
        } <= set(selects)
        find_moves_again(pairs._database.execute, executed)
        for query in selects:
            rows = pairs._database.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
            check_plan(query, rows)


def find_moves_again(execute: Callable[[str], object], executed: Sequence[str]) -> None:
    """Create the tables again that ``find_moves`` dropped at its end."""
    for query in executed:
        if query.startswith("CREATE TABLE") and "moves" not in query:
            execute(query)


def check_plan(query: str, rows: Sequence[tuple[int, int, int, str]]) -> None:
    """Make sure that no step scans a table for each row of another one."""
    by_parent: dict[int, list[str]] = {}
    for _, parent, _, step in rows:
        by_parent.setdefault(parent, []).append(step)
    nested = {number for number, _, _, step in rows if step.startswith("CORRELATED")}
    for parent, steps in by_parent.items():
        scans = [step for step in steps if step.startswith("SCAN")]
        assert len(scans) <= (0 if parent in nested else 1), (query, rows)
