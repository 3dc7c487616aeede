"""An explanation of a photo's answer, as numbers and as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch.records import Answer, Photo, Region, Row

if TYPE_CHECKING:  # numpy and Pillow cost start-up time, and `--help` needs none of them
    import numpy as np
    import numpy.typing as npt
    from PIL import Image


@dataclass(frozen=True)
class View:
    """What a model saw of the photo, and what each spot of it is worth to the photo's answer.

    ``left``, ``top``, ``width`` and ``height`` are the view's place in ``Photo.pixels``; it may
    reach over the edge. ``worth``: float32 [rows, columns], by how much the log-odds of the
    photo's answer fall if the spot with its centre there is hidden; the first and the last
    spots of a row lie on the view's edges.
    """

    region: Region
    left: float
    top: float
    width: float
    height: float
    worth: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Explanation:
    """A photo, the row that a run reports of it, and the views that its answer rests on.

    Attributes:
        photo: as it was decoded.
        row: its row.
        labels: the models' labels.
        views: those of the faces first, the main face foremost.
        certainty: log-odds of the photo's answer: of its label or, if it has none, of the abstain
            output, against all other outputs; of its label against the other labels if every
            photo is given one.
    """

    photo: Photo
    row: Row
    labels: tuple[str, ...]
    views: tuple[View, ...]
    certainty: float

    @property
    def answer(self) -> Answer:
        """The photo's answer; a photo without one has no explanation."""
        assert self.row.answer is not None
        return self.row.answer

    def heat(self) -> npt.NDArray[np.float32]:
        """Give what each pixel of ``Photo.pixels`` is worth: float32 [height, width], log-odds.

        Where views overlap, what they say is added up.
        """
        from batch.explaining.heatmap import heat_of

        return heat_of(self)

    def picture(self) -> Image.Image:
        """Draw photo, boxes, answer and heat map, with a legend, for people."""
        from batch.explaining.picture import draw

        return draw(self)
