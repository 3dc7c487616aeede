"""Golden samples of an exported model: pictures that together exercise every output.

They are drawn and rendered by the project: no one's photo travels inside a model. Where none of
them gets an output, one is changed until it does, by gradient ascent on its pixels (Simonyan et al.
2013, arXiv 1312.6034).
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from batch.contract.golden import Golden
from trainer.data import Framing, Pixels
from trainer.datasets.drawn import Mood, draw_face, draw_snapshot
from trainer.datasets.rendered import render_all
from trainer.exporting.deploy import Deployed
from trainer.exporting.parity import onnx_answers

SEED = 2016
# Faces of each mood in two styles, and rendered pictures, to choose from.
FACES, RENDERED = 12, 26
# An output counts as exercised where a sample gives it so much.
EXERCISED = 0.6
# Of gradient ascent: steps, and grey levels of the largest change in each.
STEPS, STEP = 60, 2.0


def golden_samples(deployed: Deployed, graph: bytes, framing: Framing) -> Golden:
    """Choose, for every output, the picture that gets most of it and the one that gets least.

    ``graph`` is the exported form of ``deployed``, whose answers are the samples'.
    """
    pool = _pictures(framing)
    answers = onnx_answers(graph, pool)
    weak = [n for n in range(answers.shape[1]) if answers[:, n].max() < EXERCISED]
    if weak:
        found = [_persuaded(deployed, pool[int(answers[:, n].argmax())], n) for n in weak]
        pool = np.concatenate([pool, np.stack(found)])
        answers = onnx_answers(graph, pool)
    chosen = [
        int(extreme) for output in answers.T for extreme in (output.argmax(), output.argmin())
    ]
    inputs = pool[list(dict.fromkeys(chosen))]
    return Golden(inputs=inputs, outputs=onnx_answers(graph, inputs))


def _pictures(framing: Framing) -> Pixels:
    """Draw faces and render other pictures: uint8 [n, side, side, channels]."""
    side, channels = framing.side, framing.channels
    drawn = [
        draw(mood, side, channels, SEED + n)
        for draw in (draw_face, draw_snapshot)
        for mood in Mood
        for n in range(FACES)
    ]
    mode = "L" if channels == 1 else "RGB"
    rendered = [
        np.asarray(picture.convert(mode).resize((side, side), Image.Resampling.BILINEAR)).reshape(
            side, side, channels
        )
        for _, picture in render_all(RENDERED, SEED)
    ]
    return np.stack([*drawn, *rendered])


def _persuaded(deployed: Deployed, start: Pixels, output: int) -> Pixels:
    """Change a picture, uint8 [side, side, C], until the network gives it an output."""
    pixels = torch.from_numpy(start[None].copy()).float()
    for _ in range(STEPS):
        pixels.requires_grad_(True)
        loss = F.nll_loss(deployed(pixels).clamp(min=1e-9).log(), torch.tensor([output]))
        (slope,) = torch.autograd.grad(loss, pixels)
        # Rounded in each step, so that what is found survives as a picture.
        pixels = (pixels.detach() - STEP * slope.sign()).clamp(0, 255).round()
    found: Pixels = pixels[0].to(torch.uint8).numpy()
    return found
