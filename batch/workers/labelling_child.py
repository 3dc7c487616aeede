"""What a worker runs that labels photos all the way, with models of its own.

Its models come from the run, and not from disk, so that all workers have the very same.
"""

from __future__ import annotations

import os

from batch.location import Location
from batch.options import Device, FileLimits, Provider
from batch.vision.decode import DecodedImage, to_photo
from batch.vision.labeller import Labeller
from batch.workers.child import PayloadBuilder, serve
from batch.workers.process import PLAN_WRITTEN, read_plan
from batch.workers.protocol import TimedRow


def main(connection: int, plan: int, *limits: int) -> None:
    """Label photos until nobody is left to ask.

    ``connection`` and ``plan`` are descriptors, of a socket and of a file with a ``Plan``, which
    the run has written once it says so; ``limits`` are those of ``FileLimits``, in its order.
    """
    if os.read(connection, 1) != PLAN_WRITTEN:  # the run needs no worker
        return

    def open_builder() -> PayloadBuilder:
        return RowBuilder(Labeller(read_plan(plan), Device(Provider.CPU)))

    serve(connection, open_builder, FileLimits(*limits))


class RowBuilder:
    """Turns decoded photos into labels."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller

    def __call__(self, path: Location, upright: DecodedImage) -> TimedRow:
        """Label a photo."""
        row = self._labeller.label(to_photo(path, upright))
        return TimedRow(row, self._labeller.timings.take())
