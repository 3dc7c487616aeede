"""Applying reviews to a report that another program could have written."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from batch.errors import OutputError
from batch.path_text import path_text
from batch.reports.columns import column_names
from batch.reports.report import ReportWriter
from batch.reviewing.apply_reviews import Applied, ReviewJob, apply_reviews
from batch.reviewing.reviews_file import Addition
from batch.stopping import stop_on_signals
from tests.support.review_data import Row, write_review

SHA256 = "0a" * 32
COLUMNS = column_names(("happy", "sad"), per_face=False)
ROW = {"path": "a.jpg", "status": "ok", "label": "happy", "confidence": "0.9000", "sha256": SHA256}


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "r.csv"
    cells = ",".join(ROW.get(name, "") for name in COLUMNS)
    path.write_text(f"{','.join(COLUMNS)}\n{cells}\n")
    return path


def apply(report: Path, *labels: str) -> Applied:
    rows: list[Row] = [{"path": "a.jpg", "sha256": SHA256, "label": label} for label in labels]
    review = write_review(report.with_name("review.csv"), rows)
    with stop_on_signals() as stop:
        return apply_reviews(ReviewJob((review,), str(report)), io.BytesIO(), stop)


def test_reviews_are_kept_if_the_report_can_not_be_published(
    report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: ReportWriter) -> None:
        raise OutputError("no space", "make some")

    before = report.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(ReportWriter, "publish", fail)
        with pytest.raises(OutputError):
            apply(report, "sad")
    assert report.read_bytes() == before
    again = apply(report, "sad")
    assert (again.additions, again.total, again.rows) == ({Addition.SAME: 1}, 1, 1)
    assert b"a.jpg,ok,sad,1.0000,,,review," in report.read_bytes()


def test_the_reviews_file_has_the_report_s_owner_and_mode(report: Path) -> None:
    report.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(report, 12345, 12346)
    before = report.stat()
    apply(report, "sad")
    for path in (report, report.with_name("r.csv.reviews.csv")):
        after = path.stat()
        assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
        assert after.st_mode == before.st_mode


def test_nothing_to_add_applies_what_is_known(report: Path) -> None:
    apply(report, "sad", "happy")
    report.write_bytes(report.read_bytes().replace(b",review,", b",face,"))
    again = apply(report)
    assert (again.additions, again.total, again.rows) == ({}, 1, 1)
    assert again.summary == "1 review applied"
    assert path_text(again.reviews).endswith("r.csv.reviews.csv")
    assert b"a.jpg,ok,happy,1.0000,,,review," in report.read_bytes()


def test_a_report_without_rows_has_none_to_correct(tmp_path: Path) -> None:
    report = tmp_path / "r.csv"
    report.write_text(",".join(COLUMNS) + "\n")
    assert apply(report, "sad").summary.startswith("0 reviews applied; 1 not (no row")
