from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import batch
from batch.errors import InputError, UsageError
from batch.records import Photo, Region
from batch.reports.columns import flatten_row
from batch.vision.crop import crop
from batch.vision.decode import decode
from tests.support.review_data import Row, is_held, write_review, write_snapshots
from tests.support.trainer_data import CONFIG, LABELS, drawn_dataset, write_folders
from trainer.datasets.dataset import Dataset, Framing
from trainer.datasets.drawn_faces import Mood
from trainer.datasets.labelled_files import load_folders
from trainer.datasets.pseudo_labels import add_pseudo_labels
from trainer.datasets.review import Review
from trainer.datasets.reviewed_samples import (
    ELSEWHERE_REASON,
    GONE_REASON,
    ReviewedData,
    add_review,
    read_reviewed,
)
from trainer.datasets.sources import load_dataset
from trainer.evaluation.exported_models import derive_framing, open_model, predict_model
from trainer.training.checkpoint import CHECKPOINT_FILE, load_trained_network
from trainer.training.config import ConfigError, load_config
from trainer.training.cross_validation import cross_validate
from trainer.training.loop import train

HAPPY_SAD = ("happy", "sad")
PHOTO = Framing(Region.IMAGE, side=24, channels=3)


def reviewed(folder: Path, *rows: Row, framing: Framing = PHOTO) -> ReviewedData:
    files = (write_review(folder / "review.csv", rows),)
    return read_reviewed(Review(files, folder), HAPPY_SAD, framing)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return write_snapshots(tmp_path / "night", Mood.SAD, learn=6, held=3, first_seed=500)


def make_rows(pictures: list[Path], said: str = "happy", label: str = "sad") -> list[Row]:
    return [{"path": str(p), "said": said, "label": label} for p in pictures]


def test_photos_in_stores_and_archives_are_skipped_under_their_own_names(
    tmp_path: Path, pictures: list[Path]
) -> None:
    urls = ["s3://bucket/a.jpg", "zip://inner/b.jpg::photos.zip"]
    rows = make_rows(pictures[:1])
    rows += ({"path": url, "label": "sad"} for url in urls)
    found = reviewed(tmp_path, *rows)
    assert len(found.learn) + len(found.held) == 1
    assert [name for name, _ in found.skipped] == urls
    assert {reason for _, reason in found.skipped} == {ELSEWHERE_REASON}


def test_a_face_is_cropped_as_by_the_runner(tmp_path: Path, astronaut: Image.Image) -> None:
    path = tmp_path / "astronaut.jpg"
    astronaut.save(path, quality=92)
    (row,) = batch.label([path], batch.Options(model="happy-sad"))
    (record,) = flatten_row(row, HAPPY_SAD, per_face=False)
    box = {
        name: record[name] for name in record if name.startswith("face_") and "score" not in name
    }
    verdict: Row = {"path": "astronaut.jpg", **box, "said": "happy", "label": "sad"}
    model = open_model("happy-sad")
    found = reviewed(tmp_path, verdict, framing=derive_framing(model))
    (sample,) = (*found.learn, *found.held)
    photo = decode(path)
    assert isinstance(photo, Photo)
    assert sample.box is not None
    assert np.array_equal(sample.pixels, crop(photo, sample.box, 0.0, 48, 48, 1))
    # The report rounds boxes to tenths of a pixel, which changes almost nothing.
    assert row.answer is not None
    wanted = row.answer.probabilities["happy"]
    assert predict_model(model, found.get_split([sample]))[0, 0] == pytest.approx(wanted, abs=0.02)
    assert (sample.label, sample.confirms, bool(found.held)) == (1, False, is_held(path))


def test_a_small_face_of_a_large_photo_is_cropped_from_its_detail(
    tmp_path: Path, astronaut: Image.Image
) -> None:
    scene = Image.new("RGB", (4000, 3000), (120, 130, 120))
    scene.paste(astronaut.convert("RGB").resize((300, 300)), (1000, 1000))
    path = tmp_path / "scene.jpg"
    scene.save(path, quality=92)
    (row,) = batch.label([path], batch.Options(model="happy-sad"))
    assert row.answer is not None
    box = row.answer.box
    assert box is not None
    (record,) = flatten_row(row, HAPPY_SAD, per_face=False)
    verdict: Row = {"path": "scene.jpg", "said": "happy", "label": "sad"}
    places = ("face_left", "face_top", "face_width", "face_height")
    verdict |= {name: record[name] for name in places}
    found = reviewed(tmp_path, verdict, framing=derive_framing(open_model("happy-sad")))
    (sample,) = (*found.learn, *found.held)
    photo = decode(path)
    assert isinstance(photo, Photo)
    assert isinstance(photo.detail, Photo)
    seen = crop(photo.detail, box, 0.0, 48, 48, 1)
    assert np.abs(sample.pixels.astype(int) - seen).mean() < 2


def test_the_split_depends_on_the_bytes_of_a_photo(tmp_path: Path, pictures: list[Path]) -> None:
    found = reviewed(tmp_path, *make_rows(pictures))
    assert {sample.name for sample in found.learn} == {str(p) for p in pictures if not is_held(p)}
    assert {sample.name for sample in found.held} == {str(p) for p in pictures if is_held(p)}
    fewer = reviewed(tmp_path, *make_rows(pictures[::-1][:5]))
    assert {s.digest for s in fewer.held} <= {s.digest for s in found.held}
    assert {s.digest for s in fewer.learn} <= {s.digest for s in found.learn}
    assert not found.skipped
    assert found.get_held().groups.tolist() == [sample.digest for sample in found.held]


def test_of_held_out_photos_the_random_sample_alone_measures_but_none_is_trained_on(
    tmp_path: Path, pictures: list[Path]
) -> None:
    held = [path for path in pictures if is_held(path)]
    rows = make_rows(pictures)
    for row in rows:
        row["sha256"] = hashlib.sha256(Path(str(row["path"])).read_bytes()).hexdigest()
    assert not reviewed(tmp_path, *rows).is_random
    rows[pictures.index(held[0])]["sample"] = "random"
    found = reviewed(tmp_path, *rows)
    assert [sample.name for sample in found.held] == [str(held[0])]
    assert {sample.name for sample in found.unsampled} == {str(path) for path in held[1:]}
    assert (len(found.learn), found.is_random, found.skipped) == (6, True, ())
    # A later answer from another page leaves the photo in the sample, as long as its bytes stay.
    again = {**rows[pictures.index(held[0])], "sample": "", "label": "happy"}
    assert reviewed(tmp_path, *rows, again).held[0].is_random


def test_a_near_duplicate_of_a_held_out_photo_is_not_trained_on(
    tmp_path: Path, pictures: list[Path]
) -> None:
    held = next(path for path in pictures if is_held(path))
    copy = tmp_path / "copy.jpg"
    with Image.open(held) as image:
        for quality in range(80, 100):
            image.save(copy, quality=quality)
            if not is_held(copy):
                break
    found = reviewed(tmp_path, *make_rows([*pictures, copy]))
    assert found.skipped == ((str(copy), "nearly the same as a held-out sample of the review"),)
    assert (len(found.learn), len(found.held)) == (6, 3)


def test_skipped_samples_are_logged_with_the_reason(
    tmp_path: Path, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third, fourth, *rest = pictures
    far: Row = {"face_left": 900, "face_top": 0, "face_width": 9, "face_height": 9}
    (tmp_path / "again.png").write_bytes(third.read_bytes())
    (tmp_path / "other.png").write_bytes(fourth.read_bytes())
    boxed = {"face_left": 0, "face_top": 0, "face_width": 30, "face_height": 30}
    rows: list[Row] = [
        {"path": str(first), "said": "sad", "label": "not_a_person"},
        {"path": "gone.jpg", **boxed, "said": "sad", "label": "sad"},
        {"path": str(second), **far, "said": "sad", "label": "sad"},
        {"path": str(third), **boxed, "said": "sad", "label": "sad"},
        {"path": "again.png", **boxed, "said": "sad", "label": "sad"},
        {"path": str(fourth), **boxed, "said": "sad", "label": "sad"},
        {"path": "other.png", **boxed, "said": "sad", "label": "happy"},
        {"path": str(rest[0]), "said": "sad", "label": "sad"},
    ]
    with caplog.at_level(logging.INFO):
        found = reviewed(tmp_path, *rows, framing=Framing(side=24))
    reasons = {Path(name).name: reason for name, reason in found.skipped}
    assert len(found.learn) + len(found.held) == 1
    assert reasons[first.name] == "the label was not derived from a face"
    assert reasons["gone.jpg"] == GONE_REASON
    assert reasons[second.name] == "the face is outside of the photo, which has changed"
    assert [r for r in reasons.values() if r.startswith("the same photo as")]
    assert reasons["other.png"] == "the same photo is labelled happy and sad"
    assert reasons[rest[0].name] == "the label was not derived from a face"
    assert len(found.skipped) == 7
    assert "held out, 7 skipped" in caplog.text
    assert "1: it was moved or deleted since the review: if it was moved, run" in caplog.text


def test_a_photo_that_changed_since_it_was_reviewed_is_skipped(
    tmp_path: Path, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    same, changed, *_ = rows = make_rows(pictures[:3])
    same["sha256"] = hashlib.sha256(pictures[0].read_bytes()).hexdigest()
    changed["sha256"] = "0a" * 32
    with caplog.at_level(logging.INFO):
        found = reviewed(tmp_path, *rows)
    assert len(found.learn) + len(found.held) == 2
    assert "1: the photo has changed since it was reviewed (" in caplog.text


def test_photos_that_were_moved_are_found_by_their_digests_in_the_report(
    tmp_path: Path, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    rows = make_rows(pictures)
    digests = [hashlib.sha256(picture.read_bytes()).hexdigest() for picture in pictures]
    for row, digest in zip(rows, digests, strict=True):
        row["sha256"] = digest
    # An answer that was given after the move overrides the one that was given before.
    (again,) = make_rows(pictures[:1], label="happy")
    moved = pictures[0].parent.rename(tmp_path / "September")
    again |= {"path": f"September/{pictures[0].name}", "sha256": digests[0]}
    review = write_review(tmp_path / "results.csv.reviews.csv", [*rows, again])
    report = tmp_path / "results.csv"
    # The last photo was deleted: the report keeps the row of its old place.
    (moved / pictures[-1].name).unlink()
    places = [f"September/{picture.name}" for picture in pictures]
    lines = [f"{place},{digest}" for place, digest in zip(places, digests, strict=True)]
    report.write_text("\n".join(["path,sha256", f"{pictures[-1]},{digests[-1]}", *lines, ""]))
    with caplog.at_level(logging.INFO):
        found = read_reviewed(Review((review,), tmp_path), HAPPY_SAD, PHOTO)
    samples = (*found.learn, *found.held)
    assert len(samples) == len(pictures) - 1
    assert {Path(one.name).parent for one in samples} == {moved}
    assert [one.label for one in samples if one.digest == digests[0]] == [HAPPY_SAD.index("happy")]
    assert found.skipped == ((str(pictures[-1]), GONE_REASON),)
    assert f"{len(pictures) - 1} reviewed photos were moved, and are found by their" in caplog.text

    caplog.clear()
    report.write_text("path\nSeptember/a.jpg\n")
    with pytest.raises(InputError, match="it was moved or deleted"):
        read_reviewed(Review((write_review(review, rows),), tmp_path), HAPPY_SAD, PHOTO)
    assert "WARNING: moved photos can't be looked up: report " in caplog.text
    assert "has no column sha256" in caplog.text


def test_a_review_without_a_usable_photo_is_an_error(tmp_path: Path, pictures: list[Path]) -> None:
    with pytest.raises(InputError, match=r"a\.jpg: it was moved or deleted .*; give --photos"):
        reviewed(tmp_path, {"path": "a.jpg", "said": "sad", "label": "sad"})
    with pytest.raises(InputError, match=r"no photo of .*review\.csv can be used, it has no rows"):
        reviewed(tmp_path)
    with pytest.raises(InputError, match="the label was not derived from a face"):
        reviewed(tmp_path, *make_rows(pictures), framing=Framing(side=24))
    with pytest.raises(InputError, match="no_person is not one of happy, sad"):
        reviewed(tmp_path, *make_rows(pictures, label="no_person"))


@pytest.mark.parametrize("label", ["neither", "no_person"])
def test_reviewed_abstain_classes_are_used_if_the_data_have_them(
    tmp_path: Path, pictures: list[Path], label: str, caplog: pytest.LogCaptureFixture
) -> None:
    boxed = {"face_left": 0, "face_top": 0, "face_width": 30, "face_height": 30}
    rows = [row | boxed for row in make_rows(pictures, label=label)]
    rows[:1] = [rows[0] | {"label": "sad"}]
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    classes = ("happy", "sad", label)
    for framing in (PHOTO, Framing(side=24)):
        found = read_reviewed(review, classes, framing)
        assert not found.skipped
        assert sorted(s.label for s in (*found.learn, *found.held)) == [1] + [2] * 8
        assert found.get_split(found.learn).votes.shape == (6, 3)
        with caplog.at_level(logging.INFO):
            less = read_reviewed(review, ("happy", "sad"), framing)
        assert len(less.learn) + len(less.held) == 1
        assert len(less.skipped) == 8
        assert f"  8: {label} is not one of happy, sad ({pictures[1]}, " in caplog.text


def test_a_label_that_the_model_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"line 2 has the label 'angry', which is not one of happy, sad; if the class was "
        "renamed, replace its old name in this file",
    ):
        reviewed(tmp_path, {"path": "a.jpg", "said": "sad", "label": "angry"})


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return load_folders(write_folders(tmp_path / "data", 25), PHOTO)


def make_review(folder: Path, pictures: list[Path]) -> Review:
    return Review((write_review(folder / "review.csv", make_rows(pictures)),), folder)


def test_data_have_training_and_held_out_reviewed_samples(
    tmp_path: Path, data: Dataset, pictures: list[Path]
) -> None:
    more = add_review(data, make_review(tmp_path, pictures))
    assert more.reviewed is not None
    assert more.held is not None
    assert (len(more.reviewed), len(more.held)) == (6, 3)
    assert more.reviewed.votes.tolist() == [[0.0, 1.0]] * 6
    assert len(more.get_split("all")) == len(data.get_split("all"))
    assert more.fingerprint != data.fingerprint
    assert replace(more, held=None).fingerprint == more.fingerprint


def test_a_review_adds_samples_of_an_abstain_class(tmp_path: Path, pictures: list[Path]) -> None:
    folders = write_folders(tmp_path / "data", 25)
    (folders / "neither").mkdir()
    for path in sorted((folders / "sad").iterdir())[:10]:
        path.rename(folders / "neither" / path.name)
    rows = make_rows(pictures, label="neither")
    review = Review((write_review(tmp_path / "review.csv", rows),), tmp_path)
    more = add_review(load_folders(folders, PHOTO), review)
    assert more.reviewed is not None
    assert set(more.reviewed.targets.tolist()) == {more.labels.index("neither")}


def test_samples_that_are_already_in_the_data_are_skipped(tmp_path: Path, data: Dataset) -> None:
    own = [*sorted((tmp_path / "data" / "sad").iterdir())]
    more = add_review(data, make_review(tmp_path, own))
    assert more.reviewed is not None
    assert more.held is not None
    assert len(more.reviewed) == len(more.held) == 0
    assert more.skipped[-1][1] == "nearly the same as a sample of the data"


def test_a_label_may_have_a_synonym(tmp_path: Path, pictures: list[Path]) -> None:
    gray = replace(drawn_dataset(), framing=Framing(Region.IMAGE, side=24, channels=1))
    more = add_review(gray, make_review(tmp_path, pictures))
    assert more.reviewed is not None
    assert set(more.reviewed.targets.tolist()) == {LABELS.index("sadness")}


def test_pseudo_labelled_photos_are_not_reviewed_ones(
    tmp_path: Path, data: Dataset, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.datasets.pseudo_labels.MAX_PSEUDO_SHARE", 1.0)
    happy = write_snapshots(tmp_path / "night", Mood.HAPPY, learn=2, held=0, first_seed=900)
    report = tmp_path / "report.csv"
    lines = [f"{p},ok,sad" for p in pictures] + [f"{p},ok,happy" for p in happy]
    report.write_text("path,status,label\n" + "\n".join(lines) + "\n")
    held = [path for path in pictures if is_held(path)]
    beside = add_pseudo_labels(
        add_review(data, make_review(tmp_path, held)), report
    ).pseudo_labelled
    assert beside is not None
    assert len(beside) == 4
    with pytest.raises(InputError, match="does not have a photo with status ok for each"):
        add_pseudo_labels(add_review(data, make_review(tmp_path, pictures)), report)


def test_reviewed_samples_are_in_every_fold_and_never_held_out(
    tmp_path: Path, data: Dataset, pictures: list[Path]
) -> None:
    config = replace(CONFIG, epochs=1)
    plain = cross_validate(data, config, tmp_path / "plain", folds=2, seed=1)
    more = add_review(data, make_review(tmp_path, pictures))
    other = cross_validate(more, config, tmp_path / "more", folds=2, seed=1)
    assert other.names == plain.names
    assert not np.array_equal(other.logits, plain.logits)


def test_review_weight_is_how_often_reviewed_samples_count(
    tmp_path: Path, data: Dataset, pictures: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    more = add_review(data, make_review(tmp_path, pictures))
    with caplog.at_level(logging.INFO):
        train(more, replace(CONFIG, epochs=1, review_weight=3), tmp_path / "run")
    own = len(data.train)
    counts = f"{own + 3 * 6} samples to train on ({own} of the photos + 6 reviewed, each 3 times), "
    assert counts in caplog.text
    assert load_trained_network(tmp_path / "run").fingerprint == more.fingerprint
    with pytest.raises(
        ConfigError, match="review_weight must be a whole number from 1 to 1,000, not 0"
    ):
        load_config(None, {"review_weight": 0})


def test_a_training_without_a_review_resumes_with_any_review_weight(
    tmp_path: Path, data: Dataset
) -> None:
    config = replace(CONFIG, epochs=1)
    train(data, config, tmp_path)
    before = (tmp_path / CHECKPOINT_FILE).stat().st_mtime_ns
    train(data, replace(config, review_weight=2), tmp_path)
    assert (tmp_path / CHECKPOINT_FILE).stat().st_mtime_ns == before


def test_a_review_alone_or_beside_drawn_faces_is_refused(
    tmp_path: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    review = make_review(tmp_path, pictures)
    with pytest.raises(UsageError, match=r"review\.csv is a review, .*give it as --review"):
        load_dataset(tmp_path / "review.csv", None)
    with pytest.raises(UsageError, match="reviews can't be added to drawn faces"):
        load_dataset(Path("drawn"), None, review=review)
