"""The data of a page, and how a page is published."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from batch.cli.main import cli
from batch.errors import ExitCode, OutputError, ReportError, UsageError
from batch.page.make import SCRIPTS, STYLES, PageJob, check_page_output, make_page
from batch.reading.diff import Change
from batch.recording.drift import Drift
from batch.recording.run_record import (
    Outcome,
    RunCounts,
    RunRecord,
    StageSeconds,
    describe_host,
    to_json,
)
from batch.records import Reason, Row, Source
from batch.reports.dataset import SUCCESS_FILE
from batch.reports.formats import READABLE_FORMATS, Format
from batch.reports.report import open_report
from tests.batch.reports.test_report import many
from tests.conftest import REPOSITORY, Command
from tests.support.page_rows import (
    EVERY_ROW,
    LABELS,
    OUTPUTS,
    ROWS,
    make_answered_row,
    make_failed_row,
    make_report_page,
    page_data,
    write_photos,
    write_report,
)

PAGES = REPOSITORY / "batch" / "page"


def test_rows_are_stored_as_columns(tmp_path: Path) -> None:
    page, made = make_report_page(write_report(tmp_path / "r.csv"), gallery=0)
    data = page_data(page)
    rows = data["rows"]
    assert (made.rows, made.report_rows, made.pictures, made.size) == (7, 7, 0, page.stat().st_size)
    assert data["reportDigest"] == hashlib.sha256((tmp_path / "r.csv").read_bytes()).hexdigest()
    assert rows["folders"] == ["album/", "other/"]
    assert rows["folder"] == [0, 0, 0, 1, 1, 1, 1]
    assert rows["confidence"] == [9500, 8500, 5500, 6200, -1, -1, -1]
    assert rows["label"] == [0, 1, 0, 1, -1, -1, -1]
    assert rows["box"] == [[1700, 600, 1100, 1300]] * 3 + [[]] * 4
    assert data["totals"]["byStatus"] == {
        "ok": 2, "unsure": 2, "neither": 0, "no_person": 0, "no_face": 1, "failed": 2,
    }  # fmt: skip
    assert data["reasons"] == [["empty", 1], ["truncated", 1]]


def test_abstentions_have_a_confidence_and_no_label(tmp_path: Path) -> None:
    data = page_data(
        make_report_page(write_report(tmp_path / "r.csv", EVERY_ROW, OUTPUTS), gallery=0)[0]
    )
    assert data["labels"] == ["happy", "sad"]
    assert data["totals"]["byAbstain"] == [["neither", 1], ["no_person", 1]]
    assert data["totals"]["byLabel"] == [["happy", 1, 1], ["sad", 1, 1]]
    assert data["rows"]["label"][-2:] == [-1, -1]
    assert data["rows"]["confidence"][-2:] == [9000, 4000]
    assert sum(count for _, count in data["totals"]["byConfidence"]) == 6


def test_a_report_of_a_model_without_abstain_outputs_has_no_totals_of_them(tmp_path: Path) -> None:
    data = page_data(make_report_page(write_report(tmp_path / "r.csv"), gallery=0)[0])
    assert data["totals"]["byAbstain"] == []
    assert data["abstain"] == ["neither", "no_person"]  # correct answers for any photo


@pytest.mark.parametrize("form", READABLE_FORMATS)
def test_every_format_gives_the_same_page(tmp_path: Path, form: Format) -> None:
    pytest.importorskip("pyarrow")
    page, _ = make_report_page(write_report(tmp_path / f"r{form}"), gallery=0)
    csv_page, _ = make_report_page(write_report(tmp_path / "other" / "r.csv"), gallery=0)
    mine, its = page_data(page), page_data(csv_page)
    for one in (mine, its):
        del one["reportDigest"], one["series"], one["title"]
    assert mine == its


@pytest.mark.parametrize("per_face", [False, True], ids=["photos", "faces"])
def test_a_dataset_gives_the_same_page(tmp_path: Path, per_face: bool) -> None:
    pytest.importorskip("pyarrow")
    of_file, of_dataset = tmp_path / "file", tmp_path / "dataset"
    for folder, output in ((of_file, "{}.csv"), (of_dataset, "{}/")):
        folder.mkdir()
        for name, rows in (
            ("results", ROWS),
            ("old", [*ROWS[1:6], make_answered_row("gone.jpg", 0.9)]),
        ):
            with open_report(
                f"{folder}/{output.format(name)}", LABELS, per_face, io.BytesIO()
            ) as file:
                for row in rows:
                    file.add(row)
                file.publish()
    pages = [
        make_report_page(of_file / "results.csv", of_file / "old.csv", gallery=0)[0],
        make_report_page(of_dataset / "results", of_dataset / "old", gallery=0)[0],
    ]
    assert pages[1] == of_dataset / "results.html"
    mine, its = map(page_data, pages)
    listed = (of_dataset / "results" / SUCCESS_FILE).read_bytes()
    assert its["reportDigest"] == hashlib.sha256(listed).hexdigest()
    assert (its["title"], its["editions"][0]["name"]) == ("results", "old")
    for one in (mine, its):
        del one["reportDigest"], one["series"], one["title"]
        del one["changes"]["since"]
        for edition in one["editions"]:
            del edition["name"], edition["when"]
    assert mine == its


def test_a_page_of_a_dataset_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    with open_report(f"{tmp_path}/results/", LABELS, False, io.BytesIO()) as file:
        file.add(ROWS[0])
        file.publish()
    monkeypatch.chdir(tmp_path / "results")
    ran = report(".", "--gallery", "0")
    assert ran.exit_code == 0, ran.stderr
    assert (tmp_path / "results.html").exists()
    ran = report(".", "-o", "page.html")
    assert ran.exit_code == ExitCode.USAGE
    assert f"page.html would be inside the dataset {tmp_path}/results" in ran.stderr
    (tmp_path / "results" / SUCCESS_FILE).unlink()
    ran = report(tmp_path / "results")
    assert ran.exit_code == ExitCode.USAGE
    assert "is not a dataset, or was never finished: it has no _SUCCESS" in ran.stderr


def test_a_page_is_the_same_every_time(tmp_path: Path, astronaut: Image.Image) -> None:
    write_photos(tmp_path, ROWS, astronaut)
    report = write_report(tmp_path / "r.csv")
    assert make_report_page(report)[0].read_bytes() == make_report_page(report)[0].read_bytes()


def test_the_policy_names_the_script_by_its_digest(tmp_path: Path) -> None:
    text = make_report_page(write_report(tmp_path / "r.csv"), gallery=0)[0].read_text()
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    assert f"script-src 'sha256-{digest}';" in policy[1]
    assert policy[1].startswith("default-src 'none';")
    assert text.index("Content-Security-Policy") < text.index("<style>")
    # The elements of the page, and no other.
    assert len(re.findall("<script", text)) == len(re.findall("</script>", text)) == 4


def test_all_resources_are_in_the_page_and_no_script_writes_markup() -> None:
    assert {path.name for path in PAGES.glob("*.js")} == set(SCRIPTS)
    assert {path.name for path in PAGES.glob("*.css")} == set(STYLES)
    for path in PAGES.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|</"
        assert not re.search(forbidden, text), path.name
        assert len(text.splitlines()) <= 200, path.name


def test_a_long_report_keeps_only_its_least_certain_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch.page.gather.MAX_ROWS", 3)
    page, made = make_report_page(write_report(tmp_path / "r.csv"), gallery=0)
    data = page_data(page)
    assert data["rows"]["name"] == ["c.jpg", "f.jpg", "g.jpg"]
    assert (made.rows, made.report_rows, data["totals"]["rows"]) == (3, 7, 7)
    reviewed = replace(ROWS[0], source=Source.REVIEW)
    page, _ = make_report_page(write_report(tmp_path / "r.csv", [reviewed, *ROWS[1:]]), gallery=0)
    assert page_data(page)["rows"]["name"] == ["a.jpg", "f.jpg", "g.jpg"]


def test_changes_are_those_since_the_last_of_several_reports(tmp_path: Path) -> None:
    first = write_report(tmp_path / "first.csv", [*ROWS[:2], make_answered_row("gone.jpg", 0.9)])
    last = write_report(
        tmp_path / "last.csv",
        [make_answered_row("album/a.jpg", 0.1), *ROWS[1:6], make_failed_row("h.jpg")],
    )
    # The record of a run tells its time better than the file does, which may be a copy.
    Path(f"{first}.run.json").write_text(record_of(datetime(2020, 1, 1, tzinfo=UTC)))
    page, _ = make_report_page(write_report(tmp_path / "now.csv"), last, first, gallery=0)
    data = page_data(page)
    assert [edition["name"] for edition in data["editions"]] == ["first.csv", "last.csv", "now.csv"]
    assert data["editions"][0]["when"] == "2020-01-01 00:00 UTC"
    assert data["changes"]["gone"] == ["h.jpg"]
    assert data["changes"]["note"] == ""
    assert data["changed"] == [[0, "relabelled", "sad", ""], [6, "new", "", ""]]
    counts = {change: count for change, count, _ in data["changes"]["counts"]}
    assert counts == dict.fromkeys(Change, 0) | {"new": 1, "gone": 1, "relabelled": 1}


def test_a_moved_photo_has_its_earlier_path_and_answer(tmp_path: Path) -> None:
    old = [
        make_answered_row("a.jpg", 0.9, content=b"1"),
        make_answered_row("b.jpg", 0.9, content=b"2"),
        make_answered_row("c.jpg", 0.9, content=b"3"),
    ]
    new = [
        make_answered_row("x/a.jpg", 0.9, content=b"1"),
        make_answered_row("bb.jpg", 0.1, content=b"2"),
        make_answered_row("c.jpg", 0.9, content=b"4"),
    ]
    reports = write_report(tmp_path / "now.csv", new), write_report(tmp_path / "old.csv", old)
    data = page_data(make_report_page(*reports, gallery=0)[0])
    assert data["changed"] == [[0, "moved", "", "a.jpg"], [1, "renamed", "happy", "b.jpg"]]
    assert data["changes"]["gone"] == []


def test_the_page_says_if_moves_can_t_be_told(tmp_path: Path) -> None:
    old = tmp_path / "old.csv"
    old.write_text("path,status,label,confidence,p_happy,p_sad,error\na.jpg,ok,sad,0.9,0,1,\n")
    data = page_data(make_report_page(write_report(tmp_path / "r.csv"), old, gallery=0)[0])
    assert "can't be told" in data["changes"]["note"]
    assert "old.csv lacks the column sha256" in data["changes"]["note"]


def record_of(ended: datetime, **fields: Any) -> str:
    """Write the record of a run that published a report."""
    record = RunRecord(
        *(
            Outcome.DONE,
            0,
            True,
            None,
            ended,
            ended,
            "/r.csv",
            ("photos",),
            StageSeconds(),
            RunCounts(),
        ),
        *((), None, "cpu", (), {}, {}, describe_host(1)),
    )
    return json.dumps(to_json(replace(record, **fields)))


def test_a_drift_says_what_to_do_about_it(tmp_path: Path) -> None:
    report = write_report(tmp_path / "r.csv")
    place = Path(f"{report}.run.json")
    text = "the mean confidence is 0.61, not 0.83 as in earlier runs"
    drift = Drift(200, 0.61, None, None, -0.22, (text,))

    place.write_text(record_of(datetime.now(UTC), drift=drift))
    assert page_data(make_report_page(report, gallery=0)[0])["warnings"] == [
        f"{text}; look at the new photos of the report, and if they are labelled correctly, run "
        "once with --accept-drift"
    ]

    error = f"the answers have drifted: {text}; look at the new photos"
    failed = record_of(datetime.now(UTC), drift=drift, outcome=Outcome.DRIFTED, error=error)
    place.write_text(failed)
    assert page_data(make_report_page(report, gallery=0)[0])["warnings"] == [error]


def test_the_page_says_that_the_distance_from_the_training_data_is_no_warning(
    tmp_path: Path,
) -> None:
    report = write_report(tmp_path / "r.csv")
    drift = Drift(200, 0.9, 0.25, 0.505, 0.0, ())
    Path(f"{report}.run.json").write_text(record_of(datetime.now(UTC), drift=drift))
    data = page_data(make_report_page(report, gallery=0)[0])
    assert not data["warnings"]
    assert dict(data["facts"])["Drift"] == (
        "25.0% from earlier runs, 50.5% from the training data (for information only: no folder "
        "has the shares of the training data)"
    )


def test_a_run_that_published_no_report_is_a_warning(
    tmp_path: Path, photos: Path, command: Command
) -> None:
    assert command(photos, "-o", "r.csv").returncode == 0
    (photos / "new.jpg").write_bytes(b"\xff\xd8\xff")
    assert command(photos, "-o", "r.csv", "--max-failures", "0").returncode == 1
    page, _ = make_report_page(tmp_path / "r.csv", gallery=0)
    data = page_data(page)
    assert "published no report (failed)" in data["warnings"][0]
    assert dict(data["facts"])["Inputs"] == str(photos)


def test_texts_of_a_run_record_that_are_not_unicode_are_escaped(tmp_path: Path) -> None:
    report = write_report(tmp_path / "r.csv")
    texts = {"error": "a\udcffb\nc\ud800", "provider": "\udcff"}
    record = json.loads(record_of(datetime.now(UTC))) | texts
    Path(f"{report}.run.json").write_text(json.dumps(record))
    data = page_data(make_report_page(report, gallery=0)[0])
    assert data["warnings"][-1] == r"a\xFFb\nc\xED\xA0\x80"
    assert dict(data["facts"])["Provider"] == r"\xFF"


@pytest.mark.parametrize(
    "damage",
    [
        {"devices": [{}], "versions": 7},
        {"schema_version": 99},
        {"seconds": {"wall": math.inf}},
        {"started": "0001-01-01T00:00:00+14:00"},
    ],
)
def test_an_unusable_run_record_is_reported(tmp_path: Path, damage: dict[str, Any]) -> None:
    report = write_report(tmp_path / "r.csv")
    record = json.loads(record_of(datetime.now(UTC))) | damage
    Path(f"{report}.run.json").write_text(json.dumps(record))
    data = page_data(make_report_page(report, gallery=0)[0])
    assert data["facts"] == []
    assert data["warnings"] == [
        "The run record r.csv.run.json can't be read, is damaged, or is of another release: this "
        "page lacks the facts and the warnings of the last run."
    ]


def test_a_report_without_a_run_record_has_no_facts(tmp_path: Path) -> None:
    data = page_data(make_report_page(write_report(tmp_path / "r.csv"), gallery=0)[0])
    assert (data["facts"], data["warnings"]) == ([], [])


def test_a_fault_of_the_program_is_not_taken_for_a_damaged_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(record: RunRecord) -> list[str]:
        raise AttributeError("no such name")

    report = write_report(tmp_path / "r.csv")
    Path(f"{report}.run.json").write_text(record_of(datetime.now(UTC)))
    monkeypatch.setattr("batch.page.content._list_warnings", fail)
    with pytest.raises(AttributeError):
        make_report_page(report, gallery=0)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("photo.jpg", "end its name in .html"),
        ("results.csv", "end its name in .html"),
        ("no/such/folder/r.html", "no/such/folder"),
    ],
)
def test_an_invalid_output_is_an_error_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, OutputError), match=re.escape(words)):
        check_page_output(output)


def report(*args: str | Path) -> Any:
    return CliRunner().invoke(cli, ["report", *map(str, args)])


def test_the_command_publishes_beside_the_report(tmp_path: Path) -> None:
    results = write_report(tmp_path / "results.csv")
    ran = report(results, "--photos", tmp_path)
    assert ran.exit_code == 0, ran.stderr
    page = tmp_path / "results.html"
    assert ran.stderr.splitlines() == [
        f"{page}: 7 rows, 0 pictures, {page.stat().st_size / 1e6:.1f} MB",
        "5 photos not found; set their base folder with --photos",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results.csv", "results.html"]


def test_a_page_goes_to_standard_output(tmp_path: Path, command: Command) -> None:
    write_report(tmp_path / "results.csv", ROWS[:1])
    ran = command("report", "results.csv", "-o", "-")
    assert ran.returncode == 0
    assert ran.stdout.startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("a,b\n", "not a report"),
        ("path,status,label,confidence,error\na.jpg,odd,,,\n", "line 2"),
        ("path,status,label,confidence,error,source\na.jpg,ok,happy,0.9,,moon\n", "moon"),
        ("path,status,label,confidence,error,width,height\na.jpg,ok,happy,0.9,,x,1\n", "width x"),
        ("path,status,label,confidence,error,width,height\na.jpg,ok,happy,0.9,,inf,1\n", "width"),
    ],
)
def test_a_bad_report_is_an_error_that_names_it(
    tmp_path: Path, text: str | None, words: str
) -> None:
    results = tmp_path / "results.csv"
    if text is not None:
        results.write_text(text)
    ran = report(results)
    assert ran.exit_code == ExitCode.USAGE
    assert "results.csv" in ran.stderr
    assert words in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not (tmp_path / "results.html").exists()


def test_reports_of_other_labels_are_not_compared(tmp_path: Path) -> None:
    now = write_report(tmp_path / "now.csv", many(3))
    old = tmp_path / "old.csv"
    old.write_text("path,status,label,confidence,p_calm,p_angry,error\n")
    ran = report(now, "--previous", old)
    assert ran.exit_code == ExitCode.USAGE
    assert "calm, angry" in ran.stderr


def test_a_report_that_is_replaced_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = write_report(tmp_path / "r.csv")
    page, _ = make_report_page(results, gallery=0)
    before = page.read_bytes()

    def replaced(*_: object) -> bytes:
        write_report(results, ROWS[:2])
        return b"a page"

    monkeypatch.setattr("batch.page.make.build_document", replaced)
    with pytest.raises(ReportError, match="replaced while it was read"):
        make_report_page(results, gallery=0)
    assert page.read_bytes() == before


def test_without_the_plots_library_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "batch.page.plots", raising=False)
    monkeypatch.delitem(sys.modules, "batch.page.plots", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    request = PageJob(write_report(tmp_path / "r.csv"), str(tmp_path / "r.html"), tmp_path, 0)
    with pytest.raises(UsageError, match=re.escape("pip install 'batch-label[report]'")):
        make_page(request, io.BytesIO())


def test_help_loads_no_library() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from batch.cli.main import cli; "
        "CliRunner().invoke(cli, ['report', '--help']); "
        "print({'numpy', 'PIL', 'matplotlib'} & set(sys.modules))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert ran.stdout == "set()\n", ran.stderr


def test_a_row_kept_for_a_missing_photo_has_its_own_reason(tmp_path: Path) -> None:
    rows = [
        Row(
            make_failed_row("a.jpg").path,
            ROWS[5].status,
            failure=make_failed_row("a.jpg", Reason.CORRUPT).failure,
            missing=True,
        ),
        *many(2),
    ]
    data = page_data(make_report_page(write_report(tmp_path / "r.csv", rows), gallery=0)[0])
    assert data["reasons"] == [["corrupt", 1]]
    assert data["rows"]["missing"] == [0]
    assert data["totals"]["missing"] == 1
