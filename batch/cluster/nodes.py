"""The nodes of a cluster, whose answers count where they see what this machine sees."""

from __future__ import annotations

from pathlib import Path

from batch.cluster.actor import Answer
from batch.cluster.part import PartError, unpack_part
from batch.cluster.parts import Parts
from batch.errors import EngineError
from batch.log import PROGRAM
from batch.path_text import path_text
from batch.records import Finished, Reason


class Nodes:
    """Looks at what nodes answer, whose parts are to be in ``parts`` and to have this ``basis``."""

    def __init__(self, parts: Parts, basis: bytes) -> None:
        self._parts = parts
        self._basis = basis
        self._sharing: set[str] = set()

    def finished(self, answer: Answer) -> list[Finished]:
        """Give the rows of an answer's part, none where it has no part.

        Raises:
            EngineError: its node can't work, or sees other photos or another place for parts
                than this machine.
            OutputError: the place of the parts can't be looked at.
        """
        if answer.problem:
            raise EngineError(f"on node {answer.node}, {answer.problem}", answer.remedy)
        if not answer.data:
            return []
        try:
            finished = unpack_part(answer.data, self._basis)
        except PartError as error:
            raise EngineError(
                f"node {answer.node} sent something else than a part: {error}",
                f"install the same {PROGRAM} everywhere",
            ) from error
        _check_photos(finished, answer.node)
        self._check_place(answer)
        return finished

    def _check_place(self, answer: Answer) -> None:
        """Make sure, once for each node, that a part it has written can be read here."""
        if answer.node not in self._sharing and not self._parts.has(answer.part):
            raise EngineError(
                f"what node {answer.node} writes into {path_text(self._parts.place)} is not seen "
                "here",
                "name a folder that all machines share, or a URL, with --parts",
            )
        self._sharing.add(answer.node)


def _check_photos(finished: list[Finished], node: str) -> None:
    """Make sure that files have not only vanished from where an actor looks.

    Raises:
        EngineError: all of them have, and one is here.
    """
    if not all(_has_vanished(one) for one in finished):
        return
    for one in finished:
        if isinstance(one.row.path, Path) and one.row.path.is_file():
            raise EngineError(
                f"node {node} does not see {path_text(one.row.path)}, which is here",
                "put the photos on a disk that all machines share under the same path, or "
                "name them by URL",
            )


def _has_vanished(finished: Finished) -> bool:
    failure = finished.row.failure
    return failure is not None and failure.reason is Reason.VANISHED
