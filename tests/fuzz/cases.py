"""Broken photos without end, each made anew from its number."""

from __future__ import annotations

import random
from typing import NamedTuple

from tests.fuzz.mutations import MUTATIONS, splice, with_checksums
from tests.fuzz.seeds import make_seeds

MAX_CASE_BYTES = 200_000  # bytes: repeating may not grow without end
SUFFIXES = {"jpeg": ".jpg", "mpo": ".mpo", "tiff": ".tif", "heif": ".heic"}


class Case(NamedTuple):
    """A broken photo; ``name`` tells its number, the photo, and what was done to it."""

    name: str
    data: bytes

    @property
    def file_name(self) -> str:
        """A name for a file in a folder of photos."""
        form = self.name.split("-")[1]
        return self.name + SUFFIXES.get(form, f".{form}")


def case(seed: int, number: int) -> Case:
    """Make a case; the same seed and number give the same bytes with the same releases."""
    rng = random.Random(f"{seed} {number}")
    names = list(make_seeds())
    # Every photo in turn, so that even a short run meets all formats.
    name = names[number % len(names)]
    data, done = make_seeds()[name], []
    if rng.random() < 0.1:
        other = rng.choice(names)
        data = splice(data, make_seeds()[other], rng)
        done.append(f"splice_{other.replace('-', '_')}")
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        mutation = rng.choice(MUTATIONS)
        if data:
            data = mutation(data, rng)[:MAX_CASE_BYTES]
            done.append(mutation.__name__)
    if rng.random() < 0.7:
        data = with_checksums(data)
    return Case(f"{number:06}-{name}-{done[-1]}", data)
