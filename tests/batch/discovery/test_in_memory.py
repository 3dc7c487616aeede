"""Photos in memory get the same labels as the same photos in files."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import batch
from batch.discovery.in_memory import Picture, load_photos
from batch.errors import UsageError
from tests.support.tiny_models import bright_model, save_model


@pytest.fixture
def options(tmp_path: Path) -> batch.Options:
    model = save_model(bright_model(), tmp_path / "bright.onnx")
    return batch.Options(model=str(model), provider=batch.Provider.CPU, workers=1)


def test_every_kind_gets_the_row_of_its_file(
    options: batch.Options, tmp_path: Path, astronaut: Image.Image
) -> None:
    file = tmp_path / "astronaut.png"
    astronaut.save(file)
    (expected,) = batch.label(file, options)
    assert expected.faces
    array = np.asarray(astronaut)
    for photo in (array, array[:, ::-1][:, ::-1], astronaut, file.read_bytes()):
        (row,) = batch.label(photo, options)
        assert (row.answer, row.width, row.height) == (expected.answer, 512, 512)
        assert str(row.path) == "memory://1"
    rows = list(batch.label(np.stack([array, 255 - array]), options))
    assert [str(row.path) for row in rows] == ["memory://1", "memory://2"]
    assert rows[0].answer == expected.answer != rows[1].answer
    assert list(batch.to_frame(rows)["path"]) == ["memory://1", "memory://2"]


def test_images_are_brought_to_rgb_as_files_are(
    options: batch.Options, tmp_path: Path, astronaut: Image.Image
) -> None:
    clear = astronaut.copy()
    clear.putalpha(astronaut.convert("L"))
    turned = astronaut.rotate(90)
    turned.getexif()[274] = 6
    for number, image in enumerate(
        [clear, clear.convert("P"), astronaut.convert("L"), astronaut.convert("1"), turned]
    ):
        file = tmp_path / f"{number}.png"
        image.save(file, exif=image.getexif())
        (expected,) = batch.label(file, options)
        (row,) = batch.label(image, options)
        assert row.answer == expected.answer, image.mode
    for mode in ("CMYK", "YCbCr", "HSV"):
        (row,) = batch.label(Image.new("RGB", (64, 48), "red").convert(mode), options)
        assert (row.width, row.failure) == (64, None)


def test_photos_are_consumed_lazily(options: batch.Options) -> None:
    taken = 0

    def photos() -> Iterator[Picture]:
        nonlocal taken
        while True:
            taken += 1
            yield np.full((8, 8, 3), taken % 256, dtype=np.uint8)

    rows = batch.label(photos(), options)
    assert [str(next(rows).path) for _ in range(3)] == [f"memory://{n}" for n in (1, 2, 3)]
    assert taken < 20
    rows.close()  # type: ignore[attr-defined]


def test_files_are_read(options: batch.Options, photos: Path) -> None:
    path = next(iter(sorted(photos.glob("*.jpg"))))
    with path.open("rb") as file:
        (row,) = batch.label(file, options)
    (again,) = batch.label(io.BytesIO(path.read_bytes()), options)
    assert row.answer == again.answer is not None
    with path.open(encoding="latin-1") as file, pytest.raises(UsageError, match="binary"):
        list(batch.label(file, options))


@pytest.mark.parametrize("wrong", [{"min_confidence": 90}, {"workers": 0}, {"batch_size": 0}])
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        batch.Options(**wrong)


def test_a_broken_photo_is_a_row(options: batch.Options) -> None:
    rows = list(batch.label([b"", b"no photo", b"\xff\xd8\xff"], options))
    assert [row.failure and row.failure.reason for row in rows] == [
        "empty", "not_an_image", "truncated",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("photo", "words"),
    [
        (np.zeros((4, 4), dtype=np.uint8), r"array of uint8 \[4, 4\]; give RGB"),
        (np.zeros((4, 4, 3)), "array of float64"),
        (np.zeros((0, 4, 3), dtype=np.uint8), r"\[0, 4, 3\]"),
        (Image.new("F", (4, 4)), "mode F, whose range is unknown"),
        ("photo.jpg", "is a str; give only paths"),
    ],
)
def test_objects_that_are_not_photos_are_refused(photo: Picture, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        list(load_photos([photo]))


def test_paths_and_photos_are_not_mixed(options: batch.Options, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="photos in memory are mixed with paths"):
        batch.label([tmp_path, b"photo"], options)
    with pytest.raises(UsageError, match="memory://2 is a PosixPath"):
        list(batch.label([b"photo", tmp_path], options))


def test_paths_may_come_one_by_one(options: batch.Options, photos: Path) -> None:
    for given in (photos, str(photos), [photos], (path for path in (photos,)), {photos: 1}):
        assert len(list(batch.label(given, options))) == 3
    assert list(batch.label([], options)) == []
