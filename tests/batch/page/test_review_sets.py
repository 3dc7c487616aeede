"""Which photos the page asks people to review."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from batch.page import gather
from batch.page.gather import PageRow, read_page_report
from batch.page.review_sets import choose_to_learn_from, find_sample
from batch.page.thumbnails import PagePicture, choose_pictured, compute_colours
from batch.reading.held_out import TRAIN_SHARE, is_held_out
from batch.reading.saved import SavedRow
from tests.batch.page.test_nights import make_digested_row
from tests.support.page_rows import make_report_page, page_data, write_photos, write_report

COUNT = 2_000
GREY = compute_colours(Image.new("RGB", (64, 64), (90, 90, 90)))


def make_row(number: int, digest: bytes | None = None, status: str = "ok") -> PageRow:
    sha256 = hashlib.sha256(f"photo {number}".encode()).digest() if digest is None else digest
    row = SavedRow(f"{number}.jpg", status, "happy", 0.5 + number % 500 / 1000)
    return PageRow(number, row, sha256=sha256)


ROWS = [make_row(number) for number in range(COUNT)]


def find_paths(rows: Sequence[PageRow], sample: Sequence[int]) -> set[str]:
    return {rows[index].saved.path for index in sample}


def test_the_sample_is_the_highest_digests_all_of_them_held_out() -> None:
    sample = find_sample(ROWS, (), is_complete=True)
    highest = sorted(ROWS, key=lambda row: row.sha256 or b"", reverse=True)[:50]
    assert [ROWS[index] for index in sample] == highest
    assert all(row.is_above(TRAIN_SHARE) for row in highest)
    # There are no more than the held-out ones.
    all_of_them = find_sample(ROWS, (), is_complete=True, size=COUNT)
    assert all(ROWS[index].is_above(TRAIN_SHARE) for index in all_of_them)
    assert len(all_of_them) == sum(row.is_above(TRAIN_SHARE) for row in ROWS)
    assert 0.17 * COUNT < len(all_of_them) < 0.23 * COUNT


def test_the_sample_does_not_depend_on_confidence() -> None:
    sample = find_sample(ROWS, (), is_complete=True, size=200)
    mean = sum(ROWS[index].saved.confidence or 0 for index in sample) / len(sample)
    of_all = sum(row.saved.confidence or 0 for row in ROWS) / COUNT
    assert abs(mean - of_all) < 0.03  # three standard errors


def test_the_sample_stays_and_grows_with_answers_and_with_photos() -> None:
    first = find_sample(ROWS, (), is_complete=True)
    assert find_sample(ROWS, (), is_complete=True) == first
    grown = find_sample(ROWS, set(first), is_complete=True)
    assert grown[:50] == first
    assert len(grown) == 100
    # Of as many new photos, about as many join the sample; those that were answered stay.
    later = [*ROWS, *(make_row(number) for number in range(COUNT, 2 * COUNT))]
    sample = find_sample(later, set(first), is_complete=True)
    assert sum(index not in set(first) for index in sample) == 50
    lowest = min(later[index].sha256 or b"" for index in sample)
    assert find_paths(later, sample) == {
        row.saved.path for row in later if (row.sha256 or b"") >= lowest
    }  # all photos above a digest: a uniform sample
    joined = [index for index in sample if index >= COUNT]
    assert joined
    # Answers to other photos change nothing.
    trained = {index for index, row in enumerate(ROWS) if not row.is_above(TRAIN_SHARE)}
    assert find_sample(ROWS, trained, is_complete=True) == first


def test_all_faces_and_copies_of_a_photo_are_in_the_sample() -> None:
    highest, next_one = b"\xff" * 32, b"\xfe" * 32
    rows = [make_row(n, digest) for n, digest in enumerate([highest, highest, next_one, next_one])]
    assert find_sample(rows, (), is_complete=True, size=1) == [0, 1]
    assert find_sample(rows, {0, 1}, is_complete=True, size=1) == [0, 1, 2, 3]


def test_the_copies_of_a_photo_count_once() -> None:
    copies = [make_row(COUNT + n, b"\xff" * 32) for n in range(60)]
    sample = find_sample([*ROWS, *copies], (), is_complete=True)
    assert set(sample) >= set(range(COUNT, COUNT + 60))
    assert {index for index in sample if index < COUNT} == set(
        find_sample(ROWS, (), is_complete=True, size=49)
    )
    # A photo counts as long as one of its faces is not reviewed.
    both, other = b"\xff" * 32, b"\xfe" * 32
    rows = [make_row(n, digest) for n, digest in enumerate([both, both, other])]
    assert find_sample(rows, {0}, is_complete=True, size=1) == [0, 1]


def test_photos_that_can_not_be_seen_are_not_in_the_sample() -> None:
    digest = b"\xff" * 32
    gone = SavedRow("1.jpg", "ok", "happy", 0.6, missing=True)
    rows = [
        make_row(0, digest, "failed"),
        replace(make_row(1, digest), saved=gone),
        replace(make_row(2), sha256=None),
        make_row(3, digest),
    ]
    assert find_sample(rows, (), is_complete=True) == [3]


def test_a_report_that_is_cut_keeps_its_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [make_digested_row(f"{number}.jpg", 0.9) for number in range(1_000)]
    report = write_report(tmp_path / "r.csv", rows)
    whole = read_page_report(report)
    of_all = find_paths(whole.rows, find_sample(whole.rows, (), True, 5))
    monkeypatch.setattr(gather, "MAX_ROWS", 50)
    cut = read_page_report(report)
    assert len(cut.rows) == 50
    assert find_paths(cut.rows, find_sample(cut.rows, (), False, 5)) == of_all
    # Below the place from which all photos are kept, a sample would not be random.
    most = find_sample(cut.rows, (), False, 50)
    assert {cut.rows[index].is_above(0.99) for index in most} == {True}
    assert len(most) == sum(row.is_above(0.99) for row in whole.rows) < 50


def test_the_sample_has_the_first_pictures() -> None:
    sample = find_sample(ROWS, (), is_complete=True)
    answered = {sample[0]: 1}
    chosen = choose_pictured(ROWS, 60, answered, sample)
    assert [row.number for row in chosen[:49]] == sample[1:]
    assert [row.number for row in chosen[49:51]] == [sample[0], 0]
    assert len(chosen) == len({row.number for row in chosen}) == 60
    assert [row.number for row in choose_pictured(ROWS, 3, {}, sample)] == sample[:3]


def test_the_least_certain_photos_that_may_be_trained_on_are_chosen_to_learn_from() -> None:
    pictures = {row.number: PagePicture(b"webp", colours=spread(row.number)) for row in ROWS}
    doubtful = sorted(ROWS, key=lambda row: row.doubt)
    answered = {next(row.number for row in doubtful if not row.is_above(TRAIN_SHARE))}
    chosen = choose_to_learn_from(ROWS, pictures, answered)
    may = [r for r in doubtful if not r.is_above(TRAIN_SHARE) and r.number not in answered]
    assert [ROWS[index] for index in chosen] == may[:50]
    # Photos without a picture can't be judged.
    del pictures[may[0].number]
    pictures[may[1].number] = PagePicture(note="No picture")
    assert choose_to_learn_from(ROWS, pictures, answered, 1) == [may[2].number]
    assert choose_to_learn_from(ROWS, {}, answered) == []


def spread(number: int) -> bytes:
    """Make colours that differ from those of all other numbers."""
    return hashlib.shake_256(str(number).encode()).digest(len(GREY))


def test_one_of_a_series_of_similar_pictures_is_chosen(astronaut: Image.Image) -> None:
    rows = [replace(make_row(number), sha256=bytes(32)) for number in range(4)]
    moved = astronaut.crop((10, 5, 507, 500)).resize(astronaut.size)
    mirrored = astronaut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pictures = {
        n: PagePicture(b"webp", colours=compute_colours(image))
        for n, image in enumerate([astronaut, moved, mirrored, Image.new("RGB", (512, 512))])
    }
    assert choose_to_learn_from(rows, pictures, ()) == [0, 2, 3]


def test_the_page_has_both_sets(tmp_path: Path, astronaut: Image.Image) -> None:
    rows = [make_digested_row(f"{number}.jpg", 0.5 + number / 100) for number in range(30)]
    write_photos(tmp_path, rows, astronaut)
    page, _ = make_report_page(write_report(tmp_path / "r.csv", rows))
    data = page_data(page)
    held = [n for n, row in enumerate(rows) if row.sha256 and is_held_out(row.sha256.hex())]
    assert sorted(data["sample"]) == held
    # All photos look the same.
    assert data["chosen"] == [min(set(range(30)) - set(held))]
