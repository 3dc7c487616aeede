"""The command ``apply``, on reports that the command itself wrote."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.files.lock import hold_lock
from tests.conftest import REPOSITORY
from tests.support.applying import list_files, make_row, write_report
from tests.support.runs import RunFolder, make_photos, unprivileged_prefix, wait_for, wait_for_end

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths are bytes on Linux")


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    """Photos that the tiny model labelled."""
    place = RunFolder(tmp_path)
    make_photos(tmp_path / "photos", 12)
    place.label("--min-confidence", "0")
    return place


def run_listing(place: RunFolder, *args: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "batch", "apply", *args],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", "/"])
def test_reports_of_all_formats_are_applied(place: RunFolder, suffix: str) -> None:
    report = f"report{suffix}"
    place.run("photos", "-o", report, "--min-confidence", "0")
    labels = [row["label"] for row in place.rows().values() if row["status"] == "ok"]

    ran = place.command("apply", report, "--copy-to", "out", "--yes")

    assert ran.returncode == 0, ran.stderr
    counts = ", ".join(f"{label} {labels.count(label)}" for label in sorted(set(labels)))
    made = [name.split("/")[0] for name in list_files(place.folder / "out")]
    assert sorted(made) == sorted(labels)
    assert len(labels) > 2
    assert f"{len(labels)} copied (" in ran.stderr
    assert all(part in ran.stderr for part in counts.split(", "))
    undone = place.command("apply", report, "--undo", "--yes")
    assert f"{len(labels)} operations undone (copies and links {len(labels)})" in undone.stderr


def test_photos_are_selected_by_faces_too(place: RunFolder) -> None:
    place.run("photos", "-o", "faces.csv", "--per-face", "--min-confidence", "0")

    ran = place.command("apply", "faces.csv", "--where", "face = 1", "--copy-to", "out", "--yes")

    assert ran.returncode == 0, ran.stderr
    assert " copied " in ran.stderr


def test_a_photo_goes_to_the_folder_of_its_first_matching_face(tmp_path: Path) -> None:
    make_photos(tmp_path / "photos", 1)
    rows = [
        make_row(tmp_path, "photos/00000.jpg", label=label, status=status, face=str(number))
        for number, (label, status) in enumerate(
            (("sad", "unsure"), ("happy", "ok"), ("sad", "ok")), start=1
        )
    ]
    write_report(tmp_path / "r.csv", rows, face=True)

    RunFolder(tmp_path).command("apply", "r.csv", "--copy-to", "out", "--yes")

    assert list_files(tmp_path / "out") == ["happy/00000.jpg"]


def test_the_list_is_for_xargs_and_rsync(place: RunFolder) -> None:
    labelled = [path for path, row in place.rows().items() if row["status"] == "ok"]

    shown = run_listing(place, "r.csv", "--list", "-", "--null")
    assert shown.returncode == 0
    assert shown.stdout == b"".join(path.encode() + b"\0" for path in labelled)
    assert b"nothing was changed" not in shown.stderr

    assert run_listing(place, "r.csv", "--list", "list.txt").returncode == 0
    assert not (place.folder / "list.txt").exists()
    assert run_listing(place, "r.csv", "--list", "list.txt", "--yes").returncode == 0
    assert (place.folder / "list.txt").read_text().splitlines() == labelled
    if shutil.which("rsync"):
        subprocess.run(
            ["rsync", "--files-from=list.txt", ".", "copied"], cwd=place.folder, check=True
        )
        assert list_files(place.folder / "copied") == sorted(labelled)


def test_strange_names_are_listed_as_they_are(tmp_path: Path) -> None:
    guarded = [b"-rf.jpg", b"#rec.jpg", b";1.jpg"]
    names = [*guarded, b"\xff.jpg", "ü 1.jpg".encode(), b"new\nline.jpg", b"return\r.jpg"]
    make_photos(tmp_path, 1)
    rows = []
    for name in names:
        shutil.copy(tmp_path / "00000.jpg", tmp_path / os.fsdecode(name))
        rows.append(make_row(tmp_path, os.fsdecode(name)))
    write_report(tmp_path / "r.csv", rows)
    place = RunFolder(tmp_path)

    shown = run_listing(place, "r.csv", "--list", "-", "--null")
    assert shown.stdout.split(b"\0")[:-1] == [*(b"./" + name for name in guarded), *names[3:]]

    lines = run_listing(place, "r.csv", "--list", "-")
    assert lines.stdout.split(b"\n")[:-1] == [*(b"./" + name for name in guarded), *names[3:5]]
    assert lines.returncode == 3
    assert b"2 with a line break in its name, which needs --null" in lines.stderr

    if shutil.which("rsync"):
        (tmp_path / "list.txt").write_bytes(lines.stdout)
        subprocess.run(["rsync", "--files-from=list.txt", ".", "copied"], cwd=tmp_path, check=True)
        copied = [os.fsencode(name) for name in list_files(tmp_path / "copied")]
        assert sorted(copied) == sorted(names[:5])


def test_photos_in_archives_are_listed_without_being_read(tmp_path: Path) -> None:
    rows = [make_row(tmp_path, "zip://a.jpg::photos.zip", sha256="0" * 64)]
    write_report(tmp_path / "r.csv", rows)

    shown = run_listing(RunFolder(tmp_path), "r.csv", "--list", "-")

    assert shown.stdout == b"zip://a.jpg::photos.zip\n"


def test_the_list_does_not_replace_a_photo_or_the_report(place: RunFolder) -> None:
    for name in ("photos/00000.jpg", "r.csv"):
        before = (place.folder / name).read_bytes()
        ran = place.command("apply", "r.csv", "--list", name, "--yes")
        assert ran.returncode in (1, 2)
        assert (place.folder / name).read_bytes() == before


@pytest.mark.parametrize(
    "name",
    [
        *("r.csv.reviews.csv", ".r.csv.applied", ".r.csv.journal", ".r.csv.journal-wal"),
        *(".r.csv.lock", "r.csv.run.json", "photos/../r.csv.reviews.csv", "r.csv.history"),
    ],
)
def test_the_list_does_not_replace_a_file_of_the_report(place: RunFolder, name: str) -> None:
    for execute in ((), ("--yes",)):
        ran = place.command("apply", "r.csv", "--list", name, *execute)
        assert ran.returncode == 2, ran.stderr
        assert "is a file of the report; name another file" in ran.stderr


def test_the_list_is_not_a_part_of_a_dataset(place: RunFolder) -> None:
    place.run("photos", "-o", "report/", "--min-confidence", "0")
    before = list_files(place.folder / "report")

    ran = place.command("apply", "report/", "--list", "report/list.txt", "--yes")

    assert ran.returncode == 2
    assert "is a file of the report" in ran.stderr
    assert list_files(place.folder / "report") == before


def test_a_pipe_takes_the_list_and_stays(place: RunFolder) -> None:
    pipe = place.folder / "pipe"
    os.mkfifo(pipe)
    assert place.command("apply", "r.csv", "--list", "pipe").returncode == 0  # a dry run

    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        ran = place.command("apply", "r.csv", "--list", "pipe", "--yes")
        read, _ = reader.communicate(timeout=20)

    assert ran.returncode == 0, ran.stderr
    assert read == run_listing(place, "r.csv", "--list", "-").stdout != b""
    assert pipe.is_fifo()


def test_a_signal_ends_the_wait_for_the_reader_of_a_pipe(place: RunFolder) -> None:
    os.mkfifo(place.folder / "pipe")
    process = place.start_command("apply", "r.csv", "--list", "pipe", "--yes")
    wait_for(lambda: (place.folder / ".r.csv.applied").exists(), process)
    process.terminate()
    ran = wait_for_end(process)

    assert ran.returncode == 143, ran.stderr
    assert "stopped by SIGTERM" in ran.stderr
    assert (place.folder / "pipe").is_fifo()


def test_a_device_is_written_in_place(place: RunFolder) -> None:
    device = place.folder / "null"
    try:
        os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        pytest.skip("no devices can be made or used here")

    ran = place.command("apply", "r.csv", "--list", "null", "--yes")

    assert ran.returncode == 0, ran.stderr
    assert device.is_char_device()


def test_a_closed_pipe_ends_the_list_silently(place: RunFolder) -> None:
    command = f"{sys.executable} -m batch apply r.csv --list - | true"
    ran = subprocess.run(
        ["bash", "-c", command],
        cwd=place.folder,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "add --copy-to"),
        (("--undo", "--copy-to", "out"), "--undo goes with no action"),
        (("--copy-to", "out", "--where", "lable = 1"), "no such column: lable"),
        (("--copy-to", "out", "--faces"), "add --xmp"),
        (("--copy-to", "out", "--move-to", "other"), "apply the report twice"),
        (("--list", "s3://bucket/list"), "is a URL"),
        (("--undo",), "nothing to undo"),
    ],
)
def test_a_wrong_command_line_is_refused_before_any_work(
    place: RunFolder, args: tuple[str, ...], words: str
) -> None:
    ran = place.command("apply", "r.csv", *args, *(("--yes",) if args else ()))

    assert ran.returncode == ExitCode.USAGE
    assert words in ran.stderr
    assert not (place.folder / "out").exists()


def test_a_report_on_a_pipe_is_refused(place: RunFolder) -> None:
    ran = place.command("apply", "/dev/stdin", "--copy-to", "out")

    assert ran.returncode == ExitCode.USAGE
    assert "save the report as a file" in ran.stderr


def test_one_process_applies_a_report_at_a_time(place: RunFolder) -> None:
    record = place.folder / ".r.csv.applied"
    with hold_lock(str(record)):
        ran = place.command("apply", "r.csv", "--copy-to", "out", "--yes")
        assert ran.returncode == ExitCode.LOCKED
        assert "run with --wait" in ran.stderr
        assert place.command("apply", "r.csv", "--copy-to", "out").returncode == 0  # a dry run
        waiting = place.start_command("apply", "r.csv", "--copy-to", "out", "--yes", "--wait")
        assert waiting.stderr is not None
        assert "waiting" in waiting.stderr.readline()
    assert waiting.wait(timeout=30) == 0
    waiting.communicate()


def test_a_signal_ends_it_cleanly_and_the_next_run_continues(tmp_path: Path) -> None:
    place = RunFolder(tmp_path)
    number = 1_500
    make_photos(tmp_path / "photos", number)
    rows = [make_row(tmp_path, f"photos/{name}") for name in list_files(tmp_path / "photos")]
    write_report(tmp_path / "r.csv", rows)
    process = place.start_command("apply", "r.csv", "--copy-to", "out", "--yes")
    wait_for(lambda: (tmp_path / "out/happy").exists(), process)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)

    assert process.returncode == ExitCode.TERMINATED, stderr
    assert "run the same command again" in stderr
    made = list_files(tmp_path / "out")
    assert 0 < len(made) < number
    assert not any(".batch-label-" in name for name in made)
    again = place.command("apply", "r.csv", "--copy-to", "out", "--yes")
    assert f"{len(made):,} done already" in again.stderr
    assert len(list_files(tmp_path / "out")) == number


def test_folders_that_cannot_be_written_are_named(place: RunFolder) -> None:
    prefix = unprivileged_prefix()
    (place.folder / "closed").mkdir(mode=0o555)
    ran = place.command("apply", "r.csv", "--copy-to", "closed", "--yes", before=prefix)
    assert ran.returncode == 1
    assert "permission denied (owner" in ran.stderr

    (place.folder / "photos").chmod(0o555)
    try:
        moved = place.command("apply", "r.csv", "--move-to", "out", "--yes", before=prefix)
    finally:
        (place.folder / "photos").chmod(0o755)
    assert moved.returncode == ExitCode.INCOMPLETE
    assert "can't be written" in moved.stderr
    assert list_files(place.folder / "out") == []
    assert len(list_files(place.folder / "photos")) == 12
