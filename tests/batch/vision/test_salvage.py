from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from batch.models.ensemble import Thresholds
from batch.models.fusion import Fusion
from batch.reading.saved import open_saved_report
from batch.records import Answer, Evidence, Failure, Photo, Reason, Row, Source, Status
from batch.reports.columns import flatten_row
from batch.reports.report import open_report
from batch.vision.decide import decide_row
from batch.vision.decode import decode_bytes
from batch.vision.pillow import allow_truncated, has_enough_rows

NAME = Path("cut")
SAD = Answer(Status.OK, "sad", 0.9, {"happy": 0.1, "sad": 0.9})
CUT = Row(NAME, Status.OK, SAD, Source.IMAGE, (), 9, 9, salvaged="image file is truncated")
MARK = "truncated: labelled from what is there (image file is truncated)"
SAVED: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 90},
    "PNG": {},
    "GIF": {"interlace": 0},
    "BMP": {},
    "TIFF": {},
}


@dataclass
class Asked:
    """Decision rules of a whole-photo model alone."""

    labels: tuple[str, ...] = ("happy", "sad")
    fusion: Fusion | None = None
    photo_thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.6))
    face_thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.6))
    model_thresholds: Thresholds = field(default_factory=lambda: Thresholds(0.6))


def encoded(image: Image.Image, form: str, **how: Any) -> bytes:
    file = io.BytesIO()
    image.copy().save(file, form, **how)
    return file.getvalue()


def cut(data: bytes, share: float) -> bytes:
    return data[: int(share * len(data))]


def salvaged(data: bytes) -> Photo:
    photo = decode_bytes(NAME, data, salvage=True)
    assert isinstance(photo, Photo), photo
    return photo


@pytest.mark.parametrize("form", SAVED)
def test_the_readable_rows_are_kept(form: str, astronaut: Image.Image) -> None:
    data = encoded(astronaut, form, **SAVED[form])
    whole, part = salvaged(data), salvaged(cut(data, 0.8))
    assert (part.width, part.height) == (whole.width, whole.height) == astronaut.size
    rows = len(whole.pixels)
    # A BMP begins with its last row.
    there = slice(-rows // 2, None) if form == "BMP" else slice(0, rows // 2)
    assert np.array_equal(part.pixels[there], whole.pixels[there])
    assert not np.array_equal(part.pixels, whole.pixels)
    assert whole.salvaged == ""
    assert "truncated" in part.salvaged.lower()


@pytest.mark.parametrize("form", SAVED)
def test_nothing_is_salvaged_by_default(form: str, astronaut: Image.Image) -> None:
    failure = decode_bytes(NAME, cut(encoded(astronaut, form), 0.8))
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.TRUNCATED


@pytest.mark.parametrize("form", SAVED)
def test_less_than_half_of_a_photo_stays_a_failure(form: str, astronaut: Image.Image) -> None:
    data = cut(encoded(astronaut, form, **SAVED[form]), 0.25)
    failure = decode_bytes(NAME, data)
    assert isinstance(failure, Failure)
    detail = f"{failure.detail}; not salvaged: less than half of it can be decoded"
    assert decode_bytes(NAME, data, salvage=True) == replace(failure, detail=detail)


def test_a_photo_on_its_side_is_measured_by_its_columns(astronaut: Image.Image) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    data = encoded(astronaut, "JPEG", exif=exif)
    assert salvaged(cut(data, 0.9)).salvaged
    assert isinstance(decode_bytes(NAME, cut(data, 0.25), salvage=True), Failure)


@pytest.mark.parametrize("form", ["WEBP", "AVIF", "HEIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_formats_that_can_not_be_salvaged_say_so(
    form: str, share: float, astronaut: Image.Image
) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    data = cut(encoded(astronaut, form), share)
    failure = decode_bytes(NAME, data)
    assert isinstance(failure, Failure)
    salvaged = decode_bytes(NAME, data, salvage=True)
    assert isinstance(salvaged, Failure)
    assert salvaged.reason is failure.reason is Reason.TRUNCATED
    assert salvaged.detail.startswith(f"{failure.detail}; not salvaged: ")


def test_a_corrupt_photo_is_not_salvaged(astronaut: Image.Image) -> None:
    data = bytearray(encoded(astronaut, "PNG"))
    data[len(data) // 2] ^= 0xFF
    failure = decode_bytes(NAME, bytes(data), salvage=True)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.CORRUPT


def test_other_threads_stay_strict_meanwhile(astronaut: Image.Image) -> None:
    data = cut(encoded(astronaut, "JPEG"), 0.8)
    barrier = threading.Barrier(4)

    def work(number: int) -> list[bool]:
        barrier.wait()
        found = [decode_bytes(NAME, data, salvage=number % 2 == 0) for _ in range(20)]
        return [isinstance(item, Photo) for item in found]

    with allow_truncated(), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[True] * 20, [False] * 20] * 2


def test_a_photo_is_enough_by_its_rows_or_columns() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (100, 80, 3), dtype=np.uint8)
    assert has_enough_rows(Image.fromarray(noise))
    for pixels in (noise, noise.transpose(1, 0, 2)):
        part = pixels.copy()
        part[len(part) // 2 :] = 128
        assert has_enough_rows(Image.fromarray(part))
        part[len(part) // 2 - 1] = 128
        assert not has_enough_rows(Image.fromarray(part))


def test_the_row_says_that_the_photo_is_salvaged() -> None:
    image = Image.new("RGB", (9, 9))
    nobody = np.empty((0, 2), dtype=np.float32)
    for asked in (nobody, np.asarray([[0.1, 0.9]], dtype=np.float32)):
        evidence = Evidence((), nobody, asked)
        row = decide_row(Photo(NAME, image, 9, 9, "no end"), evidence, Asked())
        assert row.salvaged == "no end"
        whole = decide_row(Photo(NAME, image, 9, 9), evidence, Asked())
        assert row == replace(whole, salvaged="no end")


def test_the_report_marks_the_row(tmp_path: Path) -> None:
    labels = ("happy", "sad")
    (record,) = flatten_row(CUT, labels, per_face=False)
    assert (record["status"], record["label"], record["error"]) == ("ok", "sad", MARK)
    (record,) = flatten_row(replace(CUT, missing=True), labels, per_face=False)
    assert record["error"] == f"missing: not found in this run; {MARK}"
    for name in ("r.csv", "r.jsonl", "r.parquet"):
        report = tmp_path / name
        with open_report(str(report), labels, False, io.BytesIO()) as new:
            new.add(CUT)
            new.add(replace(CUT, missing=True))
            new.publish()
        with open_saved_report(report) as saved:
            assert [(r.status, r.label, r.missing) for r in saved.rows()] == [
                ("ok", "sad", False),
                ("ok", "sad", True),
            ]
