from __future__ import annotations

import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from batch.records import Region
from tests.support.trainer_data import find_real_data
from trainer.datasets.dataset import Dataset, Framing, Pixels, Split
from trainer.datasets.drawn_faces import Mood, draw_snapshot
from trainer.datasets.duplicates import (
    _find_close_hashes,
    compute_perceptual_hash,
    drop_near_duplicates,
    find_near_duplicates,
    group_alike_faces,
    group_copies,
    group_near_duplicates,
    merge_groups,
)


def draw_snapshots(first_seed: int, count: int, channels: int = 1, side: int = 48) -> Pixels:
    moods = tuple(Mood)
    return np.stack(
        [draw_snapshot(moods[n % 2], side, channels, first_seed + n) for n in range(count)]
    )


def make_split(pixels: Pixels, name: str = "") -> Split:
    votes = np.eye(2, dtype=np.float32)[np.arange(len(pixels)) % 2]
    names = np.array([f"{name}{n}" for n in range(len(pixels))], np.object_)
    return Split(pixels, votes, np.ones(len(pixels), np.bool_), names=names)


def recompress(picture: Pixels, side: int, quality: int) -> Pixels:
    """Resize a picture and compress it lossily."""
    from io import BytesIO

    packed = BytesIO()
    Image.fromarray(picture).resize((side, side)).save(packed, "JPEG", quality=quality)
    with Image.open(packed) as image:
        return np.asarray(image.resize(picture.shape[1::-1]))


def count_different_bits(first: np.uint64, second: np.uint64) -> int:
    return int(first ^ second).bit_count()


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_changes_no_bit_and_a_copy_few(astronaut: Image.Image, channels: int) -> None:
    mode = "L" if channels == 1 else "RGB"
    small = np.asarray(astronaut.convert(mode).resize((160, 120))).reshape(120, 160, channels)
    darker = (small * 0.6 + 20).astype(np.uint8)
    one, two = compute_perceptual_hash(np.stack([small, darker]))
    assert count_different_bits(one, two) <= 2
    if channels == 3:
        copies = np.stack([recompress(small, side, 30) for side in (80, 200)])
        assert all(
            count_different_bits(one, other) <= 4 for other in compute_perceptual_hash(copies)
        )
    upside_down = compute_perceptual_hash(small[None, ::-1].copy())[0]
    assert count_different_bits(one, upside_down) > 16


def test_flat_pictures_and_empty_arrays_are_hashed() -> None:
    flat = np.full((2, 24, 24, 1), 90, np.uint8)
    assert len(set(compute_perceptual_hash(flat).tolist())) == 1
    assert len(compute_perceptual_hash(flat[:0])) == 0
    assert find_near_duplicates(flat[:0], flat).shape == (0,)
    assert find_near_duplicates(flat, flat[:0]).tolist() == [-1, -1]
    assert find_near_duplicates(flat, flat).tolist() == [
        -1,
        -1,
    ]  # flat pictures have no features to compare


def test_near_duplicates_are_copies_and_mirrored_copies_only() -> None:
    others = draw_snapshots(100, 120)
    pixels = draw_snapshots(1000, 40)
    pixels[3] = np.clip(others[110].astype(int) + 15, 0, 255)
    pixels[5] = others[7][:, ::-1]
    pixels[8] = recompress(others[9, :, :, 0], 40, 40)[:, :, None]
    wanted = np.full(40, -1)
    wanted[[3, 5, 8]] = 110, 7, 9
    np.testing.assert_array_equal(find_near_duplicates(pixels, others), wanted)


def test_the_first_near_duplicate_is_named() -> None:
    face = draw_snapshots(1, 1)
    assert find_near_duplicates(
        face, np.concatenate([draw_snapshots(50, 9), face, face])
    ).tolist() == [9]


def test_groups_connect_near_duplicates_through_others() -> None:
    chain = [0, 0b1111, 0b11111111, 0xFFFF_FFFF_0000_0000, 0b111111111111]
    hashes = np.array(chain, np.uint64)
    assert group_near_duplicates(hashes, 4).tolist() == [0, 0, 0, 3, 0]
    assert group_near_duplicates(hashes, 3).tolist() == [0, 1, 2, 3, 4]
    assert group_near_duplicates(hashes, 8).tolist() == [0, 0, 0, 3, 0]
    assert group_near_duplicates(hashes[:0]).tolist() == []


def test_groups_contain_every_pair_of_near_duplicates() -> None:
    chance = np.random.default_rng(5)
    hashes = chance.integers(0, 2**64, 700, np.uint64)
    for n in range(350):
        flips = chance.choice(64, 6, replace=False)
        hashes[n + 350] = hashes[n] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64))
    groups = group_near_duplicates(hashes, 6)
    np.testing.assert_array_equal(groups[350:], groups[:350])
    assert len(np.unique(groups)) == 350
    assert len(np.unique(group_near_duplicates(hashes, 5))) == 700


def test_pairs_are_compared_in_blocks_of_bounded_memory() -> None:
    hashes = np.random.default_rng(6).integers(0, 2**64, 20_000, np.uint64)
    hashes[[9_000, 19_999]] = hashes[[3, 8_000]]
    tracemalloc.start()
    pairs = list(_find_close_hashes(hashes[:2_000], hashes, 0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    found = {
        (a, b) for left, right in pairs for a, b in zip(left.tolist(), right.tolist(), strict=True)
    }
    assert found == {(n, n) for n in range(2_000)} | {(3, 9_000)}
    assert peak < 32 * 1024**2  # all pairs of a batch would take 39 MiB, beside the hashes


def test_no_near_duplicate_is_in_two_splits_and_no_test_sample_is_skipped() -> None:
    train, validation, test = (
        draw_snapshots(0, 30),
        draw_snapshots(100, 10),
        draw_snapshots(200, 10),
    )
    train[4], train[6], validation[2] = test[1], validation[3], test[5]
    train[9] = validation[2]  # a copy of a sample that is itself skipped
    data = Dataset(
        name="three",
        labels=("happy", "sad"),
        framing=Framing(),
        train=make_split(train, "train"),
        validation=make_split(validation, "validation"),
        test=make_split(test, "test"),
        skipped=(("torn.png", "broken"),),
    )
    apart = drop_near_duplicates(data)
    assert apart.skipped == (
        ("torn.png", "broken"),
        (
            "validation2",
            "nearly the same as test5 of the test split, which is labelled sad, not happy",
        ),
        ("train4", "nearly the same as test1 of the test split, which is labelled sad, not happy"),
        (
            "train6",
            "nearly the same as validation3 of the validation split, which is labelled sad, not "
            "happy",
        ),
        ("train9", "nearly the same as test5 of the test split"),
    )
    np.testing.assert_array_equal(apart.train.pixels, np.delete(train, [4, 6, 9], axis=0))
    np.testing.assert_array_equal(apart.validation.pixels, np.delete(validation, 2, axis=0))
    np.testing.assert_array_equal(apart.test.pixels, test)
    assert apart.matches_fingerprint(data.fingerprint)
    assert apart.matches_fingerprint(apart.fingerprint)
    assert apart.fingerprint != data.fingerprint
    assert not apart.matches_fingerprint(replace(data, labels=("sad", "happy")).fingerprint)
    assert drop_near_duplicates(apart) is apart


def test_the_real_ferplus_has_near_duplicates_across_its_splits() -> None:
    from trainer.datasets.ferplus import load_ferplus

    data = load_ferplus(find_real_data("ferplus.zip"))
    near = [reason for _, reason in data.skipped if reason.startswith("nearly")]
    assert len(near) == 1728 + 125
    assert (find_near_duplicates(data.train.pixels, data.test.pixels) == -1).all()
    assert (find_near_duplicates(data.train.pixels, data.validation.pixels) == -1).all()


def test_named_groups_join_groups_of_near_duplicates() -> None:
    numbers = np.array([0, 0, 2, 3, 3, 5])
    names = np.array(["", "ann", "", "ann", "", "bob"])
    assert merge_groups(numbers, names).tolist() == [0, 0, 2, 0, 0, 5]
    assert merge_groups(numbers, np.full(6, "")).tolist() == numbers.tolist()
    # The last sample of a group joins two others that only it connects.
    chained = np.array(["a", "", "b", "", "a", "b"])
    assert merge_groups(np.array([0, 1, 2, 3, 4, 4]), chained).tolist() == [0, 1, 0, 3, 0, 0]


def read_portraits(count: int) -> Pixels:
    """Read real portraits, all different, as grey samples of 48 pixels."""
    with zipfile.ZipFile(find_real_data("portraits.zip")) as archive:
        names = [name for name in archive.namelist() if name.endswith(".jpg")][:count]
        pictures = [Image.open(archive.open(name)).convert("L").resize((48, 48)) for name in names]
    return np.stack([np.asarray(picture)[:, :, None] for picture in pictures])


def test_different_faces_are_not_grouped_but_their_copies_are() -> None:
    faces = read_portraits(400)
    assert len(np.unique(group_near_duplicates(compute_perceptual_hash(faces)))) < 385
    assert len(np.unique(group_alike_faces(faces))) == 400
    brighter = np.clip(faces[:5].astype(np.int64) + 9, 0, 255).astype(np.uint8)
    groups = group_alike_faces(np.concatenate([faces, brighter, faces[5:10, :, ::-1]]))
    assert groups[400:].tolist() == list(range(10))


def test_a_cropped_copy_of_a_photo_shares_its_fold(astronaut: Image.Image) -> None:
    import skimage.data

    def make_sample(photo: Image.Image) -> Pixels:
        return np.asarray(photo.convert("RGB").resize((160, 160)))

    width, height = astronaut.size
    cropped = astronaut.crop((0, 0, width - width // 20, height - height // 20))
    coffee = Image.fromarray(skimage.data.coffee())  # type: ignore[no-untyped-call]
    part = make_split(np.stack([make_sample(photo) for photo in (astronaut, coffee, cropped)]))
    assert group_copies(part, Region.IMAGE).tolist() == [0, 1, 0]
    # Different faces look as much alike as these two.
    assert group_copies(part, Region.FACE).tolist() == [0, 1, 2]
