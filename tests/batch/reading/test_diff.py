"""What changed between two reports, in the list and in the summary."""

from __future__ import annotations

import csv
import json
import re
import sqlite3
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch.cli.diff import diff as command_diff
from batch.errors import ExitCode
from batch.reading import pairs
from batch.reading.diff import (
    CHANGE_MEANINGS,
    Change,
    classify_change,
    diff_columns,
)
from batch.reading.pairs import Pair, open_pairs
from batch.reading.saved import DIGEST_COLUMN, REQUIRED_COLUMNS, SavedRow
from batch.records import Answer, Failure, Reason, Row, Source, Stage, Status
from batch.reports.formats import READABLE_FORMATS, Format
from tests.batch.reading.test_saved import OLD_REPORTS
from tests.batch.reports.test_report import ABSTAINED, OUTPUTS, abstained, answer, many, written
from tests.conftest import REPOSITORY, Command

HEADER = "path,status,label,confidence,p_happy,p_sad,error\n"


def labelled(path: str, happy: float, sure: bool = True, faces: int = 1) -> Row:
    said = answer(happy, sure)
    shown = tuple(answer(happy if n == 0 else 1 - happy, sure) for n in range(faces))
    return Row(Path(path), Status.OK if sure else Status.UNSURE, said, Source.FACE, shown, 9, 9)


def failed(path: str, reason: Reason = Reason.TRUNCATED) -> Row:
    failure = Failure(Path(path), Stage.DECODE, reason, "ends early")
    return Row(Path(path), Status.FAILED, failure=failure)


OLD = (
    labelled("same.jpg", 0.9),
    labelled("gone.jpg", 0.8),
    labelled("other.jpg", 0.75),
    labelled("doubt.jpg", 0.7),
    labelled("breaks.jpg", 0.6),
    failed("heals.jpg"),
    failed("broken.jpg"),
)
NEW = (
    labelled("added.jpg", 0.2),
    labelled("same.jpg", 0.91),
    failed("added-broken.jpg"),
    labelled("other.jpg", 0.25),
    labelled("doubt.jpg", 0.55, sure=False),
    failed("breaks.jpg"),
    Row(Path("heals.jpg"), Status.NO_FACE, width=9, height=9),
    failed("broken.jpg", Reason.EMPTY),
)
LIST = """\
change,path,old_path,file,old_status,old_label,old_confidence,new_status,new_label,new_confidence
new,added.jpg,,,,,,ok,sad,0.8000
new,added-broken.jpg,,,,,,failed,,
relabelled,other.jpg,,,ok,happy,0.7500,ok,sad,0.7500
relabelled,doubt.jpg,,,ok,happy,0.7000,unsure,happy,0.5500
failed,breaks.jpg,,,ok,happy,0.6000,failed,,
healed,heals.jpg,,,failed,,,no_face,,
gone,gone.jpg,,,ok,happy,0.8000,,,
"""


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def reports() -> None:
    written(Path("old.csv"), OLD)
    written(Path("new.csv"), NEW)


def diff(*args: str) -> Result:
    return CliRunner().invoke(command_diff, ("-o", "changes.csv", *args))


def listed(output: str = "changes.csv") -> list[dict[str, str]]:
    with open(output, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.usefixtures("reports")
def test_the_command_lists_changes_on_stdout_and_sums_up_on_stderr(command: Command) -> None:
    ran = command("diff", "old.csv", "new.csv")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert ran.stdout == LIST
    assert ran.stderr == (
        "old.csv: 7 photos; new.csv: 8\n"
        "2 new, 1 gone, 0 moved, 0 renamed, 2 relabelled, 1 failed, 1 healed; 2 unchanged\n"
        "relabelled happy -> happy (unsure): 1, happy -> sad: 1\n"
    )


@pytest.mark.usefixtures("reports")
def test_exit_code_tells_whether_there_are_changes() -> None:
    assert diff("old.csv", "new.csv", "-o", "c.csv").exit_code == 0
    assert diff("old.csv", "new.csv", "-o", "c.csv", "--exit-code").exit_code == 1
    same = diff("old.csv", "old.csv", "-o", "c.csv", "--exit-code")
    assert same.exit_code == 0
    assert listed("c.csv") == []
    assert (
        "0 new, 0 gone, 0 moved, 0 renamed, 0 relabelled, 0 failed, 0 healed; 7 unchanged"
        in same.stderr
    )


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_reports_of_any_formats_are_compared(form: Format) -> None:
    written(Path("old.csv"), OLD)
    written(Path(f"new{form}"), NEW)
    assert diff("old.csv", f"new{form}", "-o", "c.csv").exit_code == 0
    assert Path("c.csv").read_text() == LIST


@pytest.mark.usefixtures("reports")
def test_the_list_has_the_format_of_its_name() -> None:
    assert diff("old.csv", "new.csv", "-o", "c.jsonl").exit_code == 0
    rows = [json.loads(line) for line in Path("c.jsonl").read_text().splitlines()]
    assert list(rows[0]) == [column.name for column in diff_columns(per_face=False)]
    assert rows[2] == {
        "change": "relabelled",
        "path": "other.jpg",
        "old_path": None,
        "file": None,
        "old_status": "ok",
        "old_label": "happy",
        "old_confidence": 0.75,
        "new_status": "ok",
        "new_label": "sad",
        "new_confidence": 0.75,
    }


def test_the_order_of_a_report_does_not_matter() -> None:
    written(Path("old.csv"), many(500))
    written(Path("new.csv"), reversed(list(many(500))))
    ran = diff("old.csv", "new.csv", "--exit-code")
    assert ran.exit_code == 0, ran.stderr
    assert "500 unchanged" in ran.stderr


def test_faces_are_compared_each_with_its_own() -> None:
    old = [labelled("two.jpg", 0.9, faces=2), failed("heals.jpg"), labelled("one.jpg", 0.7)]
    new = [labelled("two.jpg", 0.9), labelled("heals.jpg", 0.8, faces=2), labelled("one.jpg", 0.2)]
    written(Path("old.csv"), old, per_face=True)
    written(Path("new.csv"), new, per_face=True)
    ran = diff("old.csv", "new.csv")
    assert ran.exit_code == 0, ran.stderr
    found = [(row["change"], row["path"], row["face"]) for row in listed()]
    assert found == [
        ("healed", "heals.jpg", "1"),
        ("new", "heals.jpg", "2"),
        ("relabelled", "one.jpg", "1"),
        ("gone", "two.jpg", "2"),
    ]
    assert ran.stderr.startswith("old.csv: 4 faces and photos without one; new.csv: 4\n")


def test_a_row_kept_for_a_missing_photo_is_gone() -> None:
    rows = "a.jpg,ok,happy,0.9,0.9,0.1,{}\nb.jpg,ok,sad,0.9,0.1,0.9,\n"
    Path("old.csv").write_text(HEADER + rows.format(""))
    Path("new.csv").write_text(HEADER + rows.format("missing: not found any more"))
    assert diff("old.csv", "new.csv").exit_code == 0
    assert [(row["change"], row["path"]) for row in listed()] == [("gone", "a.jpg")]
    diff("new.csv", "old.csv")
    assert [(row["change"], row["path"]) for row in listed()] == [("new", "a.jpg")]
    assert diff("new.csv", "new.csv", "--exit-code").exit_code == 0


def test_a_report_without_rows_is_compared_with_any() -> None:
    written(Path("none.jsonl"), ())
    written(Path("new.csv"), NEW)
    assert "8 new, 0 gone" in diff("none.jsonl", "new.csv").stderr
    assert "0 new, 8 gone" in diff("new.csv", "none.jsonl").stderr


def test_rows_of_the_same_labels_in_another_order_are_compared() -> None:
    Path("old.csv").write_text(HEADER + "a.jpg,ok,happy,0.9,0.9,0.1,\n")
    swapped = HEADER.replace("p_happy,p_sad", "p_sad,p_happy")
    Path("new.csv").write_text(swapped + "a.jpg,ok,happy,0.9,0.1,0.9,\n")
    assert diff("old.csv", "new.csv", "--exit-code").exit_code == 0


def test_the_summary_names_the_most_frequent_relabellings_only() -> None:
    labels = "abcdefgh"
    header = f"path,status,label,confidence,{','.join(f'p_{n}' for n in labels)},error\n"
    zeros = "," * len(labels)
    Path("old.csv").write_text(header + "".join(f"{n}.jpg,ok,a,0.5,{zeros}\n" for n in labels))
    Path("new.csv").write_text(header + "".join(f"{n}.jpg,ok,{n},0.5,{zeros}\n" for n in labels))
    words = diff("old.csv", "new.csv").stderr.splitlines()[2]
    assert words == "relabelled a -> b: 1, a -> c: 1, a -> d: 1, a -> e: 1, a -> f: 1, others: 2"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (HEADER, HEADER.replace("p_sad", "p_angry"), ["labels happy, sad", "has happy, angry"]),
        (HEADER, HEADER.replace(",error", ",face,error"), ["one row per face", "--per-face"]),
        (HEADER, "name\n", ["new.csv", "not a report"]),
        ("a,b\n", HEADER, ["old.csv", "not a report"]),
        (HEADER + "a.jpg,ok\n", HEADER, ["old.csv, line 2", "damaged"]),
        (HEADER, HEADER + "a.jpg,ok,,,,,\n" * 2, ["new.csv has a.jpg twice"]),
        (HEADER, None, ["new.csv", "No such file"]),
    ],
)
def test_reports_that_can_t_be_compared_are_an_error_not_a_difference(
    old: str, new: str | None, words: list[str]
) -> None:
    Path("old.csv").write_text(old)
    if new is not None:
        Path("new.csv").write_text(new)
    ran = diff("old.csv", "new.csv", "--exit-code")
    assert ran.exit_code == 2
    for word in words:
        assert word in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not Path("changes.csv").exists()
    assert not [name for name in Path().iterdir() if name.name.endswith(".tmp")]


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("new.csv", "one of the reports"),
        ("./old.csv", "one of the reports"),
        ("changes.xls", ".parquet"),
        ("no/such/folder/c.csv", "no/such/folder"),
    ],
)
def test_a_bad_output_is_refused_before_the_run(output: str, words: str) -> None:
    before = Path("old.csv").read_bytes(), Path("new.csv").read_bytes()
    ran = diff("old.csv", "new.csv", "-o", output, "--exit-code")
    assert ran.exit_code == 2
    assert words in ran.stderr
    assert (Path("old.csv").read_bytes(), Path("new.csv").read_bytes()) == before


@pytest.mark.usefixtures("reports")
def test_a_full_disk_is_trouble_with_a_remedy(command: Command) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    ran = command("diff", "old.csv", "new.csv", "-o", "/dev/full", "--exit-code")
    assert ran.returncode == 2
    assert "No space left" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.usefixtures("reports")
def test_an_interrupted_comparison_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(pair: Pair) -> Change:
        raise KeyboardInterrupt

    monkeypatch.setattr("batch.reading.diff.classify_change", interrupt)
    ran = diff("old.csv", "new.csv", "--exit-code")
    assert ran.exit_code == ExitCode.INTERRUPTED
    assert sorted(path.name for path in Path().iterdir()) == ["new.csv", "old.csv"]


def test_no_room_for_the_temporary_file_is_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Full(pairs.Pairs):
        def __init__(self, database: sqlite3.Connection) -> None:
            super().__init__(database)
            database.execute("PRAGMA max_page_count = 3")

    written(Path("old.csv"), many(2_000))
    monkeypatch.setattr("batch.reading.pairs.Pairs", Full)
    ran = diff("old.csv", "old.csv")
    assert ran.exit_code == 2
    assert "full" in ran.stderr
    assert "TMPDIR" in ran.stderr


def test_the_kinds_of_change() -> None:
    ok, sad, bad = (
        SavedRow("a", "ok", "happy"),
        SavedRow("a", "ok", "sad"),
        SavedRow("a", "failed"),
    )
    assert classify_change(Pair(None, bad)) is Change.NEW
    assert classify_change(Pair(bad, None)) is Change.GONE
    assert classify_change(Pair(ok, sad)) is Change.RELABELLED
    assert classify_change(Pair(ok, bad)) is Change.FAILED
    assert classify_change(Pair(bad, ok)) is Change.HEALED
    assert classify_change(Pair(ok, ok)) is None
    assert classify_change(Pair(ok, ok._replace(path="b"))) is Change.RENAMED
    assert classify_change(Pair(ok, sad._replace(path="x/a"))) is Change.MOVED
    assert set(CHANGE_MEANINGS) == set(Change)


def test_the_loss_of_a_label_is_a_change() -> None:
    written(Path("old.csv"), [labelled("a.jpg", 0.9), labelled("b.jpg", 0.9)], outputs=OUTPUTS)
    now = [
        abstained("a.jpg", Status.NEITHER, 0.7, faces=1),
        abstained("b.jpg", Status.NO_PERSON, 0.8),
    ]
    written(Path("new.csv"), now, outputs=OUTPUTS)
    ran = diff("old.csv", "new.csv", "-o", "list.csv")
    assert ran.exit_code == 0
    assert "relabelled happy -> neither: 1, happy -> no_person: 1" in ran.stderr
    assert Path("list.csv").read_text().splitlines()[1:] == [
        "relabelled,a.jpg,,,ok,happy,0.9000,neither,,0.7000",
        "relabelled,b.jpg,,,ok,happy,0.9000,no_person,,0.8000",
    ]
    assert diff("new.csv", "new.csv", "--exit-code").exit_code == 0
    written(Path("now.csv"), [abstained("a.jpg", Status.NO_PERSON, 0.7), now[1]], outputs=OUTPUTS)
    assert "neither -> no_person: 1" in diff("new.csv", "now.csv", "-o", "list.csv").stderr


@pytest.mark.parametrize("form", [".csv", ".jsonl"])
def test_a_report_of_a_model_without_abstain_outputs_is_compared(form: str) -> None:
    old = Path(f"old{form}")
    old.write_text(OLD_REPORTS[form])
    written(Path("new.csv"), [*ABSTAINED, abstained("a.jpg", Status.NEITHER, 0.6)], outputs=OUTPUTS)
    ran = diff(str(old), "new.csv", "-o", "list.csv")
    assert ran.exit_code == 0, ran.stderr
    assert "relabelled happy -> neither: 1" in ran.stderr
    assert (
        "2 new, 1 gone, 0 moved, 0 renamed, 1 relabelled, 0 failed, 0 healed; 0 unchanged"
        in ran.stderr
    )


def test_memory_does_not_grow_with_the_reports() -> None:
    def peak(count: int) -> int:
        written(Path("old.csv"), many(count))
        written(Path("new.csv"), (relabel(row) for row in many(count)))
        tracemalloc.start()
        assert diff("old.csv", "new.csv").exit_code == 0
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(listed()) == count
        return most

    def relabel(row: Row) -> Row:
        assert row.answer is not None
        label = "sad" if row.answer.label == "happy" else "happy"
        said = Answer(Status.UNSURE, label, 0.5, row.answer.probabilities)
        return Row(row.path, Status.UNSURE, said, Source.FACE, (said,), 9, 9)

    peak(10)
    assert peak(8_000) < peak(2_000) + 1_000_000, "6,000 pairs held would be twice as much"


def test_pairs_are_kept_on_disk_beyond_the_cache() -> None:
    with open_pairs() as found:
        (size,) = found._database.execute("PRAGMA cache_size").fetchone()
        (name,) = (row[2] for row in found._database.execute("PRAGMA database_list"))
    assert size == -pairs.CACHE_KIB
    assert name == "", "a name of SQLite's own: a temporary file, not :memory:"


@pytest.mark.parametrize("header", [HEADER, HEADER.replace("p_sad", "p_\x1b[2J")])
def test_control_characters_of_a_report_are_not_printed(command: Command, header: str) -> None:
    Path("old.csv").write_text(f"{HEADER}a.jpg,ok,happy,0.9,0.9,0.1,\n")
    Path("new.csv").write_text(f"{header}a.jpg,ok,\x1b[31msad,0.9,0.9,0.1,\n")
    ran = command("diff", "old.csv", "new.csv", "-o", "list.csv")
    assert "\\x1B[" in ran.stderr
    assert "\x1b" not in ran.stderr


def test_the_list_has_no_cell_that_a_spreadsheet_would_run() -> None:
    Path("old.csv").write_text(HEADER)
    rows = ("=cmd,ok,@x", "a;=cmd,ok,x", "b,ok, +x;-1", "'c,ok,'=x")
    Path("new.csv").write_text(HEADER + "".join(f"{row},0.9,0.9,0.1,\n" for row in rows))
    assert diff("old.csv", "new.csv").exit_code == 0
    assert [(row["path"], row["new_label"]) for row in listed()] == [
        *(("./=cmd", "'@x"), ("a\\x3B=cmd", "x"), ("b", "' +x\\x3B-1"), ("'c", "'=x"))
    ]


def test_the_command_is_light_to_load() -> None:
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import batch.cli.diff"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert "batch.cli.diff" in ran.stderr
    for module in ("numpy", "sqlite3", "csv", "batch.reading.diff", "pyarrow"):
        assert f"| {module}\n" not in ran.stderr.replace("  ", ""), module


def documented(title: str) -> dict[str, str]:
    text = (REPOSITORY / "docs" / "diff.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0] if title else text
    rows = re.findall(r"^\| `?([^`|]+?)`?(?:, `[^`]+`)? \| (.*) \|$", section, re.MULTILINE)
    return dict(rows)


def test_the_document_has_the_changes_and_the_columns() -> None:
    changes = documented("Changes")
    assert changes.pop("Change") == "Meaning"
    changes.pop("---")
    assert changes == {change.value: meaning for change, meaning in CHANGE_MEANINGS.items()}
    names = [name for name in documented("Columns") if name not in ("Column", "---")]
    assert names == [column.name for column in diff_columns(per_face=True)]
    marked = [name for name, text in documented("Columns").items() if "--per-face" in text]
    assert marked == ["face"]


def test_the_document_has_the_options_of_the_command() -> None:
    text = (REPOSITORY / "docs" / "diff.md").read_text(encoding="utf-8")
    options = {name for option in command_diff.params for name in option.opts if name[0] == "-"}
    told = re.findall(r"^\| (`-.*?) \|", text, re.MULTILINE)
    assert {name for cell in told for name in re.findall("`([^`]+)`", cell)} == options


def test_the_document_has_the_columns_that_a_report_needs() -> None:
    text = " ".join((REPOSITORY / "docs" / "diff.md").read_text(encoding="utf-8").split())
    *first, last = (f"`{name}`" for name in REQUIRED_COLUMNS)
    assert f"the columns {', '.join(first)} and {last};" in text
    assert f"the column `{DIGEST_COLUMN}`" in text
