"""The place where a run leaves blocks for its actors."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass

from batch.cluster.block import Block, pack_block, unpack_block
from batch.cluster.parts import Parts, block_name
from batch.errors import OutputError
from batch.parallel import thread_map

WRITERS = 16


@dataclass(frozen=True)
class Blocks:
    """The blocks of a run, each by its number, where parts lie as well.

    All methods but ``clear`` raise ``OutputError`` where the system or the store refuses.
    """

    parts: Parts
    run: str

    def write(self, blocks: Iterable[Block], first: int) -> int:
        """Put blocks where actors find them, numbered from ``first`` on, and count them."""

        def write(numbered: tuple[int, Block]) -> None:
            number, block = numbered
            self.parts.write(block_name(self.run, number), pack_block(block))

        with closing(thread_map(write, enumerate(blocks, first), WRITERS)) as written:
            return sum(1 for _ in written)

    def read(self, number: int) -> Block:
        """Read the block of a number."""
        return unpack_block(self.parts.read(block_name(self.run, number)))

    def clear(self) -> None:
        """Remove all that was left for the actors."""
        with suppress(OutputError):  # the next run does not mind it
            self.parts.remove(self.parts.orders(self.run), self.run)
