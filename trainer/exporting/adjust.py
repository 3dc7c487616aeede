"""Adjusts an exported model to a review, without its training data.

The feature layers are kept. The last layer is fitted by logistic regression to the reviewed labels
and, against forgetting, to the model's own answers on other photos of the report (Li and Hoiem
2016, "Learning without Forgetting", arXiv 1606.09282). Weight decay towards the earlier weights
limits the change (Li et al. 2018, arXiv 1802.01483).
"""

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
from batch.reading.reviews import parse_box
from batch.reading.saved import open_reader
from batch.records import ABSTAIN_OUTPUTS, Region, Source
from batch.reports.columns import BOX_COLUMNS
from batch.reports.readers import REMEDY, record_error
from trainer.datasets.dataset import Pixels, Split
from trainer.datasets.duplicates import find_near_duplicates
from trainer.datasets.review import (
    Review,
    Verdict,
    read_review,
    resolve_location,
)
from trainer.datasets.reviewed_samples import (
    HELD_OUT_REMEDY,
    TRAIN_SPLIT,
    ReviewedData,
    read_reviewed_samples,
)
from trainer.evaluation.calibration import softmax
from trainer.evaluation.evaluate import Evaluation, evaluate, evaluation_to_json
from trainer.evaluation.exported_models import predict_onnx
from trainer.evaluation.trained_on import find_trained_on, merge_trained_on
from trainer.exporting.card_metadata import add_metadata, make_metadata, split_card
from trainer.exporting.card_text import markdown_table
from trainer.exporting.golden_samples import rechoose_golden_samples
from trainer.exporting.linear_head import (
    Floats,
    LinearHead,
    compute_features,
    find_head,
    replace_head,
)
from trainer.exporting.model_card import write_results
from trainer.exporting.onnx_graph import serialise_with_metadata
from trainer.training.probe import fit_logistic_regression

# Unreviewed samples per reviewed one, as in the measurements; all answers of a large report would
# outweigh the review.
OTHERS_PER_REVIEWED = 5
# Unreviewed samples to read per sample to use: some are gone or near duplicates of reviewed ones.
SPARE_FACTOR = 2
# Weight decay: the factor on half the squared change of the weights, relative to the sum of losses.
# Weights are measured in units of the features' length.
DECAY = 0.3

ORIGINAL_SECTION = """## Before the adjustment

This is the card of the original model; its metrics were not measured again.

"""
HEADING_PATTERN = re.compile(r"^(#+ )", flags=re.MULTILINE)

logger = logging.getLogger(__name__)


def read_unreviewed(report: Path, review: Review, reviewed: ReviewedData) -> Pixels:
    """Crop a random selection of a report's unreviewed answers: uint8 [n, side, side, channels].

    There are ``OTHERS_PER_REVIEWED`` samples per reviewed one, cropped like these and chosen by a
    hash of their paths. Missing photos and near duplicates of reviewed samples are skipped, and so
    are photos that a review would hold out, as people may review them later.

    Raises:
        ReportError, InputError: the file is not a report, or damaged.
    """
    reviewed_paths = {verdict.path for verdict in read_review(review)}
    answers = [v for v in _read_answers(report, review.photos) if v.path not in reviewed_paths]
    if reviewed.framing.region is Region.FACE:
        answers = [answer for answer in answers if answer.box]
    else:
        answers = list(
            {answer.path: answer for answer in answers if answer.face in (None, 1)}.values()
        )
    wanted = OTHERS_PER_REVIEWED * len(reviewed.learn)
    chosen = sorted(answers, key=_random_sort_key)[: SPARE_FACTOR * wanted]
    samples, _ = read_reviewed_samples(chosen, reviewed.labels, reviewed.framing)
    pixels = reviewed.get_split([one for one in samples if one.split == TRAIN_SPLIT]).pixels
    known = reviewed.get_split((*reviewed.learn, *reviewed.held, *reviewed.unsampled)).pixels
    others = pixels[find_near_duplicates(pixels, known) < 0][:wanted]
    logger.info("%s: %d unreviewed answers to keep", report, len(others))
    return others


def _read_answers(report: Path, photos: Path) -> Iterator[Verdict]:
    """Read the answers that the model gave in a report as verdicts that confirm them."""
    with open_reader(report) as reader:
        wanted = ["path", "status", "label", *BOX_COLUMNS]
        has_source = "source" in reader.columns
        wanted += [name for name in ("face", "source") if name in reader.columns]
        absent = [name for name in wanted if name not in reader.columns]
        if absent:
            raise InputError(f"{reader.display_name} lacks {', '.join(absent)}", REMEDY)
        for number, (path, status, label, *place) in read_checked_records(reader, wanted):
            answer = status if label is None and status in ABSTAIN_OUTPUTS else label
            if has_source and place.pop() == Source.REVIEW:
                continue  # a person gave this answer
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


@dataclass(frozen=True)
class AdjustedModel:
    """An adjusted model and its evaluation.

    Attributes:
        graph: the model file's bytes.
        spec: its metadata.
        test: metrics on held-out reviewed samples.
        learnt: number of reviewed samples in the fit.
        kept: number of unreviewed samples in the fit.
        decay: the weight decay towards the earlier weights.
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

    Thresholds, fusion and features do not change. The confidences keep their scale, because most
    targets of the fit are the model's own answers.

    Args:
        model: the model to adjust.
        learn: reviewed samples to learn from, with votes for the model's outputs.
        held: held-out reviewed samples, for the metrics.
        others: uint8 [n, H, W, C], unreviewed samples.
        version: version of the adjusted model.
        created: date, YYYY-MM-DD.
        decay: weight decay towards the earlier weights.

    Raises:
        InputError: there are no reviewed, no held-out or no unreviewed samples.
        ModelError: the model was not exported by ``trainer export``.
    """
    if not len(learn) or not len(held):
        raise InputError(
            f"there are {len(learn)} reviewed samples to learn from and {len(held)} held out",
            HELD_OUT_REMEDY,
        )
    if not len(others):
        raise InputError(
            "all photos of the report are reviewed, and the model would forget the others",
            "give a report with more photos",
        )
    proto = onnx.load_from_string(model.graph)
    head = find_head(proto, model.path)
    pixels = np.concatenate([learn.pixels, others])
    features = compute_features(model, proto, head, np.concatenate([pixels, pixels[:, :, ::-1]]))
    classes = softmax(head.logits(features[: len(pixels)]), 1.0)
    reviewed = head.class_votes(classes[: len(learn)], learn.votes)
    votes = np.concatenate([reviewed, classes[len(learn) :]])
    changed = replace_head(proto, refit_head(head, features, np.concatenate([votes, votes]), decay))
    fingerprint = hashlib.sha256(model.spec.data_fingerprint.encode())
    for part in (learn.pixels, learn.votes, others):
        fingerprint.update(part.tobytes())
    bare = serialise_with_metadata(changed, {})
    test = evaluate(predict_onnx(bare, held.pixels), held.targets, model.spec.outputs, held.groups)
    spec = replace(
        model.spec,
        version=version,
        created=created,
        data_fingerprint=fingerprint.hexdigest(),
        metrics={"data": "reviewed answers", "split": "held out", **evaluation_to_json(test)},
        golden=rechoose_golden_samples(bare, model.spec.golden.inputs),
        trained_on=merge_trained_on([pixels], [find_trained_on(model.spec, str(model.path), None)]),
    )
    graph = serialise_with_metadata(changed, to_metadata(spec))
    return AdjustedModel(graph, spec, test, len(learn), len(others), decay)


def refit_head(head: LinearHead, features: Floats, votes: Floats, decay: float) -> LinearHead:
    """Fit a head to votes, with weight decay towards its present weights.

    Args:
        head: the present head.
        features: float32 [n, D]; each sample comes twice, the second time mirrored.
        votes: float32 [n, C].
        decay: in units of the features' mean square.
    """
    length = float(np.sqrt((features.astype(np.float64) ** 2).sum(axis=1).mean()))
    start = torch.from_numpy(head.logits(features))
    change, shift = fit_logistic_regression(
        torch.from_numpy(features / length), torch.from_numpy(votes), decay, start
    )
    weight = (head.weight + change.numpy() / length).astype(np.float32)
    return replace(head, weight=weight, bias=head.bias + shift.numpy())


def write_adjusted_card(adjusted: AdjustedModel, before: Model, card: str, sample_note: str) -> str:
    """Write the Markdown card of an adjusted model.

    Args:
        adjusted: the adjusted model.
        before: the model before.
        card: its card.
        sample_note: whether the held-out samples represent the photos of the report.
    """
    spec = adjusted.spec
    facts = (
        ("Version", spec.version),
        ("Created", spec.created),
        ("SHA-256", f"`{adjusted.digest}`"),
        ("Adjusted from", f"version {before.spec.version}, SHA-256 `{before.digest}`"),
    )
    earlier, body = split_card(card)
    text = (
        f"# {spec.name}\n\nA model whose last layer was adjusted to reviewed answers. Features and "
        f"thresholds are unchanged.\n\n"
        f"{markdown_table(('', ''), facts)}\n\n"
        f"## Data\n\n{adjusted.learnt:,} reviewed answers, and the model's own answers on "
        f"{adjusted.kept:,} other photos. Fitted by logistic regression with a weight decay of "
        f"{adjusted.decay:g} towards the earlier weights. Fingerprint: "
        f"`{spec.data_fingerprint}`.\n\n"
        f"{write_results(adjusted.test, 'held-out')}\n\n{sample_note}\n\n"
        f"{ORIGINAL_SECTION}{_original_card(body)}"
    )
    return add_metadata(text, make_metadata(spec, earlier.get("license")))


def _original_card(card: str) -> str:
    """Return the card of the model before any adjustment, with headings two levels deeper."""
    _, found, first = card.partition(ORIGINAL_SECTION)
    return first if found else HEADING_PATTERN.sub("##\\1", card)
