"""Every file that is found has a row, and the tally line has the right sums."""

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


def tally_of(rows: list[Row]) -> Tally:
    tally = Tally(("happy", "sad"), found=len(rows))
    for row in rows:
        tally.add_processed(FinishedFile(row))
        tally.add(row)
    return tally


def test_every_status_and_label_is_counted() -> None:
    rows = [labelled("happy")] * 5 + [labelled("sad")] * 3 + [labelled("sad", sure=False)] * 2
    nobody = [abstained(Status.NEITHER), *[abstained(Status.NO_PERSON)] * 3]
    tally = tally_of([*rows, *nobody, NO_FACE, FAILED])
    for name, why in (("new\nline", "hidden"), ("b.zip", "archive"), (".c", "hidden")):
        tally.add_skipped(Path(name), why)
    tally.seconds = 2.5
    tally.check()
    assert tally.summary_text() == (
        "16 found = 8 ok + 2 unsure + 1 neither + 3 no_person + 1 no_face + 1 failed "
        "(happy 5, sad 3); 3 skipped (2 hidden, 1 archive): new\\nline and 2 more; "
        "16 photos in 2.5 s, 6.4 photos/s"
    )


def test_an_empty_run_has_a_summary_too() -> None:
    assert Tally(("happy", "sad")).summary_text() == (
        "0 found = 0 ok + 0 unsure + 0 neither + 0 no_person + 0 no_face + 0 failed "
        "(happy 0, sad 0); 0 skipped; 0 photos in 0.0 s"
    )


def test_an_interrupted_run_does_not_claim_to_be_done() -> None:
    tally = tally_of([labelled("happy")])
    tally.found = 3
    assert tally.summary_text().startswith("3 found, 1 done = 1 ok + ")
    assert "; 1 photo in" in tally.summary_text()


@pytest.mark.parametrize("found", [1, 3])
def test_a_missing_or_extra_row_is_an_error(found: int) -> None:
    tally = tally_of([labelled("happy"), NO_FACE])
    tally.found = found
    with pytest.raises(BatchLabelError, match=f"found {found} files but has rows for 2"):
        tally.check()


def test_a_file_must_be_labelled_now_or_reused() -> None:
    tally = tally_of([labelled("happy"), NO_FACE])
    tally.add(NO_FACE)
    tally.found = 3
    with pytest.raises(BatchLabelError, match="found 3 files but labelled 2 and reused 0"):
        tally.check()
    tally.unchanged = 1
    tally.check()
    assert "; 1 reused; " in tally.summary_text()


def test_a_copied_row_is_reused_and_a_missing_one_is_not_found() -> None:
    tally = Tally(("happy", "sad"), found=1)
    tally.add_processed(FinishedFile(labelled("sad"), copied=True))
    tally.add(labelled("sad"))
    tally.add(replace(labelled("sad"), missing=True))
    tally.check()
    assert (tally.labelled_now, tally.reused, tally.missing) == (0, 1, 1)
    assert "; 1 with the bytes of known photos; 1 missing; " in tally.summary_text()
    assert "reused" not in tally.summary_text(), "it may be the first run"


def test_a_salvaged_photo_is_counted_and_is_not_a_failure() -> None:
    tally = tally_of([labelled("happy"), replace(labelled("sad"), salvaged="no end")])
    assert (tally.salvaged, tally.exit_code) == (1, ExitCode.OK)
    assert "; 1 salvaged; 0 skipped" in tally.summary_text()


def test_only_failed_files_make_the_run_incomplete() -> None:
    assert Tally(()).exit_code is ExitCode.OK
    assert tally_of([NO_FACE, labelled("sad", sure=False)]).exit_code is ExitCode.OK
    assert tally_of([abstained(Status.NO_PERSON)]).exit_code is ExitCode.OK
    assert tally_of([NO_FACE, FAILED]).exit_code is ExitCode.INCOMPLETE
