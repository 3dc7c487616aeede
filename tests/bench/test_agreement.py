"""The reference implementation, and the agreement of the command with it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batch.models.ensemble import load_ensemble
from batch.models.model import Model
from batch.options import DEFAULT_MODEL, Options
from batch.records import Box, Evidence, Photo, Probabilities
from batch.vision.decide import decide_row
from batch.vision.decode import decode
from batch.vision.faces import Detector
from bench import agreement
from bench.agreement import VerdictPair
from bench.command import label_photos
from bench.reference import Face, PhotoVerdict, ReferenceLabeller
from tests.bench.test_bench import assert_documented


class TestReference:
    def test_it_finds_the_face_that_the_command_finds(self, photos: Path) -> None:
        path = photos / "astronaut.jpg"
        photo = decode(path)
        assert isinstance(photo, Photo)
        ours, *_ = Detector().detect(photo)
        theirs = ReferenceLabeller("happy-sad").find_faces(Image.open(path).convert("RGB"))[0]
        for side in ("left", "top", "width", "height"):
            assert getattr(ours, side) == pytest.approx(getattr(theirs, side), abs=16)

    def test_a_face_that_is_found_at_two_sizes_is_one_face(self, photos: Path) -> None:
        path = photos / "astronaut.jpg"
        one, both = (
            ReferenceLabeller("happy-sad", sides).judge(path) for sides in ((640,), (512, 320))
        )
        assert one.faces == both.faces == 1

    def test_its_weights_are_floats(self, photos: Path, tmp_path: Path) -> None:
        path, report = photos / "astronaut.jpg", tmp_path / "r.jsonl"
        label_photos([path], "-m", "people", "--provider", "cpu", report=report)
        ours = json.loads(report.read_text("utf-8"))["confidence"]
        assert 0 < abs(ReferenceLabeller("people").judge(path).confidence - ours) < 0.1

    @pytest.mark.parametrize("model", ["happy-sad", "people", DEFAULT_MODEL])
    def test_its_rules_decide_as_the_command_s(self, model: str) -> None:
        rules, reference = load_ensemble(Options(model=model)), ReferenceLabeller(model)
        chance, statuses = np.random.default_rng(3), set()
        for _ in range(400):
            boxes = [
                Box(0, 0, side, side, float(chance.uniform(0.6, 1)))
                for side in sorted(chance.integers(40, 400, chance.integers(0, 3)))[::-1]
            ] if rules.face else []  # fmt: skip
            faces, image = (_draw(chance, each, n) for each, n in (
                (rules.face, len(boxes)), (rules.image, 1)))  # fmt: skip
            photo = Photo(Path("a.jpg"), Image.new("RGB", (1, 1)), 500, 400)
            row = decide_row(photo, Evidence(tuple(boxes), faces, image), rules)
            given = reference.decide(
                [Face(b.left, b.top, b.width, b.height, b.score) for b in boxes],
                [_name(rules.face, answer) for answer in faces],
                _name(rules.image, image[0]) if rules.image else None,
                max(boxes[0].width, boxes[0].height) / 500 if boxes else 0.0,
            )
            own = row.answer
            assert (given.status, given.label) == (row.status, (own and own.label) or "")
            assert given.confidence == pytest.approx(own.confidence if own else 0, abs=2e-4)
            statuses.add(given.status)
        assert {"ok", "unsure", "neither"} <= statuses

    def test_a_broken_photo_has_failed(self, tmp_path: Path) -> None:
        (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 broken")
        assert ReferenceLabeller(DEFAULT_MODEL).judge(tmp_path / "a.jpg").status == "failed"


def _draw(chance: np.random.Generator, model: Model | None, rows: int) -> Probabilities:
    outputs = len(model.spec.outputs) if model else 0
    drawn = chance.dirichlet([0.5] * outputs, rows) if model else np.empty((0, 0))
    return np.asarray(drawn, dtype=np.float32)


def _name(model: Model | None, answer: Probabilities) -> dict[str, float]:
    assert model
    return dict(zip(model.spec.outputs, map(float, answer), strict=True))


def verdict(text: str, faces: int = 1) -> PhotoVerdict:
    status, _, label_of_it = text.partition(" ")
    return PhotoVerdict(status, label_of_it, 0.9, faces)


class TestAgreement:
    def test_shares_are_of_all_photos_and_accuracy_of_the_named(self) -> None:
        pairs = [
            VerdictPair("happy/a.jpg", "happy", verdict("ok happy"), verdict("ok happy")),
            VerdictPair("happy/b.jpg", "happy", verdict("ok sad", 2), verdict("unsure happy")),
            VerdictPair("sad/c.jpg", "sad", verdict("unsure sad", 0), verdict("ok sad")),
            VerdictPair("d.jpg", None, verdict("ok sad"), verdict("ok sad")),
        ]
        found = agreement.measure_agreement(pairs)
        assert (found.photos, found.same_outcome, found.same_status) == (4, 0.75, 0.5)
        assert (found.faces, found.reference_faces) == (4, 4)
        assert (found.photos_with_more_faces, found.photos_with_fewer_faces) == (1, 1)
        assert (found.sure, found.same_outcome_of_sure) == (4, 0.75)
        assert (found.named, found.accuracy, found.reference_accuracy) == (3, 0.5, 1)
        assert found.coverage == found.reference_coverage == pytest.approx(2 / 3)
        assert not found.holds

    def test_without_a_label_the_status_is_the_outcome(self) -> None:
        pairs = [
            VerdictPair("happy/a.jpg", "happy", verdict("no_person"), verdict("no_person")),
            VerdictPair("happy/b.jpg", "happy", verdict("neither"), verdict("no_person")),
            VerdictPair("happy/c.jpg", "happy", verdict("ok happy"), verdict("neither")),
            VerdictPair("happy/d.jpg", "happy", verdict("ok happy"), verdict("ok happy")),
        ]
        found = agreement.measure_agreement(pairs)
        assert (found.same_outcome, found.same_status) == (0.5, 0.5)
        assert (found.sure, found.same_outcome_of_sure) == (2, 0.5)
        assert (found.accuracy, found.reference_accuracy) == (1, 1), "of those that are ok"
        assert (found.coverage, found.reference_coverage) == (0.5, 0.25)

    @pytest.mark.parametrize("worse", ["ok sad", "unsure happy"])
    def test_neither_accuracy_nor_coverage_may_be_lost(self, worse: str) -> None:
        ok = verdict("ok happy")
        same = [VerdictPair("happy/a.jpg", "happy", ok, ok)] * 299
        assert agreement.measure_agreement(
            [*same, VerdictPair("happy/b.jpg", "happy", ok, ok)]
        ).holds
        lost = VerdictPair("happy/b.jpg", "happy", verdict(worse), ok)
        assert agreement.measure_agreement([*same, lost]).holds
        assert not agreement.measure_agreement([*same[:150], lost]).holds

    def test_a_folder_of_people_without_an_answer_has_no_accuracy(self) -> None:
        pair = VerdictPair("happy/a.jpg", "happy", verdict("neither"), verdict("neither"))
        found = agreement.measure_agreement([pair])
        assert (found.accuracy, found.coverage, found.holds) == (None, 0, True)

    def test_the_docs_show_the_table_that_is_printed(self) -> None:
        pairs = [VerdictPair("a.jpg", None, verdict("ok sad"), verdict("ok sad"))]
        assert_documented(
            agreement.agreement_table(
                agreement.measure_agreement(pairs), "a.zip", "happy-sad", (640,)
            )
        )

    def test_one_lost_label_in_a_hundred_is_allowed(self) -> None:
        same = [VerdictPair("a.jpg", None, verdict("ok sad"), verdict("ok sad"))] * 99
        other = VerdictPair("b.jpg", None, verdict("ok sad"), verdict("ok happy"))
        assert agreement.measure_agreement([*same, other]).holds
        assert not agreement.measure_agreement([*same, other, other]).holds

    def test_a_folder_and_its_zip_file_are_compared_alike(
        self, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (photos / "sub").rename(photos / "happy")
        (photos / "torn.jpg").write_bytes((photos / "coffee.jpg").read_bytes()[:2000])
        pack = tmp_path / "photos.zip"
        with zipfile.ZipFile(pack, "w") as zipped:
            for path in sorted(photos.rglob("*.*g")):
                zipped.write(path, path.relative_to(photos))
        sums = []
        for given in (photos, pack):
            written = tmp_path / f"{given.name}.json"
            assert agreement.main([str(given), "--json", str(written)]) == 0
            sums.append(json.loads(written.read_text("utf-8")))
        assert sums[0] == sums[1]
        assert sums[0]["sums"]["photos"] == 4
        assert sums[0]["sums"]["named"] == 1
        assert sums[0]["sums"]["same_status"] == 1
        assert "Same outcome" in capsys.readouterr().out

    @pytest.mark.parametrize("name", ["no.zip", "empty"])
    def test_no_photos_is_an_error(
        self, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "empty").mkdir()
        assert agreement.main([str(tmp_path / name)]) == 2
        assert name in capsys.readouterr().err
