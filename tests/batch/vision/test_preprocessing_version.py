"""Pixels, boxes and decisions change only together with ``PREPROCESSING_VERSION``.

``preprocessing.json`` holds the expected values with their version. After a change that is meant,
raise the version in ``batch/vision/basis.py`` and write the file again with
``python -m tests.batch.vision.test_preprocessing_version``.
"""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import ExifTags, Image

from batch.records import Box, Evidence, Photo, Pixels
from batch.vision.basis import PREPROCESSING_VERSION
from batch.vision.crop import crop, resize_photo
from batch.vision.decide import decide_row
from batch.vision.decode import decode_bytes
from batch.vision.faces import Detector, are_all_small
from tests.batch.vision.test_decide import PAIR, PHOTO

EXPECTED = Path(__file__).with_name("preprocessing.json")
# Grey levels: releases of Pillow may round differently. Pixels of the file: so may those of ONNX
# Runtime.
PIXEL_TOLERANCE, BOX_TOLERANCE, CONFIDENCE_TOLERANCE = 1, 0.5, 1e-3


def _texture(height: int, width: int) -> Pixels:
    """Waves of different lengths in each channel: any shift, scale or blur changes them."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 7) + np.cos(y / 11), np.sin((x + y) / 5), np.cos(x / 23) * np.sin(y / 3)]
    return np.stack([np.rint(120 + 60 * wave) for wave in waves], axis=-1).astype(np.uint8)


def _decode(image: Image.Image, form: str = "PNG", **how: Any) -> Photo:
    file = io.BytesIO()
    image.save(file, form, **how)
    photo = decode_bytes(Path("photo"), file.getvalue())
    assert isinstance(photo, Photo)
    return photo


def _turned(orientation: int) -> Photo:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return _decode(Image.fromarray(_texture(60, 90)), exif=exif)


def _see_through() -> Photo:
    image = Image.fromarray(_texture(64, 96))
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return _decode(image)


def _grey(kind: type, scale: float, form: str) -> Photo:
    grey = _texture(64, 96)[:, :, 0].astype(np.float64) * scale
    return _decode(Image.fromarray(grey.astype(kind)), form)


def _sample(pixels: Pixels) -> Pixels:
    """Sample pixels on a grid of 8 x 12, without interpolation."""
    rows = np.linspace(0, pixels.shape[0] - 1, 8).astype(int)
    columns = np.linspace(0, pixels.shape[1] - 1, 12).astype(int)
    sampled: Pixels = pixels[rows][:, columns]
    return sampled


def _make_pixels() -> dict[str, Pixels]:
    """Decode and crop synthetic lossless pictures, each on a different path."""
    small = _decode(Image.fromarray(_texture(300, 400)))
    large = _decode(Image.fromarray(_texture(1500, 2400)))
    detail = large.detail
    assert isinstance(detail, Photo)
    inside, edge = Box(120.0, 90.0, 80.0, 110.0, 0.9), Box(-20.0, 200.0, 90.0, 130.0, 0.9)
    photos = {
        **{f"orientation {number}": _turned(number) for number in range(2, 9)},
        "transparent": _see_through(),
        "16-bit grey": _grey(np.uint16, 256, "PNG"),
        "32-bit grey": _grey(np.float32, 3.7, "TIFF"),
        "shrunk": large,
        "detail": detail,
    }
    return {
        **{name: _sample(photo.pixels) for name, photo in photos.items()},
        "whole photo, grey": resize_photo(small, 12, 12, 1),
        "whole photo, crop": resize_photo(small, 12, 12, 3, "crop"),
        "whole photo, letterbox": resize_photo(small, 12, 12, 3, "letterbox"),
        "face": crop(small, inside, 0.1, 12, 12, 3),
        "face without margin": crop(small, inside, 0.0, 12, 12, 1),
        "face on the edge": crop(small, edge, 0.2, 12, 12, 3),
        "face of a shrunk photo": crop(large, Box(900.0, 500.0, 300.0, 200.0, 0.9), 0.1, 12, 12, 3),
    }


def _find_boxes() -> dict[str, list[list[float]]]:
    """Find faces at a close look and in the detail."""
    portrait = Image.fromarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    group = Image.new("RGB", (1600, 1200), "grey")
    for number, side in enumerate((160, 220, 400)):
        group.paste(portrait.resize((side, side)), (120 + 480 * number, 500))
    crowd = Image.new("RGB", (4000, 3000), "grey")
    crowd.paste(portrait.resize((260, 260)), (700, 900))
    detector = Detector()
    pictures = {"portrait": portrait, "group": group, "crowd": crowd}
    photos = {name: _decode(picture) for name, picture in pictures.items()}
    found = {
        name: detector.look_closely(photo, detector.glance(photo)) for name, photo in photos.items()
    }
    assert are_all_small(photos["crowd"], found["crowd"]), "else its detail is not searched"
    found["crowd"] = detector.detect(photos["crowd"])
    return {
        name: [[box.left, box.top, box.width, box.height, box.score] for box in boxes]
        for name, boxes in found.items()
    }


def _make_decisions() -> list[list[Any]]:
    """Decide for made-up evidence: each status with the confidence, of photos and of faces."""
    none = np.empty((0, 0), np.float32)
    boxes = (Box(100.0, 90.0, 200.0, 210.0, 0.9), Box(400.0, 90.0, 60.0, 50.0, 0.7))
    faces = np.asarray([(0.9, 0.06, 0.04), (0.2, 0.5, 0.3), (0.1, 0.2, 0.7)], np.float32)
    images = np.asarray(
        [(0.8, 0.1, 0.05, 0.05), (0.02, 0.03, 0.05, 0.9), (0.1, 0.3, 0.5, 0.1)], np.float32
    )
    evidence = [
        *(Evidence((), none, image[None]) for image in images),
        *(Evidence(boxes[:1], face[None], image[None]) for face in faces for image in images),
        *(Evidence(boxes, faces[[0, other]], none) for other in range(3)),
    ]
    rows = [decide_row(PHOTO, one, PAIR) for one in evidence]
    rows.append(decide_row(PHOTO, Evidence((), none, none), replace(PAIR, fusion=None)))
    return [
        [name, answer.confidence if answer else 0.0]
        for row in rows
        for name, answer in (
            (f"{row.status} {row.source}", row.answer),
            *((f"{face.status} {face.label}", face) for face in row.faces),
        )
    ]


def _pack(pixels: Pixels) -> dict[str, Any]:
    data = base64.b64encode(zlib.compress(pixels.tobytes(), 9)).decode()
    return {"shape": pixels.shape, "data": data}


def _unpack(packed: dict[str, Any]) -> Pixels:
    data = zlib.decompress(base64.b64decode(packed["data"]))
    return np.frombuffer(data, np.uint8).reshape(packed["shape"])


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    values: dict[str, Any] = json.loads(EXPECTED.read_text(encoding="utf-8"))
    return values


def test_the_expected_values_have_the_current_version(expected: dict[str, Any]) -> None:
    assert expected["version"] == PREPROCESSING_VERSION, "see the docstring of this module"


def test_pixels_change_only_with_the_version(expected: dict[str, Any]) -> None:
    made = _make_pixels()
    assert made.keys() == expected["pixels"].keys()
    for name, pixels in made.items():
        difference = np.abs(pixels.astype(int) - _unpack(expected["pixels"][name]))
        assert difference.max() <= PIXEL_TOLERANCE, f"{name}: see the docstring of this module"


def test_boxes_change_only_with_the_version(expected: dict[str, Any]) -> None:
    found = _find_boxes()
    assert found.keys() == expected["boxes"].keys()
    for name, boxes in found.items():
        np.testing.assert_allclose(
            boxes, expected["boxes"][name], rtol=0, atol=BOX_TOLERANCE, err_msg=name
        )


def test_decisions_change_only_with_the_version(expected: dict[str, Any]) -> None:
    names, confidences = zip(*_make_decisions(), strict=True)
    wanted, their_confidences = zip(*expected["decisions"], strict=True)
    assert names == wanted, "see the docstring of this module"
    np.testing.assert_allclose(confidences, their_confidences, rtol=0, atol=CONFIDENCE_TOLERANCE)


def _write() -> None:
    values = {
        "version": PREPROCESSING_VERSION,
        "pixels": {name: _pack(pixels) for name, pixels in _make_pixels().items()},
        "boxes": {
            name: [[round(value, 2) for value in box] for box in boxes]
            for name, boxes in _find_boxes().items()
        },
        "decisions": [[name, round(value, 4)] for name, value in _make_decisions()],
    }
    EXPECTED.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
