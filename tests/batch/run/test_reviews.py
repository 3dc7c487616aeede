"""People's answers in the reports of real runs with the shipped model."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import ExitCode
from batch.files.lock import hold_lock
from batch.reading.reviews import read_review_file
from tests.conftest import REPOSITORY, Command
from tests.support.datasets import files
from tests.support.object_store import Bucket, bucket, find_missing_s3_package, s3_server
from tests.support.review_data import review_rows, write_review
from tests.support.runs import find_drafts, make_photos, wait_for

__all__ = ["bucket", "s3_server"]  # fixtures

RIGHT = {"photos/00000.jpg": "sad", "photos/00001.jpg": "neither", "photos/00003.jpg": "happy"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three portraits and a cup."""
    return make_photos(tmp_path / "photos", 4)


def rows_of(report: Path) -> dict[str, dict[str, str]]:
    with report.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


def answers_of(report: Path) -> dict[str, str]:
    """Return the answers that people gave, by path."""
    reviewed = {path: r for path, r in rows_of(report).items() if r["source"] == "review"}
    assert {row["confidence"] for row in reviewed.values()} <= {"1.0000"}
    return {path: row["label"] or row["status"] for path, row in reviewed.items()}


def label(command: Command, *args: str, code: int = 0) -> str:
    ran = command("photos", "-o", "r.csv", *args)
    assert ran.returncode == code, ran.stderr
    return ran.stderr


def apply(command: Command, *args: str | Path, code: int = 0) -> str:
    ran = command("review", "apply", *args)
    assert ran.returncode == code, ran.stderr
    assert "Traceback" not in ran.stderr
    return ran.stderr


def read_counts(folder: Path) -> dict[str, object]:
    counts: dict[str, object] = json.loads((folder / "r.csv.run.json").read_bytes())["counts"]
    return counts


def save_review(folder: Path, answers: dict[str, str], name: str = "review.csv") -> Path:
    return write_review(folder / name, review_rows(folder / "r.csv", answers))


def test_answers_stay_wherever_the_photos_move(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    label(command, "--metrics-file", "m.prom")
    report = tmp_path / "r.csv"
    before = report.read_bytes()
    model = rows_of(report)
    said = apply(command, save_review(tmp_path, RIGHT), "r.csv")
    assert "r.csv.reviews.csv: 3 reviews, now 3 new" in said
    assert "3 rows with a person's answer; 3 reviews applied" in said
    assert answers_of(report) == RIGHT
    for path, row in rows_of(report).items():
        changed = {name for name, value in row.items() if value != model[path][name]}
        assert changed <= {"status", "label", "confidence", "source"}
        assert bool(changed) == (path in RIGHT)
    applied = report.read_bytes()
    log = label(command, "--metrics-file", "m.prom")
    assert report.read_bytes() == applied
    assert "3 reviews applied" in log
    assert "; 3 reviewed; " in log
    assert 'batch_label_photos_reviewed{report="' in (tmp_path / "m.prom").read_text()
    assert "nothing has changed" in label(command)
    counts = read_counts(tmp_path)
    assert (counts["reviewed"], counts["unmatched_reviews"]) == (3, 0)
    statuses = [row["status"] for row in rows_of(report).values()]
    assert counts["by_status"] == {
        status: statuses.count(status)
        for status in ("ok", "unsure", "neither", "no_person", "no_face", "failed")
    }

    (photos / "moved").mkdir()
    shutil.move(photos / "00000.jpg", photos / "moved" / "a.jpg")
    shutil.copy(photos / "00001.jpg", photos / "copy.jpg")
    (photos / "00003.jpg").unlink()
    log = label(command, "--max-gone", "100%", "--fresh")
    assert answers_of(report) == {
        "photos/00001.jpg": "neither",
        "photos/copy.jpg": "neither",
        "photos/moved/a.jpg": "sad",
    }
    assert "1 not (no row of the report is about their photo or face)" in log
    counts = read_counts(tmp_path)
    assert (counts["reviewed"], counts["unmatched_reviews"]) == (3, 1)

    shutil.move(photos / "moved" / "a.jpg", photos / "00000.jpg")
    (photos / "copy.jpg").unlink()
    make_photos(photos, 4)
    assert "kept as" in label(command, "--forget-reviews", "--max-gone", "100%")
    assert report.read_bytes() == before
    backup = tmp_path / "r.csv.reviews.old-1.csv"
    assert len(list(read_review_file(backup))) == 3
    assert "nothing has changed" in label(command)
    assert not (tmp_path / "r.csv.reviews.csv").exists()


def test_a_lost_or_cut_reviews_file_is_noticed(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    label(command)
    apply(command, save_review(tmp_path, RIGHT), "r.csv")
    label(command)
    applied, reviews = (tmp_path / "r.csv").read_bytes(), tmp_path / "r.csv.reviews.csv"
    whole = reviews.read_bytes()
    reviews.write_bytes(whole[:-30])
    refused = label(command, code=ExitCode.USAGE)
    assert "r.csv.reviews.csv, line 4 is damaged (it has " in refused
    assert (tmp_path / "r.csv").read_bytes() == applied
    record = json.loads((tmp_path / "r.csv.run.json").read_bytes())
    assert "line 4 is damaged" in record["error"]
    reviews.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert "has 2 reviews, but had 3 at the last report: unless" in label(command)
    assert "but had" not in label(command)
    reviews.unlink()
    assert "has 0 reviews, but had 2 at the last report" in label(command)
    assert answers_of(tmp_path / "r.csv") == {}


def test_drift_is_about_the_answers_of_the_models(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    label(command)
    apply(command, save_review(tmp_path, RIGHT), "r.csv")
    journal, references = tmp_path / ".r.csv.journal", list[tuple[str]]()
    for _ in range(2):
        with closing(sqlite3.connect(journal)) as database:
            references += database.execute("SELECT value FROM notes WHERE name = 'reference'")
        journal.unlink()
        label(command)
        assert answers_of(tmp_path / "r.csv") == RIGHT
    assert references[0] == references[1]


def test_changed_and_failed_photos_keep_the_rows_of_the_run(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    label(command)
    apply(command, save_review(tmp_path, RIGHT), "r.csv")
    Image.new("RGB", (64, 64)).save(photos / "00000.jpg")
    (photos / "00001.jpg").write_bytes(b"broken")
    label(command, code=ExitCode.INCOMPLETE)
    assert answers_of(tmp_path / "r.csv") == {"photos/00003.jpg": "happy"}
    assert read_counts(tmp_path)["unmatched_reviews"] == 2


def test_answers_of_several_people_are_merged_and_counted(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    label(command)
    rows = review_rows(tmp_path / "r.csv", RIGHT)
    first = write_review(tmp_path / "1.csv", rows[:2])
    second = write_review(
        tmp_path / "2.csv",
        [
            rows[0],
            rows[1] | {"label": "sad"},
            rows[2] | {"label": "blue"},
            rows[2] | {"sha256": ""},
            rows[2] | {"sha256": "0a" * 32},
        ],
    )
    said = apply(command, first, second, "r.csv")
    assert "3 reviews, now 3 new, 1 same, 1 changed, " in said
    assert "1 unusable (the model has no label blue), 1 unusable (no SHA-256" in said
    assert "\nif a class was renamed, replace its old name in the reviews\n" in said
    assert "2 reviews applied; 1 not (no row of" in said
    assert answers_of(tmp_path / "r.csv") == {"photos/00000.jpg": "sad", "photos/00001.jpg": "sad"}
    # A page that is made now shows the corrections, but the model's answers are kept for training.
    again = save_review(tmp_path, {"photos/00000.jpg": "happy"})
    assert "1 changed" in apply(command, again, "r.csv")
    kept = {line.path: line for line in read_review_file(tmp_path / "r.csv.reviews.csv")}
    assert (kept["photos/00000.jpg"].said, kept["photos/00000.jpg"].label) == ("happy", "happy")
    assert kept["photos/00000.jpg"].confidence == float(str(rows[0]["confidence"]))


def test_faces_get_their_own_answers(
    command: Command, tmp_path: Path, astronaut: Image.Image
) -> None:
    (tmp_path / "photos").mkdir()
    group = Image.new("RGB", (1024, 512))
    for left in (0, 512):
        group.paste(astronaut, (left, 0))
    group.save(tmp_path / "photos" / "group.jpg")
    label(command, "--per-face")
    face = review_rows(tmp_path / "r.csv", {"photos/group.jpg": "sad"}, face="2")
    photo = [{**face[0], "face": "", "label": "neither"}]
    review = write_review(tmp_path / "review.csv", [*face, *photo])
    said = apply(command, review, "r.csv")
    assert "1 row with a person's answer; 1 review applied; 1 not (no row" in said
    applied = (tmp_path / "r.csv").read_bytes()
    with (tmp_path / "r.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["source"], second["source"], second["label"]) == ("face", "review", "sad")
    label(command, "--per-face")
    assert (tmp_path / "r.csv").read_bytes() == applied
    assert read_counts(tmp_path)["reviewed"] == 1
    # In a report with one row per photo, the answer about the photo counts.
    label(command)
    assert answers_of(tmp_path / "r.csv") == {"photos/group.jpg": "neither"}


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl", "r.parquet", "r/"])
def test_any_format_gets_the_bytes_of_the_next_run(
    command: Command, photos: Path, tmp_path: Path, name: str
) -> None:
    label(command)
    review = save_review(tmp_path, RIGHT)
    place = tmp_path / name
    assert command("photos", "-o", name, "-q").returncode == 0

    def read() -> object:
        return files(place) if name == "r/" else place.read_bytes()

    before = read()
    apply(command, review, name.removesuffix("/"))
    applied = read()
    assert command("photos", "-o", name).returncode == 0
    assert before != applied == read()


def test_merged_shards_get_the_answers_too(command: Command, photos: Path, tmp_path: Path) -> None:
    label(command)
    apply(command, save_review(tmp_path, RIGHT), "r.csv")
    applied = (tmp_path / "r.csv").read_bytes()
    for n in (1, 2):
        assert command("photos", "-o", f"{n}.csv", "--shard", f"{n}/2", "-q").returncode == 0
    assert "is the report of a shard" in apply(command, "review.csv", "1.csv", code=ExitCode.USAGE)
    merged = command("merge", "1.csv", "2.csv", "-o", "r.csv")
    assert merged.returncode == 0, merged.stderr
    assert "; 3 reviewed; " in merged.stderr
    assert (tmp_path / "r.csv").read_bytes() == applied
    (tmp_path / "r.csv.reviews.csv").write_text("damaged")
    assert command("merge", "1.csv", "2.csv", "-o", "r.csv").returncode == ExitCode.USAGE
    assert (tmp_path / "r.csv").read_bytes() == applied


def test_what_can_not_be_corrected_is_refused(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    label(command)
    review = save_review(tmp_path, RIGHT)
    whole = (tmp_path / "r.csv").read_text()
    (tmp_path / "old.csv").write_text(whole.replace(",sha256,", ",digest,"))
    (tmp_path / "more.csv").write_text(whole.replace(",camera,", ",lens,"))
    (tmp_path / "bad.csv").write_text(whole.replace(",ok,", ",fine,", 1))
    (tmp_path / "r.xlsx").write_bytes(b"")
    wrong = save_review(tmp_path, {"photos/00000.jpg": "blue"}, "wrong.csv")
    refusals: dict[tuple[str | Path, str], str] = {
        (review, "old.csv"): "has no column `sha256`",
        (review, "more.csv"): "does not have the columns of a report of this version",
        (review, "bad.csv"): "line 2 is damaged (status fine",
        (review, "r.xlsx"): "is only written",
        (review, "none.csv"): "No such file",
        (review, "-"): "has no reviews file",
        ("r.csv", "r.csv"): "does not have the columns path,sha256",
        (wrong, "r.csv"): "if a class was renamed, replace its old name in the reviews",
    }
    for args, message in refusals.items():
        assert message in apply(command, *args, code=ExitCode.USAGE)
    assert (tmp_path / "r.csv").read_text() == whole
    assert not list(tmp_path.glob("*.reviews.csv"))
    assert "--forget-reviews has no effect" in command("photos", "--forget-reviews").stderr


def test_a_killed_command_leaves_the_earlier_or_the_corrected_report(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    label(command)
    report = tmp_path / "r.csv"
    header, *rows = report.read_text().splitlines(keepends=True)
    report.write_text(header + "".join(rows) * 50_000)  # takes seconds
    whole = report.read_bytes()
    review = save_review(tmp_path, RIGHT)
    process = subprocess.Popen(
        [sys.executable, "-m", "batch", "review", "apply", review, "r.csv"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(REPOSITORY)},
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: bool(find_drafts(tmp_path, "r.csv")), process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert report.read_bytes() == whole
    assert not (tmp_path / "r.csv.reviews.csv").exists()
    apply(command, review, "r.csv")
    assert answers_of(report) == RIGHT
    assert not find_drafts(tmp_path, "r.csv")


def test_two_commands_at_once_lose_nothing(command: Command, photos: Path, tmp_path: Path) -> None:
    label(command)
    review = save_review(tmp_path, RIGHT)
    with hold_lock(str(tmp_path / "r.csv")):
        busy = apply(command, review, "r.csv", code=ExitCode.LOCKED)
        assert "another run is writing the report" in busy
        command_line = [sys.executable, "-m", "batch", "review", "apply", "--wait"]
        reviews = [
            save_review(tmp_path, {path: answer}, f"{Path(path).stem}.csv")
            for path, answer in RIGHT.items()
        ]
        environment = {"PYTHONPATH": str(REPOSITORY)}
        waiting = [
            subprocess.Popen(
                [*command_line, review, "r.csv"],
                cwd=tmp_path,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
            for review in reviews
        ]
        for process in waiting:
            assert process.stderr is not None
            assert process.stderr.readline() == "batch-label: waiting for another process to end\n"
    for process in waiting:
        process.communicate(timeout=60)
    assert [process.returncode for process in waiting] == [0, 0, 0]
    assert answers_of(tmp_path / "r.csv") == RIGHT


@pytest.mark.skipif(find_missing_s3_package() is not None, reason="no client for S3")
def test_a_report_in_a_store_has_its_reviews_in_the_state_folder(
    command: Command, photos: Path, tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    label(command)
    review, url = save_review(tmp_path, RIGHT), bucket.url("r.csv")
    assert command("photos", "-o", url, "-q").returncode == 0
    assert "3 reviews applied" in apply(command, review, url)
    applied = bucket.read("r.csv")
    assert applied.count(b",review,") == 3
    (reviews,) = (tmp_path / "state" / "batch-label").glob("*.reviews.csv")
    assert len(list(read_review_file(reviews))) == 3
    ran = command("photos", "-o", url)
    assert "3 reviews applied" in ran.stderr
    assert bucket.read("r.csv") == applied
