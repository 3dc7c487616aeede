"""The run's count: every file found has a row, and the line's sums are right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from batch.errors import BatchLabelError, ExitCode
from batch.records import Answer, Failure, FinishedFile, Reason, Row, Stage, Status
from batch.tally import Tally

PATH = Path("a.jpg")
FAILED = Row(PATH, Status.FAILED, failure=Failure(PATH, Stage.READ, Reason.EMPTY, "no bytes"))
NO_FACE = Row(PATH, Status.NO_FACE)


def labelled(label: str, sure: bool = True) -> Row:
    status = Status.OK if sure else Status.UNSURE
    return Row(PATH, status, Answer(status, label, 0.9, {"happy": 0.9, "sad": 0.1}))


def abstained(status: Status) -> Row:
    return Row(PATH, status, Answer(status, None, 0.8, {}))


def summary_of(rows: list[Row]) -> Tally:
    summary = Tally(("happy", "sad"), found=len(rows))
    for row in rows:
        summary.add_processed(FinishedFile(row))
        summary.add(row)
    return summary


def test_every_status_and_label_is_counted() -> None:
    rows = [labelled("happy")] * 5 + [labelled("sad")] * 3 + [labelled("sad", sure=False)] * 2
    nobody = [abstained(Status.NEITHER), *[abstained(Status.NO_PERSON)] * 3]
    summary = summary_of([*rows, *nobody, NO_FACE, FAILED])
    for why in ("hidden", "archive", "hidden"):
        summary.add_skipped(PATH, why)
    summary.seconds = 2.5
    summary.check()
    assert summary.summary_text() == (
        "16 found = 8 ok + 2 unsure + 1 neither + 3 no_person + 1 no_face + 1 failed "
        "(happy 5, sad 3); 3 skipped (2 hidden, 1 archive); 16 photos in 2.5 s, 6.4 photos/s"
    )


def test_an_empty_run_has_a_line_too() -> None:
    assert Tally(("happy", "sad")).summary_text() == (
        "0 found = 0 ok + 0 unsure + 0 neither + 0 no_person + 0 no_face + 0 failed "
        "(happy 0, sad 0); 0 skipped; 0 photos in 0.0 s"
    )


def test_an_interrupted_run_does_not_claim_to_be_done() -> None:
    summary = summary_of([labelled("happy")])
    summary.found = 3
    assert summary.summary_text().startswith("3 found, 1 done = 1 ok + ")
    assert "; 1 photo in" in summary.summary_text()


@pytest.mark.parametrize("found", [1, 3])
def test_a_row_too_few_or_too_many_is_an_error(found: int) -> None:
    summary = summary_of([labelled("happy"), NO_FACE])
    summary.found = found
    with pytest.raises(BatchLabelError, match=f"found {found} files but has rows for 2"):
        summary.check()


def test_a_file_must_be_labelled_now_or_reused() -> None:
    summary = summary_of([labelled("happy"), NO_FACE])
    summary.add(NO_FACE)
    summary.found = 3
    with pytest.raises(BatchLabelError, match="found 3 files, but labelled 2 and reused 0"):
        summary.check()
    summary.unchanged = 1
    summary.check()
    assert "; 1 reused; " in summary.summary_text()


def test_a_copied_row_is_reused_and_a_missing_one_is_not_found() -> None:
    summary = Tally(("happy", "sad"), found=1)
    summary.add_processed(FinishedFile(labelled("sad"), copied=True))
    summary.add(labelled("sad"))
    summary.add(replace(labelled("sad"), missing=True))
    summary.check()
    assert (summary.labelled_now, summary.reused, summary.missing) == (0, 1, 1)
    assert "; 1 with the bytes of known photos; 1 missing; " in summary.summary_text()
    assert "reused" not in summary.summary_text(), "it may be the first run"


def test_what_was_salvaged_is_told_and_no_failure() -> None:
    summary = summary_of([labelled("happy"), replace(labelled("sad"), salvaged="no end")])
    assert (summary.salvaged, summary.exit_code) == (1, ExitCode.OK)
    assert "; 1 salvaged; 0 skipped" in summary.summary_text()


def test_only_failed_files_make_the_run_incomplete() -> None:
    assert Tally(()).exit_code is ExitCode.OK
    assert summary_of([NO_FACE, labelled("sad", sure=False)]).exit_code is ExitCode.OK
    assert summary_of([abstained(Status.NO_PERSON)]).exit_code is ExitCode.OK
    assert summary_of([NO_FACE, FAILED]).exit_code is ExitCode.INCOMPLETE
