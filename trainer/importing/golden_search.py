"""Golden samples of a model of which only the graph is known.

As in ``exporting/golden_samples``, drawn and rendered pictures come first. Without gradients, a
random search (Rastrigin 1963) finds pictures for outputs that none of them exercises: coarse noise
is added to a picture and kept if the output gets likelier.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from batch.models.model import (
    MAX_GOLDEN_BYTES,
    MAX_GOLDEN_SAMPLES,
    MAX_VARIED_OUTPUTS,
    MIN_GOLDEN_SPREAD,
    GoldenSamples,
)
from batch.records import Pixels, Probabilities
from trainer.exporting.golden_samples import SEED, make_pictures

# An output is exercised if its probability differs by at least this between samples; one that
# reaches ``LIKELY`` is not searched for.
MIN_SPREAD = 5 * MIN_GOLDEN_SPREAD
LIKELY = 0.9
# Random search: steps, pictures per step, cells of the noise and its largest change in grey levels.
SEARCH_STEPS, CANDIDATES = 40, 12
NOISE_CELLS, NOISE_LEVELS = (1, 2, 4, 8, 16), (8, 24, 64, 128)

Run = Callable[[Pixels], Probabilities]

logger = logging.getLogger(__name__)


class ConstantOutput(Exception):
    """No pictures were found between which an output differs.

    Attributes:
        output: its index.
        low: its lowest probability.
        high: its highest probability.
        pictures: number of pictures that were tried.
    """

    def __init__(self, output: int, low: float, high: float, pictures: int) -> None:
        super().__init__(f"output {output}: {low} to {high} for {pictures} pictures")
        self.output, self.low, self.high, self.pictures = output, low, high, pictures


def make_pool(height: int, width: int, channels: int) -> Pixels:
    """Draw faces and render other pictures: uint8 [n, height, width, channels]."""
    pool = make_pictures(max(height, width), channels)
    if height == width:
        return pool
    resized = [
        np.asarray(Image.fromarray(picture.squeeze()).resize((width, height))) for picture in pool
    ]
    return np.stack(resized).reshape(-1, height, width, channels)


def search_golden_samples(
    run: Run, outputs: Sequence[str], height: int, width: int, channels: int
) -> GoldenSamples:
    """Find pictures between which every output differs; of many outputs, ``MAX_VARIED_OUTPUTS``.

    Args:
        run: the model: uint8 [n, H, W, C] to float32 [n, K + A].
        outputs: names of the outputs, for messages.
        height: of a picture, in pixels.
        width: of a picture, in pixels.
        channels: 3 or 1.

    Raises:
        ConstantOutput: too many outputs are about the same for all pictures.
    """
    pool = make_pool(height, width, channels)
    answers, tried = run(pool), len(pool)
    wanted = np.argsort(-_find_spread(answers), kind="stable")[:MAX_VARIED_OUTPUTS]
    for output in wanted:
        column = answers[:, output]
        # An output that is likely for all pictures gets rarer when another one is found.
        if column.max() - column.min() >= MIN_SPREAD or column.max() >= LIKELY:
            continue
        logger.info("no drawn picture exercises %s: searching for one", outputs[output])
        found, count = _search(run, pool[int(answers[:, output].argmax())], int(output))
        pool, tried = np.concatenate([pool, found[None]]), tried + count
        answers = np.concatenate([answers, run(found[None])])
        # The outputs that differ most come first: if no picture is found for one, then hardly any
        # for the others.
        if answers[:, output].max() - answers[:, output].min() <= MIN_GOLDEN_SPREAD:
            break
    for output in wanted:
        column = answers[:, output]
        # Not `<=`, which is False for NaN.
        if not column.max() - column.min() > MIN_GOLDEN_SPREAD:
            raise ConstantOutput(int(output), float(column.min()), float(column.max()), tried)
    chosen = _choose(answers, wanted)
    room = min(MAX_GOLDEN_SAMPLES, MAX_GOLDEN_BYTES // pool[0].size)
    inputs = pool[chosen[:room]]
    return GoldenSamples(inputs=inputs, outputs=run(inputs))


def _find_spread(answers: Probabilities) -> Probabilities:
    spread: Probabilities = answers.max(axis=0) - answers.min(axis=0)
    return spread


def _choose(answers: Probabilities, wanted: npt.NDArray[np.int64]) -> list[int]:
    """Choose the likeliest picture of each output, and an unlikely one if all chosen are likely."""
    chosen = list(dict.fromkeys(int(answers[:, output].argmax()) for output in wanted))
    for output in wanted:
        column = answers[:, output]
        if column[chosen].max() - column[chosen].min() < (column.max() - column.min()) / 2:
            chosen.append(int(column.argmin()))
    return list(dict.fromkeys(chosen))


def _search(run: Run, start: Pixels, output: int) -> tuple[Pixels, int]:
    """Change a picture until an output is likelier; return it and the number of trials."""
    rng = np.random.default_rng([SEED, output])
    best, lowest, highest = start, float(run(start[None])[0, output]), -np.inf
    tried = 0
    for _ in range(SEARCH_STEPS):
        tried += CANDIDATES
        pictures = np.stack([_add_noise(best, rng) for _ in range(CANDIDATES)])
        likely = run(pictures)[:, output]
        if likely.max() > highest:
            best, highest = pictures[int(likely.argmax())], float(likely.max())
        if highest - lowest >= MIN_SPREAD:
            break
    return best, tried


def _add_noise(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """Add smooth noise of a random coarseness and strength to a picture."""
    height, width, channels = picture.shape
    cells, level = int(rng.choice(NOISE_CELLS)), float(rng.choice(NOISE_LEVELS))
    planes = [
        np.asarray(
            Image.fromarray(rng.uniform(-level, level, (cells, cells)).astype(np.float32)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        for _ in range(channels)
    ]
    noisy: Pixels = np.clip(np.rint(picture + np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)
    return noisy
