"""Photos of a report that nobody reviewed, as samples: what a model is to hold on to."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from batch.errors import InputError
from batch.location import Location
from batch.models.contract import to_metadata
from batch.models.model import Model, ModelSpec
from batch.reading.fields import read_checked_records
from batch.reading.readers import REMEDY, record_error
from batch.reading.saved import open_reader
from batch.records import ABSTAIN_OUTPUTS, Region
from trainer.datasets.dataset import Pixels, Split
from trainer.datasets.duplicates import find_near_duplicates
from trainer.datasets.review import (
    BOX_COLUMNS,
    Review,
    Verdict,
    parse_box,
    read_review,
    resolve_location,
)
from trainer.datasets.reviewed_samples import ReviewedData, read_reviewed_samples
from trainer.evaluation.calibration import softmax
from trainer.evaluation.evaluate import Evaluation, evaluate, evaluation_to_json
from trainer.evaluation.exported_models import predict_onnx
from trainer.evaluation.tables import BIASED_SAMPLE_NOTE
from trainer.exporting.golden_samples import rechoose_golden_samples
from trainer.exporting.linear_head import (
    Floats,
    LinearHead,
    compute_features,
    find_head,
    replace_head,
)
from trainer.exporting.model_card import markdown_table, write_results
from trainer.exporting.onnx_graph import serialise_with_metadata
from trainer.training.probe import fit_logistic_regression

# So many a reviewed sample are taken, as many as it was measured with: all of a large report
# would outweigh what was reviewed.
OTHERS_PER_REVIEWED = 5
# So many more are read, since some are gone, or near to what was reviewed.
SPARE_FACTOR = 2

logger = logging.getLogger(__name__)


def read_unreviewed(report: Path, review: Review, reviewed: ReviewedData) -> Pixels:
    """Cut some of a report's answers out of their photos: uint8 [n, side, side, channels].

    They are cut as ``reviewed`` was, ``OTHERS_PER_REVIEWED`` times as many; which depends on their paths
    alone. What is gone, or nearly the same as anything reviewed, is passed over.

    Raises:
        ReportError, InputError: it is no report, or damaged.
    """
    said = {verdict.path for verdict in read_review(review)}
    answers = [v for v in _read_answers(report, review.photos) if v.path not in said]
    if reviewed.framing.region is Region.FACE:
        answers = [answer for answer in answers if answer.box]
    else:
        answers = list(
            {answer.path: answer for answer in answers if answer.face in (None, 1)}.values()
        )
    wanted = OTHERS_PER_REVIEWED * len(reviewed.learn)
    chosen = sorted(answers, key=_random_sort_key)[: SPARE_FACTOR * wanted]
    samples, _ = read_reviewed_samples(chosen, reviewed.labels, reviewed.framing)
    pixels = reviewed.get_split(samples).pixels
    known = reviewed.get_split((*reviewed.learn, *reviewed.held)).pixels
    others = pixels[find_near_duplicates(pixels, known) < 0][:wanted]
    logger.info("%s: %d answers to hold on to", report, len(others))
    return others


def _read_answers(report: Path, photos: Path) -> Iterator[Verdict]:
    """Read a report's answers as if each had been confirmed."""
    with open_reader(report) as reader:
        wanted = ["path", "status", "label", *BOX_COLUMNS]
        wanted += ["face"] if "face" in reader.columns else []
        absent = [name for name in wanted if name not in reader.columns]
        if absent:
            raise InputError(f"{reader.display_name} lacks {', '.join(absent)}", REMEDY)
        for number, (path, status, label, *place) in read_checked_records(reader, wanted):
            answer = status if label is None and status in ABSTAIN_OUTPUTS else label
            try:
                if answer is not None:
                    yield _to_verdict(resolve_location(path, photos), answer, place)
            except ValueError as error:
                raise record_error(reader, number, str(error)) from error


def _to_verdict(path: Location, label: str, place: list[Any]) -> Verdict:
    sides, face = place[: len(BOX_COLUMNS)], place[len(BOX_COLUMNS) :]
    box = parse_box([side for side in sides if side is not None])
    return Verdict(path, face[0] if face else None, box, reported=label, label=label, where="")


def _random_sort_key(answer: Verdict) -> bytes:
    return hashlib.sha256(answer.name.encode()).digest()


# == Lets an exported model learn from a review, without the data that it was trained on.
# ==
# == Its features stay; its last layer is fitted by logistic regression to the reviewed labels, and,
# == so that it does not forget, to its own answers on other photos of the same report (Li and Hoiem
# == 2016, "Learning without Forgetting", arXiv 1606.09282). How far it may go from where it was is
# == bounded besides (Li et al. 2018, arXiv 1802.01483).

# Half the squared change of the weights, in units of the features' length, weighs this much
# against the sum of losses.
DECAY = 0.3


@dataclass(frozen=True)
class AdjustedModel:
    """A model file's bytes and what was found out on the way.

    ``test`` are figures of held-out reviewed samples, ``learnt`` the number of those that were
    learnt from, ``kept`` that of the model's own answers beside them.
    """

    graph: bytes
    spec: ModelSpec
    test: Evaluation
    learnt: int
    kept: int
    decay: float

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.graph).hexdigest()


def adjust_model(
    model: Model,
    learn: Split,
    held: Split,
    others: Pixels,
    version: str,
    created: str,
    decay: float,
) -> AdjustedModel:
    """Fit a model's last layer to reviewed samples and to its own answers on others.

    ``learn`` and ``held`` have votes for the model's outputs in their order; the second gives the
    figures. ``others``, uint8 [n, H, W, C], are samples that nobody reviewed. Threshold, fusion
    and all features stay as they are; the confidences keep their scale, because most of what is
    fitted are the model's own.

    Raises:
        InputError: one of the three is empty.
        ModelError: the model was not made by ``trainer export``.
    """
    if not len(learn) or not len(held):
        raise InputError(
            f"{len(learn)} reviewed samples are there to learn from and {len(held)} to judge by",
            "review more photos: of ten about two are held out",
        )
    if not len(others):
        raise InputError(
            "the report has no photo but reviewed ones, and the model would forget all others",
            "give the report of more photos",
        )
    proto = onnx.load_from_string(model.graph)
    head = find_head(proto, model.path)
    pixels = np.concatenate([learn.pixels, others])
    seen = compute_features(model, proto, head, np.concatenate([pixels, pixels[:, :, ::-1]]))
    classes = softmax(head.logits(seen[: len(pixels)]), 1.0)
    reviewed = head.class_votes(classes[: len(learn)], learn.votes)
    votes = np.concatenate([reviewed, classes[len(learn) :]])
    changed = replace_head(proto, refit_head(head, seen, np.concatenate([votes, votes]), decay))
    fingerprint = hashlib.sha256(model.spec.data_fingerprint.encode())
    for part in (learn.pixels, learn.votes, others):
        fingerprint.update(part.tobytes())
    bare = serialise_with_metadata(changed, {})
    test = evaluate(predict_onnx(bare, held.pixels), held.targets, model.spec.outputs)
    spec = replace(
        model.spec,
        version=version,
        created=created,
        data_fingerprint=fingerprint.hexdigest(),
        metrics={"data": "reviewed answers", "split": "held out", **evaluation_to_json(test)},
        golden=rechoose_golden_samples(bare, model.spec.golden.inputs),
    )
    graph = serialise_with_metadata(changed, to_metadata(spec))
    return AdjustedModel(graph, spec, test, len(learn), len(others), decay)


def refit_head(head: LinearHead, seen: Floats, votes: Floats, decay: float) -> LinearHead:
    """Fit a head to votes, float32 [n, C], for features, float32 [n, D], near to where it is.

    Each sample counts half, since it comes as it is and mirrored. The features' mean square makes
    ``decay`` free of units.
    """
    length = float(np.sqrt((seen.astype(np.float64) ** 2).sum(axis=1).mean()))
    start = torch.from_numpy(head.logits(seen))
    change, shift = fit_logistic_regression(
        torch.from_numpy(seen / length), torch.from_numpy(votes), decay, start
    )
    weight = (head.weight + change.numpy() / length).astype(np.float32)
    return replace(head, weight=weight, bias=head.bias + shift.numpy())


# == The card of an adjusted model: what was changed, what was measured, and the card before it.

ORIGINAL_SECTION = """## Before it was adjusted

What follows is of the model before anything was adjusted; no figure in it was measured again.

"""
HEADING_PATTERN = re.compile(r"^(#+ )", flags=re.MULTILINE)


def write_adjusted_card(adjusted: AdjustedModel, before: Model, card: str) -> str:
    """Write the Markdown card of a model that was adjusted; ``card`` is the one of ``before``."""
    spec = adjusted.spec
    facts = (
        ("Version", spec.version),
        ("Created", spec.created),
        ("SHA-256", f"`{adjusted.digest}`"),
        ("Adjusted from", f"version {before.spec.version}, SHA-256 `{before.digest}`"),
    )
    return (
        f"# {spec.name}\n\nA model whose last layer was adjusted to answers that people reviewed. "
        f"All else is as it was, thresholds included.\n\n"
        f"{markdown_table(('', ''), facts)}\n\n"
        f"## What it learnt from\n\n{adjusted.learnt:,} reviewed answers, and its own answers on "
        f"{adjusted.kept:,} other photos, by logistic regression with a decay of "
        f"{adjusted.decay:g} towards the weights that it had. Fingerprint: "
        f"`{spec.data_fingerprint}`.\n\n"
        f"{write_results(adjusted.test, 'held-out')}\n\n{BIASED_SAMPLE_NOTE}\n\n"
        f"{ORIGINAL_SECTION}{_original_card(card)}"
    )


def _original_card(card: str) -> str:
    """Give the card from before the first adjustment, two levels deeper."""
    _, found, first = card.partition(ORIGINAL_SECTION)
    return first if found else HEADING_PATTERN.sub("##\\1", card)
