"""A short slice of the fuzzer in every run of the tests; ``make fuzz`` goes on for as long as one
likes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from batch.decode import decode_bytes
from batch.records import Photo
from tests.fuzz.apart import check_apart
from tests.fuzz.cases import case
from tests.fuzz.invariants import check_photo
from tests.fuzz.labelling import label_files
from tests.fuzz.mutations import MUTATIONS, Mutation, with_checksums
from tests.fuzz.seeds import seeds
from tests.fuzz.segments import parts

SEED = 7
FORMATS = {"avif", "bmp", "gif", "heif", "jpeg", "mpo", "png", "tiff", "webp"}


def test_the_photos_are_sound_and_of_every_format() -> None:
    pytest.importorskip("pillow_heif")
    assert {name.partition("-")[0] for name in seeds()} == FORMATS
    for name, data in seeds().items():
        photo = decode_bytes(Path(name), data)
        assert isinstance(photo, Photo), photo
        check_photo(photo)


def test_the_parts_of_each_photo_are_found() -> None:
    for name, data in seeds().items():
        assert parts(data), name
        assert with_checksums(data) == data


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_mostly_changes_something_and_needs_no_sound_file(mutation: Mutation) -> None:
    chance = random.Random(SEED)
    for data in seeds().values():
        assert any(mutation(data, chance) != data for _ in range(20))
        for end in (1, 9, 20, 40, 200):
            mutation(data[:end], chance)


def test_a_case_comes_again_by_its_number() -> None:
    first = [case(SEED, number) for number in range(100)]
    assert first == [case(SEED, number) for number in range(100)]
    assert len({made.data for made in first}) > 95
    assert case(SEED + 1, 5).data != first[5].data


def test_broken_photos_are_photos_or_failures() -> None:
    outcome = check_apart("photos", SEED, 0, 600)
    assert outcome.troubles == []
    assert outcome.words.total() == 600
    assert {"photo", "corrupt", "truncated", "unsupported"} <= set(outcome.words)


def test_the_whole_command_survives_broken_photos(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(96):
        made = case(SEED, number)
        (folder / made.file_name).write_bytes(made.data)
    label_files(sorted(folder.iterdir()), tmp_path)
