"""Query plans of the journal: queries per photo search by an index."""

from __future__ import annotations

from pathlib import Path

import pytest

from batch.journal import schema
from batch.journal.journal import CHUNK_ROWS, Journal
from batch.journal.schema import FIND_KNOWN, INSERT_PENDING, NEXT_PENDING
from tests.batch.journal.test_journal import BASIS, A, path

__all__ = ["path"]

PER_PHOTO = ("FIND_KNOWN", "IS_ACCEPTED", "MARK_KEPT", "KEEP_UNREADABLE", "DROP_UNREADABLE")
QUERIES = {name: query for name, query in vars(schema).items() if name.startswith("NEXT_")}


@pytest.mark.parametrize(
    "query",
    [*QUERIES.values(), *(vars(schema)[name] for name in PER_PHOTO)],
    ids=[*QUERIES, *PER_PHOTO],
)
def test_queries_per_photo_and_per_chunk_search_by_an_index(path: Path, query: str) -> None:
    values = {
        "after": b"",
        "basis": BASIS,
        "chunk": CHUNK_ROWS,
        "all": True,
        "size": 1,
        "digest": b"",
    }
    with Journal(path, BASIS) as journal:
        _plan_steps(journal, query, values if ":" in query else (b"",) * query.count("?"))


def test_known_files_are_searched_by_path(path: Path) -> None:
    values = {"all": False, "basis": BASIS, "ignore_inode": False}
    with Journal(path, BASIS) as journal:
        plan = journal._database.execute(f"EXPLAIN QUERY PLAN {INSERT_PENDING}", values).fetchall()
    steps = [step[3] for step in plan]
    assert steps[0] == "SCAN found"
    assert steps[1].startswith("SEARCH photos USING PRIMARY KEY (path=?)")
    assert len(steps) == 2


def test_of_many_copies_one_is_read(path: Path) -> None:
    with Journal(path, BASIS) as journal:
        values = {"size": 1, "digest": b"", "basis": BASIS, "after": 0, "chunk": 1}
        searches = {
            query: [
                step.partition(" USING ")[2]
                for *_, step in journal._database.execute(f"EXPLAIN QUERY PLAN {query}", values)
                if step.startswith("SEARCH")
            ]
            for query in (FIND_KNOWN, NEXT_PENDING)
        }
    assert searches[FIND_KNOWN] == [
        "INDEX photos_by_content (size=? AND basis=? AND digest=?)",
        "INDEX unreadable_by_content (size=? AND basis=? AND digest=?)",
    ]
    assert searches[NEXT_PENDING][2:] == [
        "INDEX photos_by_content (size=? AND basis=? AND digest>?)",
        "COVERING INDEX unreadable_by_content (size=? AND basis=?)",
    ]


@pytest.mark.parametrize(
    "query",
    [
        schema.FIND_MISSING,
        schema.COUNT_MISSING,
        schema.DELETE_MISSING,
        schema.DELETE_MISSING_UNREADABLE,
    ],
)
def test_queries_per_run_scan_one_table_at_most(path: Path, query: str) -> None:
    with Journal(path, BASIS) as journal:
        journal.plan_run([A], fresh=False, verify=False)
        _plan_steps(journal, query, (), scans=1)


def _plan_steps(journal: Journal, query: str, values: object, scans: int = 0) -> None:
    rows = journal._database.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall()  # type: ignore[arg-type]
    steps = [row[3] for row in rows]
    assert any(step.startswith("SEARCH") for step in steps), steps
    assert sum(step.startswith("SCAN") for step in steps) <= scans, steps
    assert not any("TEMP B-TREE" in step or "AUTOMATIC" in step for step in steps), steps
