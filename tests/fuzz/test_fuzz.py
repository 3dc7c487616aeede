"""A short run of the fuzzer; ``make fuzz`` runs as many cases as you like."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from batch.records import Photo
from batch.vision.decode import decode_bytes
from tests.fuzz import photos
from tests.fuzz.cases import Case
from tests.fuzz.isolation import check_in_processes
from tests.fuzz.kinds import KINDS, FuzzKind, split_cases
from tests.fuzz.labelling import label_files
from tests.fuzz.mutations import MUTATIONS, Mutation, repair_checksums
from tests.fuzz.seeds import make_seeds
from tests.fuzz.segments import find_segments

SEED = 7
FORMATS = {"avif", "bmp", "gif", "heif", "jpeg", "mpo", "png", "tiff", "webp"}


def test_the_photos_are_sound_and_of_every_format() -> None:
    pytest.importorskip("pillow_heif")
    assert {name.partition("-")[0] for name in make_seeds()} == FORMATS
    for name, data in make_seeds().items():
        photo = decode_bytes(Path(name), data)
        assert isinstance(photo, Photo), photo
        photos.check_photo(photo)


def test_the_parts_of_each_photo_are_found() -> None:
    for name, data in make_seeds().items():
        assert find_segments(data), name
        assert repair_checksums(data) == data


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_mutation_changes_the_file_and_accepts_damaged_files(mutation: Mutation) -> None:
    chance = random.Random(SEED)
    for data in make_seeds().values():
        assert any(mutation(data, chance) != data for _ in range(20))
        for end in (1, 9, 20, 40, 200):
            mutation(data[:end], chance)


def test_a_case_is_repeatable_by_its_number() -> None:
    first = [photos.make(SEED, number) for number in range(100)]
    assert first == [photos.make(SEED, number) for number in range(100)]
    assert len({made.data for made in first}) > 95
    assert photos.make(SEED + 1, 5).data != first[5].data


def test_broken_photos_are_photos_or_failures() -> None:
    outcome = check_in_processes("photos", SEED, 0, 600)
    assert outcome.troubles == []
    assert outcome.words.total() == 600
    assert {"photo", "corrupt", "truncated", "unsupported"} <= set(outcome.words)


# Number of cases of each kind, which take a second or two, and outcomes that must be among them: a
# slice in which all cases are refused would test nothing.
SLICES = {
    "archives": (300, {"parsed", "refused"}),
    "lists": (200, {"all found", "some found", "none found"}),
    "journals": (250, {"JournalDamaged", "some pending"}),
    "reports": (250, {"ReportError", "read"}),
    "reviews": (300, {"refused", "read"}),
    "records": (120, {"none", "read", "merged", "not merged"}),
}


@pytest.mark.parametrize("kind", SLICES)
def test_broken_files_of_other_kinds_are_read_or_refused(kind: str) -> None:
    number, words = SLICES[kind]
    outcome = check_in_processes(kind, SEED, 0, number)
    assert outcome.troubles == []
    assert outcome.words.total() == number
    assert words <= set(outcome.words)


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_of_any_kind_is_repeatable_by_its_number(kind: str) -> None:
    make, _ = KINDS[kind].load()
    cases = [make(SEED, number) for number in range(20)]
    assert cases == [make(SEED, number) for number in range(20)]
    assert len({made.data for made in cases}) > 12


def test_all_cases_are_split_among_the_kinds() -> None:
    for number in (1, 99, 1_000_000):
        assert sum(split_cases(number).values()) == number
    assert min(split_cases(1_000_000).values()) >= 30_000


@pytest.mark.parametrize(
    ("check", "message"),
    [("raise_an_error", "ValueError: unexpected"), ("die", "exit code -9")],
)
def test_what_goes_wrong_in_a_case_is_a_trouble(check: str, message: str) -> None:
    kind = FuzzKind("lists", "tests.fuzz.lists:make", f"{__name__}:{check}")
    outcome = check_in_processes(kind, SEED, 0, 3)
    assert [trouble.partition("-")[0] for trouble in outcome.troubles] == [
        f"{number:06}" for number in range(3)
    ]
    assert all(message in trouble for trouble in outcome.troubles)


def raise_an_error(_: Case) -> str:
    raise ValueError("unexpected")


def die(_: Case) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def test_the_whole_command_survives_broken_photos(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(96):
        made = photos.make(SEED, number)
        (folder / made.file_name).write_bytes(made.data)
    label_files(sorted(folder.iterdir()), tmp_path)
