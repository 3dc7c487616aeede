"""The pictures of a folder on which an imported model is compared with its network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from batch.vision.pillow import has_reader
from tests.support.decoded import encode, mean_difference
from trainer.importing.parity import read_pictures


def test_pictures_of_each_format_are_read_upright_by_runner_and_pillow(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    pytest.importorskip("pillow_heif")
    assert has_reader("HEIF")
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright = astronaut.crop((60, 0, 380, 240))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    forms = ("JPEG", "PNG", "TIFF", "WEBP", "AVIF")
    for form in forms:
        (tmp_path / f"{form}.jpg").write_bytes(encode(stored, form, exif=exif))
    (tmp_path / "a.heic").write_bytes(encode(upright, "HEIF"))
    found = read_pictures(tmp_path)
    assert not found.skipped
    assert len(found.pictures) == len(forms) + 1
    for picture in found.pictures:
        assert picture.image.size == (320, 240)
        assert mean_difference(np.asarray(picture.image), picture.photo.image) < 3


def test_a_picture_that_only_the_runner_reads_is_named(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    """Compared with itself it would hide a difference."""
    whole = encode(astronaut, "JPEG")
    (tmp_path / "a.jpg").write_bytes(whole)
    (tmp_path / "b.jpg").write_bytes(whole[:-2])  # the runner adds the end that is missing
    found = read_pictures(tmp_path)
    assert [picture.photo.path for picture in found.pictures] == [tmp_path / "a.jpg"]
    ((name, reason),) = found.skipped
    assert name == str(tmp_path / "b.jpg")
    assert reason.startswith("only the runner can read it; Pillow alone says: image file is trunc")
