"""Interface of actions: what is to be done with a photo that matches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batch.applying.operations import Operation
from batch.applying.selection import ReportedPhoto
from batch.applying.steps import Step


@dataclass(frozen=True)
class Candidate:
    """A photo that matches.

    Attributes:
        source: its absolute path.
        digest: SHA-256 of the bytes that were labelled.
        reported: what the report says.
        is_trusted: whether the photo is known to have the digest.
    """

    source: Path
    digest: bytes
    reported: ReportedPhoto
    is_trusted: bool = False

    @property
    def label(self) -> str:
        """The label, or status, of its folder."""
        return self.reported.folders[0]


class Action(Protocol):
    """Something to do with photos."""

    def plan(self, photo: Candidate) -> list[Step]:
        """Return what is to be done, in order; empty if it is done already.

        Raises:
            Refusal: it can't be done, as the photo is gone or has changed.
            Skipped: the action is not meant for the photo.
        """

    def list_unmatched(self) -> Iterator[Operation]:
        """Yield what was made for photos that do not match any more."""

    def plan_removal(self, made: Operation) -> list[Step]:
        """Return what is to be done to remove it.

        Raises:
            Refusal: it can't be removed, or must not be.
        """
