"""What the shipped face model learns from a review without its data, and what it forgets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from bench.right_answers import FIRST, RightAnswers, find_least_certain
from bench.tables import Table
from trainer.datasets.duplicates import compute_perceptual_hash, group_near_duplicates
from trainer.datasets.ferplus import load_ferplus
from trainer.datasets.labelled_files import load_folders
from trainer.evaluation.calibration import softmax
from trainer.evaluation.evaluate import match_to_model
from trainer.evaluation.exported_models import derive_framing, open_model
from trainer.evaluation.out_of_fold import assign_folds
from trainer.exporting.adjust import refit_head
from trainer.exporting.linear_head import compute_features, find_head

MODEL = "happy-sad"


def face_tables(
    people: Path, ferplus: Path, seeds: Sequence[int], count: int, decays: Sequence[float]
) -> list[Table]:
    """Review one half of the faces and judge by the other, and by FER+'s test part."""
    model = open_model(MODEL)
    graph = onnx.load_from_string(model.graph)
    head = find_head(graph, model.path)
    own, old = load_folders(people, derive_framing(model)).get_split("all"), load_ferplus(ferplus)
    known = match_to_model(old.test, old.labels, model)
    seen, mirrored, seen_known = (
        compute_features(model, graph, head, pixels)
        for pixels in (own.pixels, own.pixels[:, :, ::-1], known.pixels)
    )
    groups = group_near_duplicates(compute_perceptual_hash(own.pixels))
    faces, memory = RightAnswers(own.targets), RightAnswers(known.targets)
    for seed in seeds:
        dealt = assign_folds(groups, own.targets, 2, seed)
        for half in range(2):
            night, judged = np.flatnonzero(dealt == half), np.flatnonzero(dealt != half)
            said = head.logits(seen[night])
            votes, picked = softmax(said, 1.0), find_least_certain(said, count)
            votes[picked] = own.votes[night][picked]
            both = np.concatenate([seen[night], mirrored[night]])
            heads = {FIRST: head}
            for decay in decays:
                way = f"{count} reviewed and own answers, decay {decay:g}"
                heads[way] = refit_head(head, both, np.concatenate([votes, votes]), decay)
            for way, now in heads.items():
                faces.note(way, judged, now.logits(seen[judged]))
                memory.note(way, np.arange(len(known)), now.logits(seen_known))
    return [faces.table("Faces of web photos"), memory.table("Faces of FER+'s test part")]
