from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch.journal.path import find_journal_path
from batch.options import Job, JournalOptions


def _job(output: str | Path, state: Path | None = None) -> Job:
    return Job(photos=("photos",), output=str(output), journal=JournalOptions(state=state))


def test_the_journal_lies_hidden_beside_the_report(tmp_path: Path) -> None:
    assert find_journal_path(_job(tmp_path / "r.csv")) == tmp_path / ".r.csv.journal"
    assert find_journal_path(_job(tmp_path / "r.jsonl")) == tmp_path / ".r.jsonl.journal"


def test_the_journal_lies_beside_the_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "there" / "r.csv")
    assert find_journal_path(_job(tmp_path / "link.csv")) == tmp_path / "there" / ".r.csv.journal"


@pytest.mark.parametrize("output", ["-", "/dev/stdout", "/dev/null"])
def test_a_stream_has_a_journal_only_if_it_is_given(tmp_path: Path, output: str) -> None:
    assert find_journal_path(_job(output)) is None
    assert find_journal_path(_job(output, tmp_path / "state")) == tmp_path / "state"


def test_a_pipe_has_no_journal(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.csv")
    assert find_journal_path(_job(tmp_path / "r.csv")) is None


def test_a_given_journal_may_lie_anywhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "state")
    assert find_journal_path(_job(tmp_path / "r.csv", tmp_path / "link")) == tmp_path / "state"
