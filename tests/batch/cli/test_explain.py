"""The command ``explain`` writes a picture and describes it on standard error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from batch.errors import ExitCode
from batch.records import Region
from tests.conftest import Command
from tests.support.tiny_models import bright_model, bright_spec, save_model
from tests.support.web_server import serve_folder


def test_the_command_of_the_documents(command: Command, photos: Path, tmp_path: Path) -> None:
    ran = command("explain", "photos/astronaut.jpg", "-o", "why.png", "--provider", "cpu")
    assert (ran.returncode, ran.stdout) == (ExitCode.OK, "")
    assert ran.stderr.startswith("photos/astronaut.jpg: happy  1.0000\n")
    assert "sure; the answer depends on the face only" in ran.stderr
    assert "Red: without the spot the odds of happy fall, at most by a factor of" in ran.stderr
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.format == "PNG"
        assert picture.mode == "RGB"
        picture.load()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "why.png"]


def test_a_photo_without_a_label_is_drawn_as_well(command: Command, tmp_path: Path) -> None:
    spec = bright_spec(region=Region.IMAGE, abstain_from={"neither": 0.5, "no_person": 0.5})
    save_model(bright_model(spec), tmp_path / "whole.onnx")
    Image.new("L", (90, 60), 20).save(tmp_path / "dark.png")
    args = ("explain", "dark.png", "-o", "why.png", "--provider", "cpu", "-m", "whole.onnx")
    ran = command(*args)
    assert (ran.returncode, ran.stdout) == (ExitCode.OK, "")
    first, second, *_ = ran.stderr.splitlines()
    assert first == f"dark.png: no person  {0.75 * 235 / 255:.4f}"
    assert second == "no label; the answer depends on the whole photo"
    Image.open(tmp_path / "why.png").load()
    ran = command(*args, "--always-answer")
    assert (ran.returncode, ran.stderr.splitlines()[0]) == (ExitCode.OK, "dark.png: happy  0.7500")


def test_a_remote_or_archived_photo_is_explained(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("aiohttp")
    shutil.make_archive(str(tmp_path / "p"), "zip", photos)
    with serve_folder(tmp_path) as server:
        for photo in ("zip://astronaut.jpg::p.zip", f"{server}/photos/astronaut.jpg"):
            ran = command("explain", photo, "-o", "why.png", "--provider", "cpu")
            assert (ran.returncode, ran.stdout) == (ExitCode.OK, "")
            assert ran.stderr.startswith(f"{photo}: happy  1.0000\n")
        ran = command("explain", f"{server}/gone.jpg?sig=1", "-o", "why.png")
    assert ran.returncode == ExitCode.INCOMPLETE
    assert f"photo {server}/gone.jpg can't be labelled (vanished: No such file" in ran.stderr


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["photos/gone.jpg", "-o", "a.png"], ExitCode.USAGE, "gone.jpg can't be found"),
        (["photos", "-o", "a.png"], ExitCode.INCOMPLETE, "not_a_file"),
        (["photos/text.jpg", "-o", "a.png"], ExitCode.INCOMPLETE, "text.jpg can't be labelled"),
        (
            ["photos/coffee.jpg", "-o", "a.png", "-m", "happy-sad"],
            ExitCode.INCOMPLETE,
            "coffee.jpg is no_face",
        ),
        (["photos/coffee.jpg", "-o", "no/a.png"], ExitCode.FAILED, "no/a.png can't be written"),
        (["photos/coffee.jpg", "-o", "photos"], ExitCode.USAGE, "end its name in .png"),
        (["photos/coffee.jpg", "-o", "a.jpg"], ExitCode.USAGE, "end its name in .png"),
        (["photos/sub/small.png", "-o", "photos/sub/small.png"], ExitCode.USAGE, "photo itself"),
        (["photos/coffee.jpg"], ExitCode.USAGE, "--output"),
        (["photos/coffee.jpg", "-o", "a.png", "-m", "gloomy"], ExitCode.USAGE, "gloomy"),
        (["photos/coffee.jpg", "-o", "a.png", "--max-pixels", "x"], ExitCode.USAGE, "max-pixels"),
        (
            ["photos/coffee.jpg", "-o", "a.png", "--max-file-size", "1K"],
            ExitCode.INCOMPLETE,
            "too_large",
        ),
    ],
)
def test_bad_input_gets_the_cause_and_its_exit_code(
    command: Command, photos: Path, tmp_path: Path, args: list[str], code: ExitCode, words: str
) -> None:
    (photos / "text.jpg").write_text("no photo")
    small = (photos / "sub" / "small.png").read_bytes()
    ran = command("explain", *args)
    assert (ran.returncode, ran.stdout) == (code, "")
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(tmp_path.glob("a.*"))
    assert (photos / "sub" / "small.png").read_bytes() == small


def test_a_folder_of_that_name_takes_a_dot(command: Command, photos: Path, tmp_path: Path) -> None:
    save_model(bright_model(), tmp_path / "bright.onnx")
    shutil.copytree(photos, tmp_path / "explain")
    ran = command("./explain", "-q", "-m", "bright.onnx", "-o", "r.csv")
    assert ran.returncode == ExitCode.OK, ran.stderr
