from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import batch
from batch import Options, Provider, Reason, Region, Row, Source, Status
from batch.engines.local import LocalEngine
from batch.errors import InputError, ModelError, UsageError
from batch.location import Location
from batch.models.contract import load_model
from batch.models.ensemble import Thresholds, load_ensemble
from batch.models.fusion import Fusion, FusionWeights
from batch.options import DEFAULT_MODEL
from batch.records import FileState
from tests.support.runs import list_children
from tests.support.tiny_models import bright_fusion, bright_model, bright_spec, save_model

CPU = Options(provider=Provider.CPU)
FACES = Options(provider=Provider.CPU, model="happy-sad")


@pytest.fixture
def bright(tmp_path: Path) -> str:
    return str(save_model(bright_model(), tmp_path / "bright.onnx"))


def test_the_astronaut_is_happy(photos: Path) -> None:
    rows = {row.path.name: row for row in batch.label([photos], FACES)}
    astronaut = rows["astronaut.jpg"]
    assert astronaut.status is Status.OK
    assert astronaut.answer is not None
    assert astronaut.answer.label == "happy"
    assert astronaut.answer.confidence > 0.9
    assert astronaut.source is Source.FACE
    assert (astronaut.width, astronaut.height) == (512, 512)
    box = astronaut.answer.box
    assert box is not None
    # Her face, as seen in the picture.
    assert 150 < box.left + box.width / 2 < 290
    assert 60 < box.top + box.height / 2 < 190
    assert rows["coffee.jpg"].status is Status.NO_FACE


def test_waiting_for_the_run_is_not_the_time_of_a_stage(photos: Path) -> None:
    def known(path: Location, state: FileState) -> None:
        time.sleep(3)

    with closing(LocalEngine(replace(FACES, workers=1))) as engine:
        (finished,) = engine.label([photos / "astronaut.jpg"], known)
    assert finished.row.status is Status.OK
    seconds = engine.timings.seconds()
    assert seconds["decode"] > 0
    assert sum(seconds.values()) < 3


def test_every_file_has_its_row_in_order(photos: Path) -> None:
    (photos / "broken.jpg").write_bytes((photos / "coffee.jpg").read_bytes()[:3000])
    (photos / "empty.png").touch()
    rows = list(batch.label([photos], CPU))
    assert [Path(row.path).relative_to(photos).as_posix() for row in rows] == [
        "astronaut.jpg",
        "broken.jpg",
        "coffee.jpg",
        "empty.png",
        "sub/small.png",
    ]
    reasons = [row.failure.reason for row in rows if row.failure]
    assert reasons == [Reason.TRUNCATED, Reason.EMPTY]


def test_batch_size_and_workers_do_not_change_the_rows(photos: Path) -> None:
    expected = list(batch.label([photos], CPU))
    assert {row.source for row in expected} == {Source.FACE, Source.IMAGE}
    for batch_size, workers in ((1, 1), (2, 3), (64, 2)):
        options = Options(provider=Provider.CPU, batch_size=batch_size, workers=workers)
        assert list(batch.label([photos], options)) == expected


def test_all_faces_of_a_group_are_found(tmp_path: Path, astronaut: Image.Image) -> None:
    group = Image.new("RGB", (1536, 512), "grey")
    for n in range(3):
        group.paste(astronaut, (512 * n, 0))
    group.save(tmp_path / "group.png")
    (row,) = batch.label([tmp_path / "group.png"], CPU)
    assert len(row.faces) == 3
    assert row.answer is not None
    assert row.answer.label == "happy"


def test_a_model_of_whole_photos_needs_no_face(photos: Path, tmp_path: Path) -> None:
    spec = bright_spec(region=Region.IMAGE)
    model = save_model(bright_model(spec), tmp_path / "whole.onnx")
    rows = list(batch.label([photos], Options(model=str(model), provider=Provider.CPU)))
    assert {row.source for row in rows} == {Source.IMAGE}
    assert all(row.answer and row.answer.box is None for row in rows)


def _pair(
    folder: Path,
    fusion: Fusion | None,
    face_abstain: dict[str, float] | None = None,
    **changes: object,
) -> Options:
    """A face model and a whole-photo model, joined."""
    face = bright_spec(name="face", abstain_from=face_abstain or {})
    save_model(bright_model(face), folder / "face.onnx")
    spec = bright_spec(name="whole", region=Region.IMAGE, fusion=fusion, **changes)
    save_model(bright_model(spec), folder / "whole.onnx")
    return Options(model=f"{folder}/face.onnx+{folder}/whole.onnx", provider=Provider.CPU)


def test_two_models_answer_together(photos: Path, tmp_path: Path) -> None:
    rule = FusionWeights((0.3, 0.0), 0.7, 0.5, {}, 0.0, 4.0, {})
    fusion = bright_fusion(both=rule, photo=rule, unsure_below=0.55)
    rows = list(batch.label([photos], _pair(tmp_path, fusion)))
    assert [row.source for row in rows] == [Source.BOTH, Source.IMAGE, Source.BOTH]
    face, whole = (
        list(batch.label([photos], Options(model=f"{tmp_path}/{name}.onnx", provider=Provider.CPU)))
        for name in ("face", "whole")
    )
    for row, one, other in zip(rows, face, whole, strict=True):
        assert row.answer
        assert other.answer
        seen = list(one.answer.probabilities.values()) if one.answer else None
        fused = fusion.fuse(
            None if seen is None else np.asarray(seen, dtype=np.float32),
            row.faces[0].box.score if row.faces and row.faces[0].box else 0.0,
            np.asarray(list(other.answer.probabilities.values()), dtype=np.float32),
        )
        assert list(row.answer.probabilities.values()) == pytest.approx(fused.tolist())
        assert row.faces == one.faces


def test_models_that_do_not_match_are_refused(photos: Path, tmp_path: Path) -> None:
    fusion = bright_fusion()
    with pytest.raises(ModelError, match="fitted to no face model"):
        batch.label([photos], _pair(tmp_path, None))
    with pytest.raises(ModelError, match="fitted only to other"):
        batch.label([photos], _pair(tmp_path, replace(fusion, face_model="other")))
    with pytest.raises(ModelError, match="different labels"):
        batch.label([photos], _pair(tmp_path, fusion, labels=("sad", "happy")))
    twice = Options(model=f"{tmp_path}/face.onnx+{tmp_path}/face.onnx", provider=Provider.CPU)
    with pytest.raises(ModelError, match="only a face model and a whole-photo model"):
        batch.label([photos], twice)


def test_the_threshold_is_the_model_s_by_default(photos: Path, bright: str) -> None:
    def status(min_confidence: float | None) -> Status:
        options = Options(model=bright, provider=Provider.CPU, min_confidence=min_confidence)
        (row,) = batch.label([photos / "astronaut.jpg"], options)
        return row.status

    assert status(0.0) is Status.OK
    assert status(1.0) is Status.UNSURE
    for least in (None, 0.7):
        ensemble = load_ensemble(Options(model=bright, min_confidence=least))
        assert ensemble.photo_thresholds.unsure_below == (least or 0.6)
        assert ensemble.face_thresholds.unsure_below == (least or 0.6)
        assert ensemble.model_thresholds.unsure_below == 0.6


def _mixed(folder: Path) -> Path:
    """Save pictures without a face: a bright, a grey and a black one."""
    (folder / "mixed").mkdir()
    for name, grey in (("1.png", 250), ("2.png", 100), ("3.png", 0)):
        Image.new("L", (64, 48), grey).save(folder / "mixed" / name)
    return folder / "mixed"


def test_a_model_may_abstain_unless_always_answer_is_set(tmp_path: Path) -> None:
    abstain = {"neither": 0.5, "no_person": 0.5}
    spec = bright_spec(region=Region.IMAGE, abstain_from=abstain)
    model = str(save_model(bright_model(spec), tmp_path / "whole.onnx"))
    folder = _mixed(tmp_path)
    options = Options(model=model, provider=Provider.CPU)
    usual = list(batch.label([folder], options))
    always = list(batch.label([folder], replace(options, always_answer=True)))
    assert [row.status for row in usual] == [Status.OK, Status.UNSURE, Status.NO_PERSON]
    assert [row.status for row in always] == [Status.OK, Status.OK, Status.UNSURE]
    for row, other in zip(always, usual, strict=True):
        assert row.answer
        assert other.answer
        assert row.answer.label == "happy"
        assert row.answer.probabilities == other.answer.probabilities
        assert list(row.answer.probabilities) == ["happy", "sad", "neither", "no_person"]
    assert usual[2].answer is not None
    assert (usual[2].answer.label, usual[2].answer.confidence) == (None, 0.75)


def test_a_pair_has_the_thresholds_of_its_fusion(photos: Path, tmp_path: Path) -> None:
    photo_abstain = {"neither": 0.1, "no_person": 0.2}
    rule = FusionWeights(
        bias=(0.0,) * 4,
        face=1.0,
        label=1.0,
        abstain=dict.fromkeys(photo_abstain, 1.0),
        score=0.0,
        label_limit=4.0,
        abstain_limits=dict.fromkeys(photo_abstain, (-4.0, 4.0)),
    )
    fusion = bright_fusion(
        both=rule,
        photo=rule,
        face_abstain=("neither",),
        abstain_from={"neither": 0.7, "no_person": 0.8},
        unsure_below=0.55,
    )
    options = _pair(tmp_path, fusion, {"neither": 0.4}, abstain_from=photo_abstain)
    ensemble = load_ensemble(options)
    assert ensemble.outputs == ("happy", "sad", "neither", "no_person")
    assert ensemble.photo_thresholds == Thresholds(0.55, fusion.abstain_from)
    assert ensemble.face_thresholds == Thresholds(0.6, {"neither": 0.4})
    always = load_ensemble(replace(options, always_answer=True))
    assert always.photo_thresholds == Thresholds(0.55, fusion.abstain_from, always_answer=True)
    assert always.face_thresholds.always_answer
    for row in batch.label([photos], options):
        assert row.answer is not None
        assert list(row.answer.probabilities) == ["happy", "sad", "neither", "no_person"]
        assert all(list(f.probabilities) == ["happy", "sad", "neither"] for f in row.faces)


def test_a_face_model_with_other_abstain_outputs_than_it_had_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"fitted to another version of face, .* outputs none"):
        load_ensemble(_pair(tmp_path, bright_fusion(), {"neither": 0.4}))


def test_a_face_model_that_was_replaced_after_the_fit_is_refused(tmp_path: Path) -> None:
    load_ensemble(_pair(tmp_path, bright_fusion()))
    digest = load_model(tmp_path / "face.onnx").digest
    options = _pair(tmp_path, bright_fusion(face_sha256=digest))
    assert load_ensemble(options).fusion == bright_fusion(face_sha256=digest)
    newer = bright_spec(name="face", version="2")
    save_model(bright_model(newer), tmp_path / "face.onnx")
    with pytest.raises(ModelError, match=rf"fitted to another face: .* SHA-256 {digest[:12]}"):
        load_ensemble(options)


def test_a_wrong_golden_answer_stops_the_run(photos: Path, tmp_path: Path) -> None:
    golden = bright_spec().golden
    golden.outputs[0] = (0.9, 0.1)
    model = save_model(bright_model(bright_spec(golden=golden)), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="golden samples wrongly"):
        batch.label([photos], Options(model=str(model), provider=Provider.CPU))


def test_errors_are_raised_before_the_first_row(photos: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        batch.label([photos, "nowhere"])
    with pytest.raises(UsageError, match="gloomy"):
        batch.label([photos], Options(model="gloomy"))


def test_rows_become_a_data_frame(photos: Path) -> None:
    rows = list(batch.label([photos], FACES))
    frame = batch.to_frame(rows)
    assert list(frame["status"]) == [row.status.value for row in rows]
    assert frame["p_happy"].iloc[0] > 0.9
    assert frame["p_happy"].iloc[1] != frame["p_happy"].iloc[1]  # no face: not a number
    faces = batch.to_frame(rows, per_face=True)
    assert "face" in faces.columns
    assert len(batch.to_frame([])) == 0


def test_the_runner_needs_neither_torch_nor_the_trainer(photos: Path, repository: Path) -> None:
    script = f"""
import sys
for name in ("torch", "trainer", "onnxscript", "matplotlib", "tensorboard", "cv2"):
    sys.modules[name] = None
import batch
rows = list(batch.label([{str(photos)!r}]))
assert len(rows) == 3, rows
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=repository, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


def test_the_default_is_a_face_model_with_a_model_of_whole_photos() -> None:
    ensemble = load_ensemble(CPU)
    assert ensemble.face is not None
    assert ensemble.image is not None
    assert ensemble.labels == ("happy", "sad")
    assert "+".join(model.spec.name for model in ensemble.models) == DEFAULT_MODEL


def test_rows_are_values(photos: Path) -> None:
    first = next(iter(batch.label([photos], CPU)))
    assert isinstance(first, Row)
    with pytest.raises(AttributeError):
        first.status = Status.FAILED  # type: ignore[misc]


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_an_iterator_that_is_not_used_leaves_no_process(photos: Path) -> None:
    before = len(list_children(os.getpid()))
    rows = batch.label([photos], CPU)
    assert len(list_children(os.getpid())) > before
    del rows
    assert len(list_children(os.getpid())) == before


def test_an_engine_labels_more_than_once(photos: Path) -> None:
    with closing(LocalEngine(CPU)) as engine:
        first, second = (
            [finished.row for finished in engine.label([photos / "astronaut.jpg"])]
            for _ in range(2)
        )
        assert first == second
        assert engine.timings.seconds().keys() >= {"read", "decode", "faces", "crop", "classify"}
