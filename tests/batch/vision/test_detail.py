"""Faces that are small in a large photo: its detail, and the look into it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

import batch
from batch import Options, Provider
from batch.location import Url
from batch.models.ensemble import LabellingPlan, load_ensemble
from batch.options import MAX_DETAIL_PIXELS, Device, FileLimits
from batch.records import Failure, Photo, Reason, Stage, Status
from batch.vision.crop import crop
from batch.vision.decode import (
    LARGE_SIDE,
    WORKING_SIDE,
    DecodedImage,
    compute_detail_size,
    decode_bytes,
    decode_image,
)
from batch.vision.faces import CLOSE_SIDE, MIN_CLOSE_FACE_SIDE, Detector, are_all_small
from batch.vision.labeller import Labeller
from batch.vision.yunet_graph import build_detector_graph
from batch.workers.pool import WorkerPool
from batch.workers.protocol import WorkerRequest
from batch.workers.worker import WorkerTask
from tests.support.decoded import decode_photo, encode, heif, mean_difference

__all__ = ["heif"]

CPU = Options(provider=Provider.CPU)
# The astronaut's head and helmet: left, top, right, bottom. The face is 85 x 120 pixels of it.
HEAD = (140, 30, 310, 220)


def crowd(
    astronaut: Image.Image, size: tuple[int, int], face: int, step: int, count: int
) -> Image.Image:
    """Put heads whose faces are ``face`` pixels high into a grey picture, ``step`` apart."""
    scale = face / 120
    head = astronaut.convert("RGB").crop(HEAD)
    head = head.resize((round(head.width * scale), round(head.height * scale)))
    picture = Image.new("RGB", size, (120, 130, 120))
    places = [
        (x, y)
        for y in range(10, size[1] - head.height, step)
        for x in range(10, size[0] - head.width, step)
    ]
    assert len(places) >= count
    for place in places[:: len(places) // count][:count]:
        picture.paste(head, place)
    return picture


def large(image: Image.Image, form: str = "JPEG", **how: Any) -> Photo:
    """Encode and decode a picture."""
    decoded = decode_bytes(Path("large"), encode(image, form, **how))
    assert isinstance(decoded, Photo)
    return decoded


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector()


class TestDetail:
    @pytest.mark.parametrize(
        ("size", "most", "detail"),
        [
            ((LARGE_SIDE, 1080), 10**8, None),
            ((640, 480), 10**8, None),
            ((6000, 4000), 10**8, (3000, 2000)),
            ((16000, 2500), 10**8, (8000, 1250)),
            ((4000, 6000), 6_000_000, (1000, 1500)),
            ((4000, 6000), 1_000_000, None),
            ((100_000_000, 1), 10**8, None),
        ],
    )
    def test_its_size(
        self, size: tuple[int, int], most: int, detail: tuple[int, int] | None
    ) -> None:
        assert compute_detail_size(*size, most) == detail

    def test_it_is_bounded_for_a_photo_of_any_size(self) -> None:
        for size in ((20_000, 20_000), (65_500, 3000), (8000, 8000)):
            width, height = compute_detail_size(*size) or (0, 0)
            assert 0.99 * MAX_DETAIL_PIXELS < width * height <= MAX_DETAIL_PIXELS

    @pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
    def test_it_is_the_same_picture(self, form: str, astronaut: Image.Image) -> None:
        picture = astronaut.convert("RGB").resize((3000, 2000))
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        whole = large(picture, form, exif=exif, quality=95)
        assert isinstance(whole.detail, Photo)
        assert (whole.detail.width, whole.detail.height) == (whole.width, whole.height)
        assert whole.detail.pixels.shape == (1500, 1000, 3)
        upright = picture.transpose(Image.Transpose.ROTATE_270).resize((1000, 1500))
        assert mean_difference(whole.detail.pixels, upright) < 3

    def test_it_is_not_decoded_twice_where_the_pixels_are_there(
        self, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = large(astronaut.resize((2400, 1200)), "PNG")
        monkeypatch.setattr("batch.vision.decode._decode_content", None)
        assert isinstance(whole.detail, Photo)
        assert np.array_equal(whole.detail.pixels, whole.pixels)

    @pytest.mark.parametrize(
        ("form", "how"),
        [
            ("PNG", {}),
            ("WEBP", {"method": 0}),
            ("TIFF", {}),
            ("AVIF", {"speed": 10}),
            ("HEIF", {}),
        ],
    )
    @pytest.mark.usefixtures("heif")
    def test_what_is_decoded_in_full_is_decoded_once(
        self,
        form: str,
        how: dict[str, Any],
        astronaut: Image.Image,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 6
        data = encode(astronaut.resize((2600, 500)), form, exif=exif, **how)
        again = decode_image(Path("large"), data, in_detail=True)
        whole = decode_bytes(Path("large"), data)
        monkeypatch.setattr("batch.vision.decode.open_image", None)
        assert isinstance(whole, Photo)
        assert isinstance(whole.detail, Photo)
        assert isinstance(again, DecodedImage)
        assert np.array_equal(whole.detail.pixels, np.asarray(again.image))
        assert (whole.detail.width, whole.detail.height) == (whole.width, whole.height)

    def test_memory_that_does_not_suffice_for_it_is_a_failure(
        self, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def resize(*_: object, **__: object) -> None:
            raise MemoryError

        whole = large(astronaut.resize((3000, 500)), "PNG")
        monkeypatch.setattr("batch.vision.decode._resize", resize)
        assert isinstance(whole.detail, Failure)
        assert whole.detail.reason is Reason.TOO_LARGE

    def test_transparency_is_laid_on_white(self, astronaut: Image.Image) -> None:
        clear = Image.new("RGBA", (3000, 2000), (0, 0, 0, 0))
        detail = large(clear, "PNG").detail
        assert isinstance(detail, Photo)
        assert (detail.pixels == 255).all()

    @pytest.mark.parametrize("form", ["JPEG", "PNG"])
    def test_what_is_there_of_a_truncated_photo(self, form: str, astronaut: Image.Image) -> None:
        data = encode(astronaut.resize((2600, 1500)), form, quality=80, compress_level=1)
        cut = decode_bytes(Path("cut"), data[: len(data) * 4 // 5], salvage=True)
        assert isinstance(cut, Photo)
        assert isinstance(cut.detail, Photo)
        assert cut.detail.salvaged == cut.salvaged != ""

    def test_a_small_photo_has_none(self, astronaut: Image.Image) -> None:
        assert decode_photo(encode(astronaut.resize((LARGE_SIDE, 1000)), "JPEG")).detail is None


class TestFaces:
    # At most half of the pixels that a close look needs.
    @pytest.mark.parametrize(
        ("size", "face", "form"),
        [
            ((6000, 4000), 40, "JPEG"),
            ((6000, 4000), 60, "PNG"),
            ((6000, 4000), 110, "JPEG"),
            ((8000, 6000), 80, "JPEG"),
            ((16000, 2500), 200, "JPEG"),
        ],
    )
    def test_each_is_found_once(
        self, size: tuple[int, int], face: int, form: str, astronaut: Image.Image, tmp_path: Path
    ) -> None:
        path = tmp_path / "crowd"
        crowd(astronaut, size, face, 290, 7).save(path, form, quality=92, compress_level=1)
        (row,) = batch.label([path], CPU)
        assert row.answer is not None
        assert (row.status, row.answer.label) == (Status.OK, "happy")
        assert len(row.faces) == 7
        for found in row.faces:
            assert found.box is not None
            assert face * 0.8 < found.box.height < face * 1.3

    def test_on_edges_of_tiles_each_is_found_once(
        self, detector: Detector, astronaut: Image.Image
    ) -> None:
        # Heads of 60 pixels side by side, so that every edge cuts some.
        detail = large(crowd(astronaut, (3000, 2000), 60, 95, 400)).detail
        assert isinstance(detail, Photo)
        assert len(detector.search_detail(detail, ())) == 400

    def test_one_that_two_tiles_have_seen_in_part_is_found_once(
        self, detector: Detector, astronaut: Image.Image, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = large(crowd(astronaut, (3000, 2000), 60, 500, 1))
        (face,) = detector.detect(whole)
        parts = np.asarray([[face.left, face.top, face.width, face.height, 0.5]] * 2, np.float32)
        parts[:, 0] += np.asarray([-0.3, 0.3], np.float32) * face.width
        parts[:, :4] /= 2
        only_once = iter([parts])
        monkeypatch.setattr(
            detector, "_search_tile", lambda *_: next(only_once, np.empty((0, 5), np.float32))
        )
        assert isinstance(whole.detail, Photo)
        (again,) = detector.search_detail(whole.detail, ())
        assert again.left == pytest.approx(face.left, abs=5)

    def test_a_large_one_is_enough(self, detector: Detector, astronaut: Image.Image) -> None:
        def load_detail() -> Photo:
            raise AssertionError("the detail is decoded")

        picture = crowd(astronaut, (3000, 2000), 400, 900, 2)
        whole = replace(large(picture), load_detail=load_detail)
        assert len(detector.detect(whole)) == 2
        labeller = Labeller(
            LabellingPlan(load_ensemble(CPU), build_detector_graph(), 32), Device(Provider.CPU)
        )
        assert labeller.label(whole).status is Status.OK

    def test_per_face_those_beside_a_large_one_are_found(
        self, astronaut: Image.Image, tmp_path: Path
    ) -> None:
        picture = crowd(astronaut, (4000, 3000), 50, 400, 6)
        picture.paste(astronaut.convert("RGB").resize((1500, 1500)), (1200, 800))
        picture.save(tmp_path / "both.jpg", quality=92)
        (row,) = batch.label([tmp_path / "both.jpg"], CPU)
        (every,) = batch.label([tmp_path / "both.jpg"], replace(CPU, per_face=True))
        assert len(row.faces) == 1
        assert len(every.faces) >= 5
        assert every.faces[0].box == row.faces[0].box

    def test_what_a_close_look_has_found_counts_once(
        self, detector: Detector, astronaut: Image.Image
    ) -> None:
        whole = large(crowd(astronaut, (4000, 3000), 140, 400, 5))
        seen = detector.look_closely(whole, detector.glance(whole))
        assert seen
        assert are_all_small(whole, seen)
        assert isinstance(whole.detail, Photo)
        boxes = detector.search_detail(whole.detail, seen)
        assert len(boxes) == 5
        assert all(box.in_detail for box in boxes)

    def test_noise_is_no_face(self, detector: Detector) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (2000, 3000, 3), np.uint8)
        blurred = Image.fromarray(noise).resize((300, 200)).resize((3000, 2000))
        for image in (Image.fromarray(noise), blurred):
            assert detector.detect(large(image)) == ()

    def test_a_small_one_is_cut_out_of_the_detail(
        self, detector: Detector, astronaut: Image.Image
    ) -> None:
        whole = large(crowd(astronaut, (6000, 4000), 60, 500, 1), quality=95)
        (box,) = detector.detect(whole)
        assert max(box.width, box.height) * CLOSE_SIDE / 6000 < MIN_CLOSE_FACE_SIDE
        sharp = crop(whole, box, 0.0, 48, 48, 3)
        blurred = crop(whole, replace(box, in_detail=False), 0.0, 48, 48, 3)
        assert (
            np.diff(sharp.astype(float), axis=0).std()
            > 2 * np.diff(blurred.astype(float), axis=0).std()
        )


class TestElsewhere:
    def test_another_process_gives_the_same(self, tmp_path: Path, astronaut: Image.Image) -> None:
        path = tmp_path / "large.jpg"
        path.write_bytes(encode(astronaut.resize((4000, 3000)), "JPEG"))
        here = decode_bytes(path, path.read_bytes())
        with WorkerPool(WorkerTask(FileLimits())) as workers:
            there = workers.process(WorkerRequest(path)).content
            url = Url("memory://b/large.jpg")
            handed_over = workers.process(WorkerRequest(url, data=path.read_bytes())).content
            assert isinstance(here, Photo)
            for other in (there, handed_over):
                assert isinstance(other, Photo)
                assert isinstance(here.detail, Photo)
                assert isinstance(other.detail, Photo)
                assert max(here.detail.pixels.shape) > 2 * WORKING_SIDE
                assert np.array_equal(here.detail.pixels, other.detail.pixels)

    def test_a_file_that_changes_meanwhile_has_failed(
        self, tmp_path: Path, astronaut: Image.Image
    ) -> None:
        path = tmp_path / "large.jpg"
        path.write_bytes(encode(astronaut.resize((4000, 3000)), "JPEG"))
        with WorkerPool(WorkerTask(FileLimits())) as workers:
            whole = workers.process(WorkerRequest(path)).content
            assert isinstance(whole, Photo)
            path.write_bytes(encode(astronaut.resize((3000, 4000)), "JPEG"))
            assert isinstance(whole.detail, Failure)
            assert (whole.detail.stage, whole.detail.reason) == (Stage.READ, Reason.UNREADABLE)

    def test_a_detail_that_fails_is_the_photo_s_row(self, astronaut: Image.Image) -> None:
        failure = Failure(Path("p"), Stage.READ, Reason.VANISHED, "it is gone")
        labeller = Labeller(
            LabellingPlan(load_ensemble(CPU), build_detector_graph(), 32), Device(Provider.CPU)
        )
        blank = Photo(
            Path("p"),
            Image.new("RGB", (640, 480), (99,) * 3),
            6400,
            4800,
            load_detail=lambda: failure,
        )
        assert labeller.label(blank).failure == failure

    def test_an_explanation_shows_them(self, tmp_path: Path, astronaut: Image.Image) -> None:
        path = tmp_path / "crowd.jpg"
        crowd(astronaut, (6000, 4000), 60, 800, 3).save(path, quality=92)
        explanation = batch.explain(path, CPU)
        assert len(explanation.row.faces) == 3
        assert len(explanation.views) >= 3


def test_an_upright_picture_without_more_pixels_has_no_detail() -> None:
    assert DecodedImage(Image.new("RGB", (1, 1)), 1, 1).load_detail is None
