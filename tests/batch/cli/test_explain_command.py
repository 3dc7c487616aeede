"""The picture of an explanation, and the command that draws it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import batch
from batch.errors import ExitCode
from batch.explaining.occlusion import MIN_SCALE, find_scale, overlay_heat
from batch.explaining.picture import (
    BOX,
    MARGIN,
    PANEL_HEIGHT,
    load_font,
    to_ascii,
    truncate_text,
    wrap_sentences,
)
from batch.options import Options, Provider
from batch.records import Region
from tests.batch.discovery.test_remote_inputs import served
from tests.conftest import Command
from tests.support.tiny_models import bright_model, bright_spec, save_model


def _redness(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    pixels = np.asarray(image).astype(np.int64)
    return pixels[..., 0] - pixels[..., 2]


def test_the_command_of_the_documents(command: Command, photos: Path, tmp_path: Path) -> None:
    ran = command("explain", "photos/astronaut.jpg", "-o", "why.png", "--provider", "cpu")
    assert (ran.returncode, ran.stdout) == (ExitCode.OK, "")
    assert ran.stderr.startswith("photos/astronaut.jpg: happy  1.0000\n")
    assert "sure; the answer rests on the face alone" in ran.stderr
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
    assert second == "no label; the answer rests on the whole photo"
    Image.open(tmp_path / "why.png").load()
    ran = command(*args, "--always-answer")
    assert (ran.returncode, ran.stderr.splitlines()[0]) == (ExitCode.OK, "dark.png: happy  0.7500")


def test_a_photo_elsewhere_or_in_an_archive_is_explained(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    pytest.importorskip("aiohttp")
    shutil.make_archive(str(tmp_path / "p"), "zip", photos)
    with served(tmp_path) as server:
        for photo in ("zip://astronaut.jpg::p.zip", f"{server}/photos/astronaut.jpg"):
            ran = command("explain", photo, "-o", "why.png", "--provider", "cpu")
            assert (ran.returncode, ran.stdout) == (ExitCode.OK, "")
            assert ran.stderr.startswith(f"{photo}: happy  1.0000\n")
        ran = command("explain", f"{server}/gone.jpg?sig=1", "-o", "why.png")
    assert ran.returncode == ExitCode.INCOMPLETE
    assert f"photo {server}/gone.jpg can't be labelled (vanished: No such file" in ran.stderr


def test_the_picture_shows_photo_map_and_face(photos: Path) -> None:
    explanation = batch.explain(photos / "astronaut.jpg", Options(provider=Provider.CPU))
    picture = explanation.picture()
    assert picture.width == 3 * PANEL_HEIGHT + 4 * MARGIN
    pixels = np.asarray(picture)
    boxed = (pixels == BOX).all(axis=-1)
    for left in (MARGIN, 2 * MARGIN + PANEL_HEIGHT):
        assert boxed[:, left : left + PANEL_HEIGHT].sum() > 300
    assert not boxed[:, 3 * MARGIN + 2 * PANEL_HEIGHT :].any()
    # Her face is from the 182nd to the 262nd of the photo's 440 columns, and the mouth is red.
    top = int(np.flatnonzero(boxed.any(axis=1))[0])
    of_map = picture.crop(
        (2 * MARGIN + PANEL_HEIGHT + 160, top + 8, 2 * MARGIN + PANEL_HEIGHT + 230, top + 88)
    )
    red = _redness(of_map)
    assert red[50:75].mean() > 50 + abs(red[:10].mean())


def test_colours_say_for_and_against() -> None:
    grey = np.full((2, 3, 3), 128, dtype=np.uint8)
    heat = np.asarray([[-1, 0, 1], [-0.2, 0.2, 9]], dtype=np.float32)
    red = _redness(overlay_heat(grey, heat, scale=1.0))
    assert red[0, 0] < red[1, 0] < 0 == red[0, 1] < red[1, 1] < red[0, 2] == red[1, 2]


def test_what_is_worth_little_does_not_look_like_much() -> None:
    faint = np.full((4, 4), 0.01, dtype=np.float32)
    assert find_scale(faint) == MIN_SCALE
    assert find_scale(faint, faint * -300) == pytest.approx(3)
    red = _redness(overlay_heat(np.full((4, 4, 3), 128, dtype=np.uint8), faint, find_scale(faint)))
    assert np.abs(red).max() <= 3


@pytest.mark.parametrize("size", [(1, 300), (2000, 20), (16, 16)])
def test_photos_of_any_shape_have_a_picture(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "orange").save(tmp_path / "odd.png")
    options = Options(provider=Provider.CPU, model="people")
    picture = batch.explain(tmp_path / "odd.png", options).picture()
    assert 200 < picture.width < 2000
    assert 200 < picture.height < 1000


def test_text_is_written_in_the_letters_that_there_are() -> None:
    assert to_ascii("fröhlich, \x07\u4e2d!") == "frohlich,  ?!"
    assert truncate_text("happy", 300, 16) == "happy"
    short = truncate_text("happy" * 50, 90, 16)
    assert short.startswith("happy")
    assert short.endswith("...")
    assert load_font(16).getlength(short) <= 90
    lines = wrap_sentences(["one two three four five six seven", "and another"], 100, 16)
    assert " ".join(lines) == "one two three four five six seven and another"
    assert lines[-1] == "and another"
    assert max(map(load_font(16).getlength, lines)) <= 100


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["photos/gone.jpg", "-o", "a.png"], ExitCode.USAGE, "gone.jpg can't be found"),
        (["photos", "-o", "a.png"], ExitCode.INCOMPLETE, "not_a_file"),
        (["photos/text.jpg", "-o", "a.png"], ExitCode.INCOMPLETE, "text.jpg can't be labelled"),
        (
            ["photos/coffee.jpg", "-o", "a.png", "-m", "happy-sad"],
            ExitCode.INCOMPLETE,
            "coffee.jpg shows no face",
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
