"""What a worker runs that labels photos all the way, with models of its own.

Its models come from the run, and not from disk, so that all workers have the very same.
"""

from __future__ import annotations

import os

from batch.location import Location
from batch.options import FileLimits, Place, Provider
from batch.vision.decode import Upright, photo_of
from batch.vision.labeller import Labeller
from batch.workers.child import Handing, serve
from batch.workers.process import PLAN_IS_THERE, read_plan
from batch.workers.protocol import Label


def main(connection: int, plan: int, *limits: int) -> None:
    """Label photos until nobody is left to ask.

    ``connection`` and ``plan`` are descriptors, of a socket and of a file with a ``Plan``, which
    the run has written once it says so; ``limits`` are those of ``FileLimits``, in its order.
    """
    if os.read(connection, 1) != PLAN_IS_THERE:  # the run needs no worker
        return

    def opened() -> Handing:
        return Labelling(Labeller(read_plan(plan), Place(Provider.CPU)))

    serve(connection, opened, FileLimits(*limits))


class Labelling:
    """Turns decoded photos into labels."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller

    def __call__(self, path: Location, upright: Upright) -> Label:
        """Label a photo."""
        row = self._labeller.row(photo_of(path, upright))
        return Label(row, self._labeller.timings.take())
