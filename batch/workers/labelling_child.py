"""The program of a worker process that decodes and labels photos on the CPU.

The models come from the run, not from disk, so that all workers use the same.
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
    """Label photos until the run closes the connection.

    Args:
        connection: descriptor of the socket to the run.
        plan: descriptor of the shared file, which holds a ``LabellingPlan`` after ``PLAN_WRITTEN``.
        limits: the fields of ``FileLimits``, in order.
    """
    if os.read(connection, 1) != PLAN_WRITTEN:  # the run does not need a worker after all
        return

    def open_builder() -> PayloadBuilder:
        return RowBuilder(Labeller(read_plan(plan), Device(Provider.CPU)))

    serve(connection, open_builder, FileLimits(*limits))


class RowBuilder:
    """Labels decoded photos."""

    def __init__(self, labeller: Labeller) -> None:
        self._labeller = labeller

    def __call__(self, path: Location, upright: DecodedImage) -> TimedRow:
        """Label a photo."""
        row = self._labeller.label(to_photo(path, upright))
        return TimedRow(row, self._labeller.timings.take())
