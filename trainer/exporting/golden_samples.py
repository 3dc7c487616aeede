"""Golden samples of an exported model: pictures that together exercise every output.

They are drawn or rendered, so that a model file contains no photo of a person. If no picture
exercises an output, gradient ascent changes the pixels of one until it does (Simonyan et al. 2013,
arXiv 1312.6034).
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from PIL import Image

from batch.models.model import GOLDEN_TOLERANCE, GoldenSamples
from trainer.datasets.dataset import Framing, Pixels
from trainer.datasets.drawn_faces import Mood, draw_face, draw_snapshot
from trainer.datasets.rendered_pictures import render_pictures
from trainer.evaluation.exported_models import predict_onnx

if TYPE_CHECKING:  # PyTorch is loaded only if there is a network in it
    from trainer.exporting.onnx_graph import DeployedNetwork

SEED = 2016
# Size of the pool: faces per mood and style, and rendered pictures.
FACES_PER_MOOD, RENDERED_PICTURES = 12, 26
# A sample exercises an output if its probability is at least this.
MIN_EXERCISED = 0.6
# Gradient ascent: pictures to start from, steps, and the largest change per step in grey levels.
ASCENT_STARTS, ASCENT_STEPS, ASCENT_STEP = 4, 60, 2.0
# Share of an output's range that steady samples must cover.
MIN_RANGE_SHARE = 0.5

logger = logging.getLogger(__name__)


def choose_golden_samples(
    deployed: DeployedNetwork, graph: bytes, framing: Framing
) -> GoldenSamples:
    """Choose the pictures with the highest and the lowest probability of each output.

    Steady pictures are preferred: those on which PyTorch and the exported graph (int8 or float)
    agree, so that their answers hardly depend on a provider's arithmetic.

    Args:
        deployed: the network in PyTorch.
        graph: the exported graph, which gives the golden answers.
        framing: size and colours of a picture.
    """
    from trainer.exporting.onnx_graph import predict_torch

    pool = make_pictures(framing.side, framing.channels)
    answers = predict_onnx(graph, pool)
    weak = [n for n in range(answers.shape[1]) if answers[:, n].max() < MIN_EXERCISED]
    if weak:
        pool = np.concatenate([pool, *(_exercise(deployed, pool, answers[:, n], n) for n in weak)])
        answers = predict_onnx(graph, pool)
    steady = np.abs(predict_torch(deployed, pool) - answers).max(axis=1) < GOLDEN_TOLERANCE / 2
    return _choose_extremes(graph, pool, answers, steady)


def rechoose_golden_samples(graph: bytes, known: Pixels) -> GoldenSamples:
    """Choose golden samples for a graph without its PyTorch network.

    Args:
        graph: the exported graph.
        known: uint8 [n, side, side, channels], pictures to choose from besides the drawn ones.
    """
    pool = np.concatenate([known, make_pictures(known.shape[1], known.shape[3])])
    return _choose_extremes(
        graph, pool, predict_onnx(graph, pool), np.zeros(len(pool), dtype=np.bool_)
    )


def _choose_extremes(
    graph: bytes, pool: Pixels, answers: npt.NDArray[np.float32], steady: npt.NDArray[np.bool_]
) -> GoldenSamples:
    """Choose the extremes of each output, among steady pictures if they suffice."""
    chosen = [place for output in answers.T for place in _find_extremes(output, steady)]
    inputs = pool[list(dict.fromkeys(chosen))]
    samples = GoldenSamples(inputs=inputs, outputs=predict_onnx(graph, inputs))
    never = set(range(answers.shape[1])) - set(samples.outputs.argmax(axis=1).tolist())
    if never:
        logger.warning(
            "WARNING: output %s is the answer to no golden sample, so that they tell it less well "
            "from a wrong one",
            ", ".join(str(n + 1) for n in sorted(never)),
        )
    return samples


def _find_extremes(
    output: npt.NDArray[np.float32], steady: npt.NDArray[np.bool_]
) -> tuple[int, int]:
    """Find the indices of an output's extremes, among steady samples if they suffice."""
    high, low = int(output.argmax()), int(output.argmin())
    if not steady.any():
        return high, low
    steady_high = int(np.where(steady, output, -np.inf).argmax())
    steady_low = int(np.where(steady, output, np.inf).argmin())
    if output[steady_high] >= min(MIN_EXERCISED, output[high]):
        high = steady_high
    if output[high] - output[steady_low] >= MIN_RANGE_SHARE * (output[high] - output[low]):
        low = steady_low
    return high, low


@cache
def make_pictures(side: int, channels: int) -> Pixels:
    """Draw faces and render other pictures: uint8 [n, side, side, channels]."""
    drawn = [
        draw(mood, side, channels, SEED + n)
        for draw in (draw_face, draw_snapshot)
        for mood in Mood
        for n in range(FACES_PER_MOOD)
    ]
    mode = "L" if channels == 1 else "RGB"
    rendered = [
        np.asarray(picture.convert(mode).resize((side, side), Image.Resampling.BILINEAR)).reshape(
            side, side, channels
        )
        for _, picture in render_pictures(RENDERED_PICTURES, SEED)
    ]
    return np.stack([*drawn, *rendered])


def _exercise(
    deployed: DeployedNetwork, pool: Pixels, likely: npt.NDArray[np.float32], output: int
) -> Pixels:
    """Change pictures of a pool until one exercises an output; return all that were changed."""
    from trainer.exporting.onnx_graph import predict_torch

    # A flat picture has no gradient: its contrast is normalised, and the network sees only zeros.
    varied = np.flatnonzero(np.ptp(pool.reshape(len(pool), -1), axis=1))
    found: list[Pixels] = []
    for start in varied[np.argsort(-likely[varied], kind="stable")][:ASCENT_STARTS]:
        found.append(_ascend_gradient(deployed, pool[start], output))
        if predict_torch(deployed, found[-1][None])[0, output] >= MIN_EXERCISED:
            break
    return np.stack(found) if found else pool[:0]


def _ascend_gradient(deployed: DeployedNetwork, start: Pixels, output: int) -> Pixels:
    """Change a picture, uint8 [side, side, C], until it exercises an output."""
    import torch
    from torch.nn import functional as F

    pixels = torch.from_numpy(start[None].copy()).float()
    for _ in range(ASCENT_STEPS):
        pixels.requires_grad_(True)
        loss = F.nll_loss(deployed(pixels).clamp(min=1e-9).log(), torch.tensor([output]))
        (slope,) = torch.autograd.grad(loss, pixels)
        # Rounded in each step, because the result is stored as uint8.
        pixels = (pixels.detach() - ASCENT_STEP * slope.sign()).clamp(0, 255).round()
    found: Pixels = pixels[0].to(torch.uint8).numpy()
    return found
