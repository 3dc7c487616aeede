"""The portions in which files go to a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

from batch.location import Location
from batch.records import Failure

# Files of a block for each photo that an actor works on at the same time. Few at first, so that
# every actor has something to do; many once there are many, as each block is one part in the end.
LEAST_FILES = 32
MOST_FILES = 1024
# Blocks of the present size for each actor, before they grow.
BEFORE_GROWTH = 32


@dataclass(frozen=True)
class Block:
    """Files for one actor to label; ``tries`` counts the actors that it was lost with."""

    number: int
    files: tuple[Location | Failure, ...]
    tries: int = 0


def blocks_of(
    files: Iterable[Location | Failure], actors: int, workers: int, numbers: count[int]
) -> Iterator[Block]:
    """Divide files into blocks, larger ones the more there were.

    ``workers`` are the photos that each of the ``actors`` works on at the same time.
    """
    rest, passed = iter(files), 0
    while files_of_block := tuple(islice(rest, _size(passed, actors, workers))):
        passed += len(files_of_block)
        yield Block(next(numbers), files_of_block)


def halves(block: Block, numbers: count[int]) -> tuple[Block, ...]:
    """Divide a block that was lost, so that a file that is to blame is alone at last."""
    if len(block.files) == 1:
        return (Block(next(numbers), block.files, block.tries + 1),)
    middle = len(block.files) // 2
    return tuple(
        Block(next(numbers), files) for files in (block.files[:middle], block.files[middle:])
    )


def _size(passed: int, actors: int, workers: int) -> int:
    grown = passed // (BEFORE_GROWTH * actors)
    return max(LEAST_FILES * workers, min(grown, MOST_FILES))
