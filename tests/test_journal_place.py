from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.journal.errors import JournalDamaged
from batch.journal.place import APPLICATION_AT, SQLITE_MAGIC, journal_path, set_aside
from batch.journal.schema import APPLICATION_ID
from batch.options import Job, Memory

DAMAGE = JournalDamaged("file is not a database")


def _job(output: str | Path, state: Path | None = None) -> Job:
    return Job(photos=("photos",), output=str(output), memory=Memory(state=state))


def test_the_journal_lies_hidden_beside_the_report(tmp_path: Path) -> None:
    assert journal_path(_job(tmp_path / "r.csv")) == tmp_path / ".r.csv.journal"
    assert journal_path(_job(tmp_path / "r.jsonl")) == tmp_path / ".r.jsonl.journal"


def test_it_lies_beside_the_file_that_a_link_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "there" / "r.csv")
    assert journal_path(_job(tmp_path / "link.csv")) == tmp_path / "there" / ".r.csv.journal"


@pytest.mark.parametrize("output", ["-", "/dev/stdout", "/dev/null"])
def test_a_stream_has_none_unless_it_is_asked_for(tmp_path: Path, output: str) -> None:
    assert journal_path(_job(output)) is None
    assert journal_path(_job(output, tmp_path / "state")) == tmp_path / "state"


def test_a_pipe_has_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "r.csv")
    assert journal_path(_job(tmp_path / "r.csv")) is None


def test_a_journal_of_one_s_own_may_lie_anywhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "state")
    assert journal_path(_job(tmp_path / "r.csv", tmp_path / "link")) == tmp_path / "state"


def test_a_damaged_journal_is_renamed_and_nothing_is_lost(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    for content in (b"first", b"second"):
        journal.write_bytes(content)
        (tmp_path / "j-journal").write_bytes(b"what belongs to it")
        assert set_aside(journal, DAMAGE, given=False) == tmp_path / "j.broken"
        assert (tmp_path / "j.broken").read_bytes() == content
        assert not journal.exists()
        assert not (tmp_path / "j-journal").exists()


JOURNAL_HEAD = SQLITE_MAGIC.ljust(APPLICATION_AT, b"?") + APPLICATION_ID.to_bytes(4, "big")


@pytest.mark.parametrize("content", [b"", JOURNAL_HEAD, JOURNAL_HEAD + b"damaged"])
def test_one_that_was_given_is_renamed_if_it_was_a_journal(tmp_path: Path, content: bytes) -> None:
    journal = tmp_path / "j"
    journal.write_bytes(content)
    assert set_aside(journal, DAMAGE, given=True).read_bytes() == content


@pytest.mark.parametrize(
    "content", [b"\xff\xd8\xff\xe0 a JPEG", b"x", SQLITE_MAGIC, SQLITE_MAGIC.ljust(100, b"?")]
)
def test_anything_else_that_was_given_is_left_alone(tmp_path: Path, content: bytes) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(content)
    with pytest.raises(OutputError, match=r"photo\.jpg is no journal .*--state"):
        set_aside(photo, DAMAGE, given=True)
    assert photo.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


def test_one_that_can_t_be_renamed_ends_the_run(tmp_path: Path) -> None:
    journal = tmp_path / "j"
    journal.write_bytes(b"damaged")
    (tmp_path / "j.broken").mkdir()
    with pytest.raises(OutputError, match="Is a directory"):
        set_aside(journal, DAMAGE, given=False)
    assert journal.read_bytes() == b"damaged"
