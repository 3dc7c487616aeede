from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.records import Photo
from batch.vision.decode import decode_bytes
from batch.vision.faces import Detector
from tests.trainer.cli.test_cli import trainer
from trainer.datasets.rendered_pictures import SIDES, PictureKind, render_picture, render_pictures


@pytest.mark.parametrize("kind", PictureKind)
def test_a_picture_depends_only_on_kind_and_seed(kind: PictureKind) -> None:
    first, again, other = render_picture(kind, 3), render_picture(kind, 3), render_picture(kind, 4)
    assert first.mode == "RGB"
    assert max(first.size) <= SIDES[1]
    np.testing.assert_array_equal(np.asarray(first), np.asarray(again))
    assert first.size != other.size or first.tobytes() != other.tobytes()


@pytest.mark.parametrize("kind", sorted(set(PictureKind) - {PictureKind.BLANK}))
def test_each_kind_is_not_blank(kind: PictureKind) -> None:
    spreads = [np.asarray(render_picture(kind, seed).convert("L")).std() for seed in range(3)]
    assert max(spreads) > 5


def test_there_are_equal_numbers_of_each_kind() -> None:
    counts = Counter(kind for kind, _ in render_pictures(2 * len(PictureKind), seed=7))
    assert counts == dict.fromkeys(PictureKind, 2)


def test_the_detector_hardly_finds_faces_in_rendered_pictures() -> None:
    detector = Detector()
    found = 0
    pictures = list(render_pictures(2 * len(PictureKind), seed=100))
    for _, picture in pictures:
        photo = Photo(Path(), picture, *picture.size)
        found += bool(detector.detect(photo))
    assert found <= len(pictures) // 10


def test_the_command_writes_a_folder_for_each_kind(tmp_path: Path) -> None:
    result = trainer("render", tmp_path / "pictures", "--count", 15, "--seed", 9)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / 'pictures'} has 15 rendered pictures\n"
    files = sorted((tmp_path / "pictures").rglob("*.png"))
    assert Counter(path.parent.name for path in files) == {
        kind.value: 2 if n < 2 else 1 for n, kind in enumerate(PictureKind)
    }
    for path in files:
        assert isinstance(decode_bytes(path, path.read_bytes()), Photo)
    (kind, expected), *_ = render_pictures(1, 9)
    with Image.open(tmp_path / "pictures" / kind.value / "000009.png") as written:
        np.testing.assert_array_equal(np.asarray(written), np.asarray(expected))
    before = {path: path.read_bytes() for path in files}
    trainer("render", tmp_path / "pictures", "--count", 15, "--seed", 9)
    assert {path: path.read_bytes() for path in files} == before


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    result = trainer("render", tmp_path / "file", "--count", 1)
    assert result.exit_code != 0
    assert "can't be written" in result.stderr


def test_another_picture_of_the_same_name_is_not_replaced(tmp_path: Path) -> None:
    (kind, _), *_ = render_pictures(1, 9)
    mine = tmp_path / kind.value / "000009.png"
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    result = trainer("render", tmp_path, "--count", 1, "--seed", 9)
    assert result.exit_code != 0
    assert "already has other content; remove it" in result.stderr
    assert mine.read_bytes() == b"mine"
