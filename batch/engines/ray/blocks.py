"""The portions in which files go to a cluster."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from typing import Any

from batch.engines.ray.parts import PartStore, block_name
from batch.errors import OutputError
from batch.found import FoundFile
from batch.location import Location
from batch.parallel import thread_map

# Files of a block for each photo that an actor works on at the same time. Few at first, so that
# every actor has something to do; many once there are many, as each block is one part in the end.
MIN_FILES_PER_WORKER = 32
MAX_BLOCK_FILES = 1024
# Blocks of the present size for each actor, before they grow.
BLOCKS_BEFORE_GROWTH = 32
# What becomes of a block whose actors died. Each time costs the start of some actors.
PIECES_PER_LOST_BLOCK = 16

Block = Sequence[Location]


def split_into_blocks(files: Iterable[Location], actors: int, workers: int) -> Iterator[Block]:
    """Divide files into blocks, larger ones the more there were.

    ``workers`` are the photos that each of the ``actors`` works on at the same time.
    """
    rest, passed = iter(files), 0
    while block := tuple(islice(rest, _choose_size(passed, actors, workers))):
        passed += len(block)
        yield block


def split_lost_block(block: Block) -> list[Block]:
    """Divide a block that was lost, so that a file that is to blame is alone at last."""
    size = -(-len(block) // PIECES_PER_LOST_BLOCK)
    return [block[start : start + size] for start in range(0, len(block), size)]


def pack_block(block: Block) -> bytes:
    """Write a block as a Parquet file: of each file its path or URL, and what its listing said."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    said = {"size": pa.int64(), "mtime_ns": pa.int64(), "etag": pa.string()}
    columns = {"path": pa.array([os.fsencode(file) for file in block], pa.binary())} | {
        name: pa.array([getattr(file, name, None) for file in block], kind)
        for name, kind in said.items()
    }
    file = BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def unpack_block(data: bytes) -> Block:
    """Read a block back."""
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = pq.read_table(BytesIO(data)).to_pydict()
    return tuple(
        FoundFile(os.fsdecode(path), size, mtime_ns, etag=etag).location
        for path, size, mtime_ns, etag in zip(*columns.values(), strict=True)
    )


def _choose_size(passed: int, actors: int, workers: int) -> int:
    grown = passed // (BLOCKS_BEFORE_GROWTH * actors)
    return max(MIN_FILES_PER_WORKER * workers, min(grown, MAX_BLOCK_FILES))


# == The place where a run leaves blocks for its actors.

WRITER_THREADS = 16


@dataclass(frozen=True)
class BlockStore:
    """The blocks of a run, each by its number, where parts lie as well.

    All methods but ``clear`` raise ``OutputError`` where the system or the store refuses.
    """

    parts: PartStore
    run: str

    def write(self, blocks: Iterable[Block], first: int) -> int:
        """Put blocks where actors find them, numbered from ``first`` on, and count them."""

        def write(numbered: tuple[int, Block]) -> None:
            number, block = numbered
            self.parts.write(block_name(self.run, number), pack_block(block))

        with closing(thread_map(write, enumerate(blocks, first), WRITER_THREADS)) as written:
            return sum(1 for _ in written)

    def read(self, number: int) -> Block:
        """Read the block of a number."""
        return unpack_block(self.parts.read(block_name(self.run, number)))

    def clear(self) -> None:
        """Remove all that was left for the actors."""
        with suppress(OutputError):  # the next run does not mind it
            self.parts.remove(self.parts.list_run_files(self.run), self.run)
