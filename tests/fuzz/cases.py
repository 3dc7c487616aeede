"""Broken photos without end, each made anew from its number."""

from __future__ import annotations

import random
from typing import NamedTuple

from tests.fuzz.mutations import MUTATIONS, splice, with_checksums
from tests.fuzz.seeds import seeds

LARGEST = 200_000  # bytes: repeating may not grow without end
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
    chance = random.Random(f"{seed} {number}")
    names = list(seeds())
    # Every photo in turn, so that even a short run meets all formats.
    name = names[number % len(names)]
    data, done = seeds()[name], []
    if chance.random() < 0.1:
        other = chance.choice(names)
        data = splice(data, seeds()[other], chance)
        done.append(f"splice_{other.replace('-', '_')}")
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        mutation = chance.choice(MUTATIONS)
        if data:
            data = mutation(data, chance)[:LARGEST]
            done.append(mutation.__name__)
    if chance.random() < 0.7:
        data = with_checksums(data)
    return Case(f"{number:06}-{name}-{done[-1]}", data)
