"""Near-duplicate detection by perceptual hash: scaled, compressed or mirrored copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from batch.records import Region
from trainer.datasets.dataset import Dataset, Pixels, Split, Texts, select_samples

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Levels = npt.NDArray[np.float32]

HASH_SIDE = 8
HASH_BITS = HASH_SIDE * HASH_SIDE
# Near duplicates: largest Hamming distance of their hashes, and smallest correlation of their low
# frequencies. Checked by eye: among FER+'s faces, which look alike, 170 of the 176 pairs that
# barely pass (0.950 to 0.964) were copies, but only half of the pairs at 12 bits from 0.93 to 0.95.
# Among 900 portraits without copies no pair passes.
MAX_HASH_DISTANCE = 12
MIN_CORRELATION = 0.95
# Shares of red, green and blue in grey (ITU-R BT.601).
LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], dtype=np.float32)
DCT_BATCH = 64  # 20 MB of RGB samples of 160 pixels, as floats
BATCH_SIZE = 512
# How the reasons of skipped near duplicates begin.
NEAR_REASON = "nearly the same as"
# How they go on if the label differs too.
OTHER_LABEL = "which is labelled"
BLOCK_COLUMNS = 4096  # of a block of 8 MiB, which the caches of a processor hold


def compute_perceptual_hash(pixels: Pixels) -> Hashes:
    """Compute the perceptual hash of pictures (pHash, Zauner 2010): copies differ in few bits.

    A bit tells whether one of the 64 lowest frequencies of the two-dimensional DCT-II, without
    those that are constant in one direction, is above their median. Brightness and contrast do not
    matter.

    Shapes: uint8 [n, H, W, C] in, uint64 [n] out.
    """
    return _hash_dct(_compute_dct(pixels))


def find_near_duplicates(pixels: Pixels, others: Pixels) -> Indices:
    """Find for each picture the first near duplicate among others.

    Mirror images count, because the trainer mirrors its samples.

    Args:
        pixels: uint8 [n, H, W, C].
        others: uint8 [m, H, W, C].

    Returns:
        The index of the first near duplicate among the others, or -1: int64 [n].
    """
    found = np.full(len(pixels), len(others))
    for left, right in find_alike_pairs(pixels, others):
        np.minimum.at(found, left, right)
    return np.where(found < len(others), found, -1)


def drop_near_duplicates(data: Dataset) -> Dataset:
    """Skip near duplicates of held-out samples, so that no test sample is trained on.

    Validation samples are compared with the test split, training samples with both. Test samples
    are never skipped.
    """
    validation, from_validation = _drop_from_split(data, "validation", ("test",))
    train, from_train = _drop_from_split(data, "train", ("test", "validation"))
    skipped = (*from_validation, *from_train)
    if not skipped:
        return data
    return replace(
        data,
        train=train,
        validation=validation,
        skipped=(*data.skipped, *skipped),
        original_fingerprint=data.fingerprint,
    )


def _drop_from_split(
    data: Dataset, split: str, others: Sequence[str]
) -> tuple[Split, list[tuple[str, str]]]:
    part: Split = getattr(data, split)
    reasons: dict[int, str] = {}
    for other in others:
        kept: Split = getattr(data, other)
        found = find_near_duplicates(part.pixels, kept.pixels)
        for n in np.flatnonzero(found >= 0):
            twin = found[n]
            reason = f"{NEAR_REASON} {kept.names[twin]} of the {other} split"
            if part.targets[n] != kept.targets[twin]:
                own, theirs = (data.labels[t] for t in (part.targets[n], kept.targets[twin]))
                reason = f"{reason}, {OTHER_LABEL} {theirs}, not {own}"
            reasons.setdefault(int(n), reason)
    keep = np.ones(len(part), np.bool_)
    keep[list(reasons)] = False
    return select_samples(part, keep), [(part.names[n], reasons[n]) for n in sorted(reasons)]


def group_near_duplicates(hashes: Hashes, distance: int = MAX_HASH_DISTANCE) -> Indices:
    """Group photos by their hashes, so that near duplicates are in the same group.

    For photos only: among 570 web photos all 24 pairs within 12 bits were copies, and the closest
    pair that was not differs in 14 bits. Pictures that look alike, such as faces, need
    ``group_alike_faces``.

    Args:
        hashes: uint64 [n].
        distance: largest Hamming distance of near duplicates, in bits.

    Returns:
        The index of the first picture of each one's group, int64 [n].
    """
    return _connect_components(len(hashes), list(_find_close_hashes(hashes, hashes, distance)))


def group_alike_faces(pixels: Pixels) -> Indices:
    """Group faces, so that near duplicates as in ``find_near_duplicates`` are in the same group.

    By their hashes alone 6,426 different faces of FER+'s 33,632 would be in one group; the largest
    has 15 here. In 1,282 portraits without copies no two faces share a group; by their hashes alone
    166 would. For whole photos this is too strict: it misses copies that are cropped, 11 of the 18
    pairs of 564 web photos.

    Args:
        pixels: uint8 [n, H, W, C].

    Returns:
        The index of the first picture of each one's group, int64 [n].
    """
    return _connect_components(len(pixels), list(find_alike_pairs(pixels, pixels)))


def group_copies(part: Split, region: Region) -> Indices:
    """Group samples that must share a fold: near duplicates, and photos of the same named group.

    Returns:
        The index of the first sample of each one's group, int64 [n].
    """
    if region is Region.FACE:
        copies = group_alike_faces(part.pixels)
    else:
        copies = group_near_duplicates(compute_perceptual_hash(part.pixels))
    return merge_groups(copies, part.groups)


def merge_groups(numbers: Indices, names: Texts) -> Indices:
    """Merge groups of near duplicates whose samples share a named group.

    Args:
        numbers: groups as from ``group_near_duplicates``, int64 [n].
        names: name of each sample's group, empty for no group, text [n].

    Returns:
        The index of the first sample of each one's group, int64 [n].
    """
    _, firsts, of_name = np.unique(names, return_index=True, return_inverse=True)
    places = np.arange(len(numbers))
    named = np.where(names == "", places, firsts[of_name])
    pairs = [(places, numbers), (places, named)]
    return _connect_components(len(numbers), pairs)


def _connect_components(count: int, pairs: Sequence[tuple[Indices, Indices]]) -> Indices:
    """Label connected components: each item gets the lowest index of its component."""
    # Imported late, because it is slow and only cross-validation needs it.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    left, right = np.concatenate([np.empty((2, 0), np.int64), *map(np.stack, pairs)], axis=1)
    graph = coo_array((np.ones(len(left), np.int8), (left, right)), shape=(count, count))
    _, components = connected_components(graph, directed=False)
    _, firsts = np.unique(components, return_index=True)
    return np.asarray(firsts[components], np.int64)


def find_alike_pairs(pixels: Pixels, others: Pixels) -> Iterator[tuple[Indices, Indices]]:
    """Yield the indices of all near duplicates, mirrored or not, in batches.

    Their hashes are close and their low frequencies correlate.
    """
    waves, other_waves = _compute_dct(pixels), _compute_dct(others)
    # Mirroring negates the odd frequencies.
    mirrored = other_waves * np.float32(-1) ** np.arange(HASH_SIDE + 1)
    for turned in (other_waves, mirrored):
        shapes, other_shapes = _normalise_dct(waves), _normalise_dct(turned)
        for left, right in _find_close_hashes(
            _hash_dct(waves), _hash_dct(turned), MAX_HASH_DISTANCE
        ):
            correlation = (shapes[left] * other_shapes[right]).sum(axis=1)
            alike = correlation >= MIN_CORRELATION
            yield left[alike], right[alike]


def _compute_dct(pixels: Pixels) -> Levels:
    """Compute the lowest frequencies of the DCT-II of grey levels: float32 [n, 9, 9]."""
    down, across = (_dct_matrix(side) for side in pixels.shape[1:3])
    waves = np.empty((len(pixels), HASH_SIDE + 1, HASH_SIDE + 1), np.float32)
    for at in range(0, len(pixels), DCT_BATCH):
        levels = pixels[at : at + DCT_BATCH].astype(np.float32)
        grey = levels[..., 0] if levels.shape[3] == 1 else levels @ LUMA_WEIGHTS
        waves[at : at + DCT_BATCH] = down @ grey @ across.T
    return waves


def _dct_matrix(side: int) -> Levels:
    frequencies = np.arange(HASH_SIDE + 1)[:, None]
    rows = np.cos(np.pi / side * frequencies * (np.arange(side) + 0.5)) * np.sqrt(2 / side)
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float32)


def _hash_dct(waves: Levels) -> Hashes:
    inner = waves[:, 1:, 1:].reshape(len(waves), HASH_BITS)
    powers = np.uint64(1) << np.arange(HASH_BITS, dtype=np.uint64)
    bits = inner > np.median(inner, axis=1, keepdims=True)
    return np.asarray((bits * powers).sum(axis=1, dtype=np.uint64))


def _normalise_dct(waves: Levels) -> Levels:
    """Remove the mean and scale to length 1, so that products are correlations: float32 [n, 80].

    Flat pictures give zeros.
    """
    shapes = waves.reshape(len(waves), (HASH_SIDE + 1) ** 2)[:, 1:]
    return np.asarray(shapes / np.maximum(np.linalg.norm(shapes, axis=1, keepdims=True), 1))


def _find_close_hashes(
    hashes: Hashes, others: Hashes, distance: int
) -> Iterator[tuple[Indices, Indices]]:
    """Yield the indices of all pairs within a Hamming distance, in blocks of bounded memory.

    Hashes are compared as rows of 1 and -1, whose dot product gives the number of equal bits. All
    pairs are compared, which is exact. A k-d tree over the low frequencies is not faster for
    100,000 photos: the distance of near duplicates is too large for it.
    """
    rows, columns = _to_signs(hashes), _to_signs(others).T
    for at in range(0, len(rows), BATCH_SIZE):
        for beside in range(0, columns.shape[1], BLOCK_COLUMNS):
            products = rows[at : at + BATCH_SIZE] @ columns[:, beside : beside + BLOCK_COLUMNS]
            left, right = np.nonzero(products >= HASH_BITS - 2 * distance)
            yield left + at, right + beside


def _to_signs(hashes: Hashes) -> Levels:
    places = np.arange(HASH_BITS, dtype=np.uint64)
    bits = (hashes[:, None] >> places) & np.uint64(1)
    return bits.astype(np.float32) * 2 - 1
