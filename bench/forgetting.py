"""What the shipped face model learns from a review without its data, and what it forgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from bench.right_answers import FIRST, RightAnswers, least_certain
from bench.tables import Table
from trainer.datasets.duplicates import near_groups, perceptual_hash
from trainer.datasets.ferplus import load_ferplus
from trainer.datasets.folders import load_folders
from trainer.evaluate import suited
from trainer.evaluation.calibrate import softmax
from trainer.evaluation.folds import assign
from trainer.exporting.models import framing_for, open_model
from trainer.reviewing.adjust import moved
from trainer.reviewing.head import features_of, find_head

MODEL = "happy-sad"


def face_tables(
    people: Path, ferplus: Path, seeds: Sequence[int], count: int, decays: Sequence[float]
) -> list[Table]:
    """Review one half of the faces and judge by the other, and by FER+'s test part."""
    model = open_model(MODEL)
    graph = onnx.load_from_string(model.graph)
    head = find_head(graph, model.path)
    own, old = load_folders(people, framing_for(model)).part("all"), load_ferplus(ferplus)
    known = suited(old.test, old.labels, model)
    seen, mirrored, seen_known = (
        features_of(model, graph, head, pixels)
        for pixels in (own.pixels, own.pixels[:, :, ::-1], known.pixels)
    )
    groups = near_groups(perceptual_hash(own.pixels))
    faces, memory = RightAnswers(own.targets), RightAnswers(known.targets)
    for seed in seeds:
        dealt = assign(groups, own.targets, 2, seed)
        for half in range(2):
            night, judged = np.flatnonzero(dealt == half), np.flatnonzero(dealt != half)
            said = head.logits(seen[night])
            votes, picked = softmax(said, 1.0), least_certain(said, count)
            votes[picked] = own.votes[night][picked]
            both = np.concatenate([seen[night], mirrored[night]])
            heads = {FIRST: head}
            for decay in decays:
                way = f"{count} reviewed and own answers, decay {decay:g}"
                heads[way] = moved(head, both, np.concatenate([votes, votes]), decay)
            for way, now in heads.items():
                faces.note(way, judged, now.logits(seen[judged]))
                memory.note(way, np.arange(len(known)), now.logits(seen_known))
    return [faces.table("Faces of web photos"), memory.table("Faces of FER+'s test part")]
