"""The record of operations: plans of its queries, versions, damage."""

from __future__ import annotations

import os
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from batch.applying import operations as module
from batch.applying.operation_row import Kind, Operation, State
from batch.applying.operations import Operations, find_operations_path
from batch.errors import OutputError
from batch.location import Url

COPY = Operation(Kind.MAKE, b"made in /out", b"/a.jpg", "copy", b"/out/a.jpg", target=b"/out/a.jpg")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".r.csv.applied"


@pytest.mark.parametrize(
    "query",
    [
        module.COMPLETE,
        module.DROP,
        module.SET_STATE,
        module.SET_KEYS,
        module.ADOPT,
        module.FIND_CURRENT,
        module.FIND_BY_TARGET,
        module.LAST_NUMBER,
        module.LAST_RESERVED,
        module.FIND_RESERVED,
        module.NEXT_UNSEEN,
        module.NEXT_OF_RUN,
    ],
)
def test_queries_per_photo_search_an_index(path: Path, query: str) -> None:
    values: object = (b"",) * query.count("?")
    if ":action" in query:
        values = {"action": b"", "source": b"", "id": 0, "chunk": 1}
    with Operations(path, dry_run=False) as operations:
        plan = operations._connect.execute(f"EXPLAIN QUERY PLAN {query}", values)  # type: ignore[arg-type]
        steps = [row[3] for row in plan]

    assert any(step.startswith("SEARCH") for step in steps), steps
    assert not any("SCAN" in step or "TEMP B-TREE" in step for step in steps), steps


def test_the_newest_operation_that_is_done_counts(path: Path) -> None:
    with Operations(path, dry_run=False) as operations:
        made, renamed = operations.record_intents(
            [COPY, replace(COPY, kind=Kind.RENAME, target=b"/out/b.jpg", previous=COPY.target)]
        )
        assert operations.find_current(COPY.action, COPY.source) is None
        assert [found.id for found in operations.list_unfinished()] == [made.id, renamed.id]
        operations.complete(made, "s", "t")
        operations.complete(renamed, "s", "t")
        current = operations.find_current(COPY.action, COPY.source)
        assert current == replace(renamed, state=State.DONE, source_key="s", target_key="t")

        operations.set_state(renamed, State.UNDONE)
        current = operations.find_current(COPY.action, COPY.source)
        assert current is not None
        assert current.id == made.id


def test_unmatched_photos_are_listed_in_chunks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 3)
    with Operations(path, dry_run=False) as operations:
        several = [replace(COPY, source=b"/%d.jpg" % number) for number in range(10)]
        for operation in operations.record_intents(several * 2):
            operations.complete(operation, None, None)
        operations.mark_seen(b"/4.jpg")

        unseen = [found.source for found in operations.list_unseen(COPY.action)]
        run = [found.id for found in operations.list_run(1)]

    assert unseen == [b"/%d.jpg" % number for number in range(10) if number != 4]
    assert run == list(range(20, 0, -1))


def test_another_file_is_not_used(path: Path) -> None:
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE mine (x)")
    database.commit()
    database.close()

    with pytest.raises(OutputError, match="another program or version") as refused:
        Operations(path, dry_run=False)
    assert "move it away" in refused.value.remedy
    path.write_text("no database at all, but a text that is long enough to be read")
    with pytest.raises(OutputError, match="not a database"):
        Operations(path, dry_run=True)


def test_a_record_with_other_tables_is_refused(path: Path) -> None:
    Operations(path, dry_run=False).__exit__(None, None, None)
    with sqlite3.connect(path) as database:
        database.execute("ALTER TABLE operations DROP COLUMN after_run")
    database.close()
    before = path.read_bytes()

    for dry_run in (True, False):
        with pytest.raises(OutputError, match="its tables are different") as refused:
            Operations(path, dry_run=dry_run)
    assert "move it away" in refused.value.remedy
    assert path.read_bytes() == before


def test_a_symbolic_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.symlink_to(tmp_path / "elsewhere")

    for dry_run in (False, True):
        with pytest.raises(OutputError, match=r"record of operations .* not a regular") as refused:
            Operations(path, dry_run)
        assert refused.value.remedy.startswith("move it away")
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_or_pipe_is_refused_with_a_remedy_that_helps(path: Path) -> None:
    path.mkdir()
    with pytest.raises(OutputError, match=r"record of operations .* not a regular") as refused:
        Operations(path, dry_run=False)
    assert refused.value.remedy.startswith("move it away")
    path.rmdir()
    os.mkfifo(f"{path}-journal")
    with pytest.raises(OutputError, match=r"record of operations .*-journal is not") as refused:
        Operations(path, dry_run=True)
    assert refused.value.remedy == "remove that file, then run again"


def test_a_dry_run_makes_no_file(path: Path) -> None:
    with Operations(path, dry_run=True) as operations:
        assert operations.find_current(b"", b"") is None
    assert not path.exists()


def test_a_dry_run_leaves_an_empty_file_empty(path: Path) -> None:
    path.touch()
    with Operations(path, dry_run=True) as operations:
        assert operations.find_last_run() is None
    assert path.read_bytes() == b""


def test_the_file_cannot_be_executed(path: Path) -> None:
    with Operations(path, dry_run=False):
        pass
    assert not stat.S_IMODE(path.stat().st_mode) & 0o111


def test_it_is_beside_the_report_or_in_the_folder_for_state(tmp_path: Path) -> None:
    report = tmp_path / "r.csv"
    assert find_operations_path(report, Path()) == tmp_path / ".r.csv.applied"
    url = find_operations_path(Url("s3://bucket/r.csv"), tmp_path)
    assert url.parent == tmp_path
    assert url.suffix == ".applied"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("kind", "mbke"), ("kind", "remove"), ("how", "copz"), ("number", "x")),
        *(
            ("target", None),
            ("target", b"out/a.jpg"),
            ("target", b"/out/\0a.jpg"),
            ("target", "/t"),
        ),
        *(
            ("source", 7),
            ("digest", "text"),
            ("wanted", b""),
            ("wanted", b"/o/a"),
            ("draft", b"/a.jpg"),
        ),
    ],
)
def test_a_damaged_operation_is_refused(path: Path, column: str, value: object) -> None:
    with Operations(path, dry_run=False) as operations:
        (made,) = operations.record_intents([COPY])
        operations.complete(made, "s", "t")
    with sqlite3.connect(path) as database:
        database.execute(f"UPDATE operations SET {column} = ?", (value,))
    database.close()

    with Operations(path, dry_run=True) as operations:
        reads = (
            lambda: operations.find_current(COPY.action, COPY.source),
            lambda: list(operations.list_run(1)),
            lambda: list(operations.list_unseen(COPY.action)),
        )
        refusals = []
        for read in reads:
            try:
                read()
            except OutputError as error:
                refusals.append(error)

    assert refusals
    assert all("record of operations" in refused.problem for refused in refusals)
    assert all("move it away" in refused.remedy for refused in refusals)
