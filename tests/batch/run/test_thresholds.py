"""New thresholds are applied to the rows in the journal, without labelling photos again."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import skimage.data
from PIL import Image, ImageEnhance

from batch.models.ensemble import Ensemble, load_ensemble
from batch.options import Device, Options, Provider
from batch.records import Photo, Row, Source, Status
from batch.row_json import pack_row, unpack_row
from batch.vision.decide import apply_thresholds
from batch.vision.labeller import Labeller
from batch.vision.plan import make_plan
from tests.support.runs import RunFolder as RunPlace
from tests.support.runs import make_photos

PATH = Path("p.jpg")


@cache
def _photos() -> tuple[Photo, ...]:
    """Save real pictures: faces that differ in size, light and number, and objects."""
    face = Image.fromarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    two = Image.new("RGB", (1024, 512))
    two.paste(face, (0, 0))
    two.paste(ImageEnhance.Brightness(face).enhance(0.4).rotate(20), (512, 0))
    portrait = face.crop((170, 20, 300, 200))
    pictures = (
        *(face, two, portrait, portrait.resize((26, 36)).resize((130, 180))),
        *(ImageEnhance.Brightness(portrait).enhance(light) for light in (0.15, 0.4, 2.5)),
        *(portrait.rotate(angle) for angle in (25, 60, 180)),
        Image.fromarray(skimage.data.coffee()).resize((300, 200)),  # type: ignore[no-untyped-call]
    )
    return tuple(Photo(PATH, p.convert("RGB"), *p.size) for p in pictures)


@cache
def _labeller() -> Labeller:
    return Labeller(make_plan(load_ensemble(Options()), 32), Device(Provider.CPU))


def _rows(ensemble: Ensemble) -> list[Row]:
    """Label the photos with thresholds."""
    labeller = _labeller()
    labeller._ensemble = ensemble
    return [labeller.label(photo) for photo in _photos()]


def _thresholds(rows: list[Row]) -> Iterator[float]:
    """List every confidence in the rows, its neighbours, 0 and 1."""
    answers = [answer for row in rows for answer in (row.answer, *row.faces) if answer]
    for answer in answers:
        yield from (answer.confidence, math.nextafter(answer.confidence, 1))
    yield from (0.0, 0.5, 1.0)


@pytest.mark.parametrize("always_answer", [False, True])
@pytest.mark.parametrize("per_face", [False, True])
def test_thresholds_do_not_change_the_rows_in_the_journal(
    always_answer: bool, per_face: bool
) -> None:
    usual = Options(per_face=per_face)
    rows = _rows(load_ensemble(usual))
    kept = [pack_row(row) for row in rows]
    assert {Source.FACE, Source.BOTH, Source.IMAGE} == {row.source for row in rows}
    seen = set()
    for least in sorted(set(_thresholds(rows))):
        options = replace(usual, always_answer=always_answer, min_confidence=least)
        own = load_ensemble(options)
        again = [apply_thresholds(unpack_row(PATH, text), own) for text in kept]
        assert again == _rows(own)
        seen |= {row.status for row in again}
    assert Status.UNSURE in seen
    assert Status.OK in seen
    assert (Status.NEITHER in seen) is not always_answer


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> RunPlace:
    """A folder whose photos were labelled with the models' own thresholds."""
    place = RunPlace(tmp_path_factory.mktemp("labelled"))
    make_photos(place.folder / "photos", 20)
    assert place.label()["labelled_now"] == 20
    return place


@pytest.mark.parametrize(
    "thresholds",
    [
        ("--min-confidence", "0.9"),
        ("--always-answer", "--min-confidence", "0.7"),
    ],
)
def test_a_new_threshold_needs_no_new_labels(
    labelled: RunPlace, thresholds: tuple[str, ...]
) -> None:
    counts = labelled.label(*thresholds)
    assert (counts["labelled_now"], counts["reused"]) == (0, 20)
    assert labelled.run("photos", "-o", "new.csv", "--fresh", *thresholds).returncode == 0
    assert labelled.report.read_bytes() == (labelled.folder / "new.csv").read_bytes()


@pytest.mark.parametrize(
    ("output", "options"),
    [
        ("faces.jsonl", ("--per-face",)),
        ("results/", ()),
        ("shard.csv", ("--shard", "1/2", "--keep-missing")),
    ],
)
def test_every_kind_of_report_takes_a_new_threshold(
    tmp_path: Path, output: str, options: tuple[str, ...]
) -> None:
    place = RunPlace(tmp_path)
    make_photos(tmp_path / "photos", 12)
    new = f"new-{output}"
    for name, chosen in (
        (output, ()),
        (output, ("--min-confidence", "0.8")),
        (new, ("--min-confidence", "0.8")),
    ):
        assert place.run("photos", "-o", name, *options, *chosen).returncode == 0
    known, fresh = tmp_path / output, tmp_path / new
    assert _files(known) == _files(fresh)


def _files(report: Path) -> dict[str, bytes]:
    files = sorted(report.rglob("*")) if report.is_dir() else [report]
    return {str(file.relative_to(report)): file.read_bytes() for file in files if file.is_file()}
