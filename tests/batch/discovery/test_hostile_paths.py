"""Whole runs over folders with unusual file names and special files."""

from __future__ import annotations

import csv
import json
import os
import shutil
import socket
from pathlib import Path

import pytest

from batch.errors import ExitCode
from batch.path_text import FORMULA_STARTS, parse_path_text
from batch.vision.read_file import read_file_with_state
from tests.support.runs import REPORT, RunFolder, make_photos, unprivileged_prefix

ODD_NAMES = [
    *(f"{start}cmd|' :c calc'!A0.jpg".encode() for start in FORMULA_STARTS),
    *(b"\t=1.jpg", b"\r=1.jpg", b"\n=1.jpg", b"a;=1.jpg", b"a; +1.jpg", b'a";=1.jpg', b"a,=1.jpg"),
    *(b"\x1b[2J\x1b]0;title\x07.jpg", b"\x9b31m.jpg", b"\x7f\x08.jpg", b"two\nlines.jpg"),
    *(b"\xff\xfe.jpg", b"\xc3.jpg", b"\xed\xa0\x80.jpg", b"back\\slash.jpg", b"\\n.jpg"),
    *(b" .jpg", b"--help.jpg", b"*.jpg", b"[a].jpg", b"$(id).jpg", b"'.jpg", b'".jpg', b"%s.jpg"),
    "\u202egpj.exe.jpg".encode(),
    *("\u00e9.jpg".encode(), "e\u0301.jpg".encode()),  # the same letter in the two forms of Unicode
    *(b"n" * 251 + b".jpg", "\u00fc".encode() * 125 + b".jpg"),  # the longest that there are
]
# A pattern, for names that begin the path: a folder would be in front of them.
ODD = "*.jp[g]"
BAD = "\x1b[31m\x07\u202e"
CONTROLS = {chr(code) for code in (*range(0x20), *range(0x7F, 0xA0), 0x202E)} - {"\n"}


@pytest.fixture
def place(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def odd(place: RunFolder) -> list[Path]:
    """Photos with odd names and a file that is not a photo, in the order of their names' bytes."""
    (photo,) = make_photos(place.folder / "photos", 1).iterdir()
    for name in ODD_NAMES:
        shutil.copy(photo, Path(os.fsdecode(os.fsencode(place.folder) + b"/" + name)))
    (place.folder / "\x1b[31mbroken\n.jpg").write_bytes(b"\x1b[31m")
    names = (path.name for path in place.folder.glob(ODD))
    return [Path(name) for name in sorted(names, key=os.fsencode)]


def is_harmless(shown: str) -> bool:
    """Return whether text is valid UTF-8 without control characters for a terminal."""
    shown.encode()
    return not CONTROLS & set(shown)


def test_every_odd_name_has_its_row_in_every_format(place: RunFolder, odd: list[Path]) -> None:
    assert len(odd) == len(ODD_NAMES) + 1
    for name in (REPORT, "r.jsonl"):
        assert place.run(ODD, "-o", name).returncode == ExitCode.INCOMPLETE
    with place.report.open(newline="", encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    lines = (place.folder / "r.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["path"] for line in lines] == paths
    assert list(map(parse_path_text, paths)) == odd
    assert is_harmless(place.report.read_text(encoding="utf-8"))
    # By the journal, too, each is known again.
    assert place.run(ODD, "-o", REPORT).returncode == ExitCode.INCOMPLETE
    assert place.counts()["labelled_now"] == 1, "but for the one that failed"


def test_no_cell_is_a_formula_whichever_separator_a_spreadsheet_takes(
    place: RunFolder, odd: list[Path]
) -> None:
    place.run(ODD, "-o", REPORT)
    for separator in (",", ";"):
        with place.report.open(newline="", encoding="utf-8") as file:
            cells = [cell for row in csv.reader(file, delimiter=separator) for cell in row]
        assert len(cells) > len(odd)
        assert not [cell for cell in cells if cell.strip(" ").startswith(FORMULA_STARTS)]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_output_line_has_terminal_control_characters(
    place: RunFolder, odd: list[Path], form: str
) -> None:
    for arguments in (
        [ODD, "-o", f"{BAD}.csv"],
        [ODD, "-o", f"{BAD}/r.csv"],
        [ODD, "-m", f"{BAD}.onnx"],
        [ODD, "-o", REPORT, "--state", f"{BAD}/state"],
        [ODD, "-o", REPORT, "--deadline", BAD],
        [f"{BAD}*"],
    ):
        ran = place.run(*arguments, "--log-format", form)
        assert is_harmless(ran.stdout + ran.stderr), arguments
        assert ran.stdout or ran.stderr
        if form == "json":
            assert all(json.loads(line)["event"] for line in ran.stderr.splitlines())


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_list_of_paths_is_utf8_in_any_locale(
    place: RunFolder, odd: list[Path], encoding: str
) -> None:
    process = place.start(ODD, "--dry-run", PYTHONIOENCODING=encoding)
    stdout, stderr = process.communicate()
    assert process.returncode == ExitCode.OK, stderr
    assert [parse_path_text(line) for line in stdout.splitlines()] == odd


def test_links_and_special_files_are_not_read(place: RunFolder) -> None:
    inside = make_photos(place.folder / "photos", 2)
    outside = make_photos(place.folder / "outside", 2, first=5)
    (inside / "link.jpg").symlink_to(outside / "00005.jpg")
    (inside / "folder").symlink_to(outside)
    (inside / "zero.jpg").symlink_to("/dev/zero")
    (inside / "loop").symlink_to(".")
    (inside / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(inside / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(inside / "s.jpg"))
        ran = place.run("photos", "-o", REPORT)
        assert ran.returncode == ExitCode.OK
        assert "7 skipped" in ran.stderr
        rows = place.rows()
        assert {path: row["error"].partition(":")[0] for path, row in rows.items()} == {
            "photos/00000.jpg": "",
            "photos/00001.jpg": "",
        }
        assert place.run("photos", "-o", REPORT, "--follow-symlinks").returncode == 3
    rows = place.rows()
    assert {path.removeprefix("photos/"): row["error"].partition(":")[0]
            for path, row in rows.items()} == {
        "00000.jpg": "", "00001.jpg": "", "folder/00005.jpg": "", "folder/00006.jpg": "",
        "self.jpg": "unreadable",
    }  # fmt: skip


def test_a_folder_without_permission_is_a_row(place: RunFolder) -> None:
    photos = make_photos(place.folder / "photos", 2)
    (photos / "locked").mkdir()
    (photos / "locked" / "lost.jpg").touch()
    (photos / "locked").chmod(0)
    try:
        ran = place.run("photos", "-o", REPORT, before=unprivileged_prefix())
    finally:
        (photos / "locked").chmod(0o755)
    assert ran.returncode == ExitCode.INCOMPLETE
    assert place.rows()["photos/locked"]["error"].startswith(
        "unreadable: permission denied (owner "
    )


def test_a_file_that_grows_while_it_is_read_is_not_read_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "growing.jpg"
    path.write_bytes(b"12345")
    look = os.fstat

    def look_and_grow(descriptor: int) -> os.stat_result:
        status = look(descriptor)
        with path.open("ab") as file:
            file.write(b"0" * 1000)
        return status

    monkeypatch.setattr(os, "fstat", look_and_grow)
    found = read_file_with_state(path)
    assert isinstance(found, tuple)
    data, state = found
    assert state.size is not None
    assert len(data) == state.size + 1
