"""The command line as a process: exit codes, and what is printed to which stream."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

import batch
from batch.cli.default_command import RESERVED_COMMANDS
from batch.cli.main import cli
from batch.errors import ExitCode
from tests.conftest import REPOSITORY, Command
from tests.support.tiny_models import bright_model, save_model


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_command_of_the_readme(command: Command, photos: Path, tmp_path: Path) -> None:
    ran = command("photos/", "-o", "results.csv")
    assert ran.returncode == ExitCode.OK, ran.stderr
    assert ran.stdout == ""
    rows = _rows(tmp_path / "results.csv")
    assert [row["path"] for row in rows] == [
        "photos/astronaut.jpg",
        "photos/coffee.jpg",
        "photos/sub/small.png",
    ]
    assert [row["source"] for row in rows] == ["face", "image", "face"]
    assert [row["faces"] for row in rows] == ["1", "0", "1"]
    assert [row["status"] for row in rows] == ["ok", "no_person", "ok"]
    assert [row["label"] for row in rows] == ["happy", "", "happy"]
    outputs = ("p_happy", "p_sad", "p_neither", "p_no_person")
    for row in rows:
        assert sum(float(row[output]) for output in outputs) == pytest.approx(1, abs=2e-4)
    assert rows[1]["confidence"] == rows[1]["p_no_person"]
    assert re.search(r"3 found = 2 ok .*\+ 1 no_person \+ 0 no_face \+ 0 failed", ran.stderr)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        ".results.csv.journal",
        "photos",
        "results.csv",
        "results.csv.run.json",
    ]


def test_a_face_model_alone_leaves_photos_without_a_face(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    ran = command("photos/", "-m", "happy-sad", "-o", "r.csv")
    assert ran.returncode == ExitCode.OK
    assert [row["status"] for row in _rows(tmp_path / "r.csv")] == ["ok", "no_face", "ok"]
    assert re.search(r"3 found = 2 ok .*\+ 1 no_face \+ 0 failed", ran.stderr)


def test_always_answer_gives_every_photo_a_label(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    assert command("photos/", "-o", "r.csv").returncode == ExitCode.OK
    usual_rows = _rows(tmp_path / "r.csv")
    ran = command("photos/", "-o", "r.csv", "--always-answer")
    assert ran.returncode == ExitCode.OK
    assert "0 to be labelled" in ran.stderr, "the probabilities are in the journal"
    rows = _rows(tmp_path / "r.csv")
    assert {row["status"] for row in rows} <= {"ok", "unsure"}
    assert {row["label"] for row in rows} <= {"happy", "sad"}
    for row, other in zip(rows, usual_rows, strict=True):
        assert [row[name] for name in row if name.startswith("p_")] == [
            other[name] for name in other if name.startswith("p_")
        ]
    assert float(rows[1]["confidence"]) >= 0.5, "its share among two labels"


def test_the_default_command_has_a_name_too(command: Command, photos: Path) -> None:
    assert command("label", "photos", "-o", "a.csv").returncode == ExitCode.OK


def test_csv_on_standard_output_by_default(command: Command, photos: Path) -> None:
    ran = command("photos/astronaut.jpg")
    (row,) = csv.DictReader(io.StringIO(ran.stdout))
    assert row["label"] == "happy"


def test_all_formats_have_the_same_rows(command: Command, photos: Path, tmp_path: Path) -> None:
    for name in ("r.csv", "r.jsonl", "r.parquet"):
        assert command("photos", "-q", "-o", name).returncode == ExitCode.OK
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [line["path"] for line in lines] == [row["path"] for row in _rows(tmp_path / "r.csv")]
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(tmp_path / "r.parquet")
    assert list(frame["label"].dropna()) == [line["label"] for line in lines if line["label"]]


def test_per_face_writes_one_row_per_face(
    command: Command, tmp_path: Path, astronaut: Image.Image
) -> None:
    pair = Image.new("RGB", (1024, 512))
    pair.paste(astronaut, (0, 0))
    pair.paste(astronaut, (512, 0))
    pair.save(tmp_path / "pair.png")
    assert command("pair.png", "--per-face", "-o", "r.csv").returncode == ExitCode.OK
    rows = _rows(tmp_path / "r.csv")
    assert [row["face"] for row in rows] == ["1", "2"]
    assert {row["faces"] for row in rows} == {"2"}


def test_a_list_on_standard_input(command: Command, photos: Path, tmp_path: Path) -> None:
    ran = command(
        "-", "-o", "r.csv", "-m", "happy-sad", input="photos/coffee.jpg\nphotos/gone.jpg\n"
    )
    assert ran.returncode == ExitCode.INCOMPLETE
    rows = _rows(tmp_path / "r.csv")
    assert [(row["path"], row["status"]) for row in rows] == [
        ("photos/coffee.jpg", "no_face"),
        ("photos/gone.jpg", "failed"),
    ]
    assert rows[1]["error"].startswith("vanished: ")


def test_a_dry_run_lists_and_writes_nothing(command: Command, photos: Path, tmp_path: Path) -> None:
    (photos / "notes.txt").write_text("no photo")
    ran = command("photos", "--dry-run", "-o", "r.csv")
    assert ran.returncode == ExitCode.OK
    assert ran.stdout.splitlines() == [
        "photos/astronaut.jpg",
        "photos/coffee.jpg",
        "photos/sub/small.png",
    ]
    assert ran.stderr.splitlines() == [
        "skipped: photos/notes.txt (no image)",
        "3 files found, 1 skipped (1 no image): photos/notes.txt",
    ]
    assert not (tmp_path / "r.csv").exists()


def test_a_run_that_finds_nothing_names_options_that_find_more(
    command: Command, tmp_path: Path
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for name in ("a.jpg", "b.jpg"):
        (links / name).symlink_to(tmp_path / "elsewhere.jpg")
    (links / "c.cr2").write_bytes(b"raw")
    ran = command("links", "-o", "r.csv")
    assert ran.returncode == ExitCode.OK
    assert (
        "0 photos found, 0 to be labelled: 3 skipped (2 symbolic link, 1 camera raw): "
        "links/a.jpg and 2 more; "
        "follow links with --follow-symlinks; include camera raws, by their previews, with --raws"
    ) in ran.stderr
    record = json.loads((tmp_path / "r.csv.run.json").read_text())
    assert record["counts"]["left_out_by_reason"] == {"symbolic link": 2, "camera raw": 1}


def test_quiet_logs_nothing_without_a_warning(command: Command, photos: Path) -> None:
    ran = command("photos", "-q", "-o", "r.csv")
    assert (ran.returncode, ran.stdout, ran.stderr) == (ExitCode.OK, "", "")


def test_files_that_could_not_be_read_are_rows_and_exit_code_3(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    (photos / "a-text.jpg").write_text("no photo at all")
    (photos / "b-empty.jpg").touch()
    (photos / "c-cut.jpg").write_bytes((photos / "astronaut.jpg").read_bytes()[:9000])
    # 20,000 x 20,000 pixels of one colour are a small file and 1.2 GB of pixels.
    Image.new("1", (20_000, 20_000)).save(photos / "d-bomb.png")
    ran = command("photos", "-q", "-o", "r.csv", "-m", "happy-sad")
    assert ran.returncode == ExitCode.INCOMPLETE
    assert re.search(r"7 found = 2 ok .*\+ 1 no_face \+ 4 failed", ran.stderr)
    errors = {row["path"]: row["error"].split(":")[0] for row in _rows(tmp_path / "r.csv")}
    assert {path: error for path, error in errors.items() if error} == {
        "photos/a-text.jpg": "not_an_image",
        "photos/b-empty.jpg": "empty",
        "photos/c-cut.jpg": "truncated",
        "photos/d-bomb.png": "too_large",
    }


def _without_root_capabilities() -> list[str]:
    """Drop root's capability to bypass file permissions."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root reads everything, and setpriv is not there to take that away")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def test_a_file_without_permission_is_a_row(photos: Path, tmp_path: Path) -> None:
    (photos / "coffee.jpg").chmod(0)
    ran = subprocess.run(
        [*_without_root_capabilities(), sys.executable, "-m", "batch", "photos"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == ExitCode.INCOMPLETE, ran.stderr
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    (error,) = (row["error"] for row in rows if row["error"])
    assert error.startswith("unreadable: permission denied (owner ")


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["nowhere/"], ExitCode.USAGE, ["nowhere", "spelling"]),
        (["nothing-*.jpg"], ExitCode.USAGE, ["nothing-*.jpg"]),
        (["photos", "-o", "no/such/folder/r.csv"], ExitCode.FAILED, ["no/such/folder", "-o"]),
        (["photos", "-o", "photos"], ExitCode.USAGE, ["is a folder", "write photos/", ".csv"]),
        (["photos", "-o", "new"], ExitCode.USAGE, ["report new has no suffix", "in /", ".csv"]),
        (["photos", "-o", "r.xls"], ExitCode.USAGE, [".csv", ".jsonl", ".parquet", ".xlsx"]),
        (["photos", "-m", "hapy-sad"], ExitCode.USAGE, ["did you mean happy-sad?", "people"]),
        (["photos", "-m", "photos/coffee.jpg"], ExitCode.FAILED, ["coffee.jpg", "not an ONNX"]),
        (["photos", "--provider", "tpu"], ExitCode.USAGE, ["tpu", "cuda"]),
        (["photos", "--min-confidence", "7"], ExitCode.USAGE, ["min-confidence"]),
        (["photos", "--min-confidence", "nan"], ExitCode.USAGE, ["min-confidence", "not a number"]),
        (["photos", "--batch-size", "0"], ExitCode.USAGE, ["batch-size"]),
        (["photos", "--max-fail", "2"], ExitCode.USAGE, ["--max-failures"]),
        (["help", "explian"], ExitCode.USAGE, ["no command 'explian'", "'explain'"]),
        ([], ExitCode.USAGE, ["PHOTOS"]),
    ],
)
def test_bad_input_gets_the_cause_the_remedy_and_its_exit_code(
    command: Command, photos: Path, args: list[str], code: ExitCode, words: list[str]
) -> None:
    ran = command(*args)
    assert ran.returncode == code
    assert ran.stdout == ""
    assert "Traceback" not in ran.stderr
    for word in words:
        assert word in ran.stderr


def test_a_foreign_model_is_an_error_that_names_the_broken_rule(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    model = bright_model()
    del model.metadata_props[:]
    save_model(model, tmp_path / "own.onnx")
    ran = command("photos", "-m", "own.onnx")
    assert ran.returncode == ExitCode.FAILED
    assert "schema_version" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_second_run_on_the_same_report_is_refused(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    with (tmp_path / ".r.csv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ran = command("photos", "-o", "r.csv")
    assert ran.returncode == ExitCode.LOCKED
    assert "r.csv" in ran.stderr
    assert not (tmp_path / "r.csv").exists()


@pytest.mark.parametrize("name", RESERVED_COMMANDS)
def test_reserved_command_names_are_not_folders(command: Command, name: str) -> None:
    ran = command(name)
    assert ran.returncode == ExitCode.USAGE
    assert f"./{name}" in ran.stderr


def test_a_folder_with_a_command_s_name_takes_a_dot(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    photos.rename(tmp_path / "label")
    assert command("./label", "-q", "-o", "r.csv").returncode == ExitCode.OK
    assert _rows(tmp_path / "r.csv")[0]["path"] == "label/astronaut.jpg"


def test_help_is_light_and_complete(command: Command) -> None:
    ran = command("--help")
    assert ran.returncode == ExitCode.OK
    for option in ("--output", "--model", "--provider", "--per-face", "--dry-run", "--version"):
        assert option in ran.stdout
    heavy = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "batch", "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    ).stderr
    for module in (
        "numpy",
        "onnx",
        "onnxruntime",
        "PIL",
        "pandas",
        "pyarrow",
        "torch",
        "xlsxwriter",
    ):
        assert f"| {module}\n" not in heavy.replace("  ", ""), module


def test_every_help_option_shows_the_same_page(command: Command) -> None:
    page = command("--help").stdout
    for name in cli.commands:
        assert f"\n  {name} " in page
    assert "..." not in page.partition("Commands:")[2].partition("Options:")[0]
    assert command("-h").stdout == command("help").stdout == page
    assert command("help", "merge").stdout == command("merge", "-h").stdout
    for code, args in ((ExitCode.OK, ["-h"]), (ExitCode.USAGE, [])):
        assert (ran := command(*args)).returncode == code
        assert ran.stdout + ran.stderr == page


def test_an_interrupt_while_the_program_is_loaded_is_quiet(tmp_path: Path) -> None:
    program = """
import os, signal, sys
import batch.__main__

class Interrupting:
    def find_spec(self, name, *_):
        if name == "batch.cli.main":
            os.kill(os.getpid(), signal.SIGINT)

assert "click" not in sys.modules
# Which what runs in a shell's background inherits as ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
batch.__main__.main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (-signal.SIGINT, "", "")
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["batch-label"] == "batch.__main__:main"


def test_the_package_imports_its_names_lazily() -> None:
    loaded = "import sys; before = {*sys.modules}; import batch; loaded = {*sys.modules} - before"
    program = f"{loaded}; assert loaded == {{'batch', '__future__'}}; batch.Options()"
    subprocess.run([sys.executable, "-S", "-c", program], cwd=REPOSITORY, check=True)
    for name in batch.__all__:
        assert getattr(batch, name)
    with pytest.raises(AttributeError, match="no attribute 'lable'"):
        batch.lable  # type: ignore[attr-defined]  # noqa: B018


def test_the_version_is_that_of_the_package(command: Command) -> None:
    from importlib.metadata import version

    assert command("--version").stdout == f"batch-label {version('batch-label')}\n"


def test_a_closed_pipe_gives_no_traceback(photos: Path, tmp_path: Path) -> None:
    ran = subprocess.run(
        f"'{sys.executable}' -m batch photos | true",
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--devices", "0,x"), "is not a list of numbers such as 0,1"),
        (("--devices", ""), "is not a list of numbers"),
        (("--devices", "-1"), "is not a list of numbers"),
        (("--devices", "1,0,1"), "names a device twice"),
        (("--devices", "0", "--provider", "cpu"), "--devices names GPUs"),
    ],
)
def test_invalid_devices_are_an_error(
    command: Command, photos: Path, args: tuple[str, ...], words: str
) -> None:
    ran = command("photos", *args, "-o", "r.csv")
    assert ran.returncode == ExitCode.USAGE
    assert words in ran.stderr


def test_the_run_record_names_the_device(command: Command, photos: Path, tmp_path: Path) -> None:
    save_model(bright_model(), tmp_path / "bright.onnx")
    ran = command("photos", "-m", "bright.onnx", "--provider", "cpu", "-q", "-o", "r.csv")
    assert ran.returncode == ExitCode.OK, ran.stderr
    record = json.loads((tmp_path / "r.csv.run.json").read_text())
    assert (record["provider"], record["devices"]) == ("cpu", [])
    assert record["settings"]["devices"] == []
    assert record["settings"]["engine_cache"] is None


@pytest.mark.parametrize(
    ("cache", "args", "expected"),
    [
        ("{}/caches", (), "{}/caches/batch-label/tensorrt"),
        ("caches", (), "{}/home/.cache/batch-label/tensorrt"),
        ("", (), "{}/home/.cache/batch-label/tensorrt"),
        ("{}/caches", ("--engine-cache", "mine"), "mine"),
    ],
)
def test_the_engine_cache_is_in_the_cache_folder_of_the_user(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cache: str,
    args: tuple[str, ...],
    expected: str,
) -> None:
    monkeypatch.setenv("HOME", f"{tmp_path}/home")
    monkeypatch.setenv("XDG_CACHE_HOME", cache.format(tmp_path))
    (tmp_path / "empty").mkdir()
    # The record is written whether TensorRT works here or not.
    command("empty", "--provider", "tensorrt", *args, "-q", "-o", "r.csv")
    record = json.loads((tmp_path / "r.csv.run.json").read_text())
    assert record["settings"]["engine_cache"] == expected.format(tmp_path)
