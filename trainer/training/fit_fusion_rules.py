"""Fits the rules that fuse the probabilities of a face model and a whole-photo model.

The formula, multinomial logistic regression on the logarithms of both models' probabilities, is
that of ``batch.models.fusion``. The whole-photo model's probabilities come from a cross-validation,
from networks that were not trained on the photo.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from batch.errors import InputError, ModelError
from batch.models.ensemble import Ensemble, load_ensemble
from batch.models.fusion import MIN_PROBABILITY, Fusion, FusionWeights, score_log_odds
from batch.options import DEFAULT_BATCH_SIZE, Device, Options, Provider
from batch.records import Abstain, Failure, Photo
from batch.vision.crop import resize_photo
from batch.vision.decide import average_faces, measure_main_face
from batch.vision.decode import decode_bytes
from batch.vision.labeller import Labeller
from batch.vision.plan import make_plan
from batch.vision.read_file import read_file
from trainer.datasets.dataset import Framing, canonical_label, select_abstain_classes
from trainer.datasets.samples import LabelledFile
from trainer.evaluation.calibration import fit_temperature, softmax
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.evaluation.out_of_fold import OutOfFold, name_sample
from trainer.evaluation.selective import Decisions, decide_all, merge_decisions
from trainer.evaluation.thresholds import ChosenThresholds, choose_thresholds, find_person_threshold

# Bounds of the whole photo's term for a label, with a face and without one, so that surroundings
# and light do not outweigh the face.
LABEL_LIMIT, LABEL_LIMIT_ALONE = 1.25, 2.0
ABSTAIN_LIMIT = 6.0
# Bounds of the whole photo's term for `neither` beside a face: it may lower the probability but not
# raise it. The examples of `neither` are close portraits, whose surroundings say nothing about
# an expression. For the same reason the weight is not fitted.
NEITHER_LIMITS = (-2.0, 0.0)
NEITHER_WEIGHT = 1.0
# A face whose longer side is this share of the photo's longer side fills the photo.
ALONE_SHARE = 0.75
# Detector score of a sure face: of 64 false detections in pictures without a person, 57 have a
# lower score.
ALONE_SCORE = 0.85
# Probability of a sure label. Of 1,143 faces in web photos with such a score and probability, the
# whole-photo model changed the label of 23; for 20 of these the face model alone was right.
ALONE_FROM = 0.9
# Factor on half the squared distance of the weights from their start, relative to the loss.
RULE_DECAY = 1.0
MAX_ITERATIONS = 200

CROSS_VALIDATE_REMEDY = (
    "cross-validate on the same photos, with --region image and the same --side and --rgb"
)


@dataclass(frozen=True)
class FusionEvidence:
    """The predictions of both models for labelled photos.

    Attributes:
        labels: the K labels.
        abstain: the A abstain outputs.
        face_abstain: the face model's abstain outputs.
        face: the face model's probabilities, the mean over a photo's faces, NaN for a photo without
            a face: float32 [n, outputs of the face model].
        score: the detector's score of the main face, float64 [n].
        share: the main face's longer side over the photo's, float64 [n].
        photo: out-of-fold probabilities of the whole-photo model, float32 [n, K + A].
        targets: index of the right class among labels, then abstain outputs, int64 [n].
        folds: fold of the cross-validation, int64 [n].
        weights: weight of each photo, float32 [n].
        kinds: kind of each picture, for tables, str [n].
    """

    labels: tuple[str, ...]
    abstain: tuple[str, ...]
    face_abstain: tuple[str, ...]
    face: Probabilities
    score: npt.NDArray[np.float64]
    share: npt.NDArray[np.float64]
    photo: Probabilities
    targets: Targets
    folds: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.str_]

    @property
    def has_face(self) -> npt.NDArray[np.bool_]:
        """Whether each photo has a face, bool [n]."""
        return ~np.isnan(self.face[:, 0])

    def take(self, chosen: npt.NDArray[np.bool_]) -> FusionEvidence:
        """Select photos by a mask, bool [n]."""
        arrays = ("face", "score", "share", "photo", "targets", "folds", "weights", "kinds")
        return replace(self, **{name: getattr(self, name)[chosen] for name in arrays})


def gather_evidence(
    files: Sequence[LabelledFile], face_model: str, answers: OutOfFold, framing: Framing
) -> FusionEvidence:
    """Run a face model, like the runner, on the photos of a cross-validation.

    Args:
        files: the photos; those that are not in the cross-validation are skipped.
        face_model: name or path of the face model.
        answers: the out-of-fold predictions.
        framing: the framing of the cross-validation.

    Raises:
        InputError: photos of the cross-validation are missing.
        ModelError: the face model has other labels.
    """
    ensemble = load_ensemble(Options(model=face_model, provider=Provider.CPU))
    labels, abstain = _split_outputs(answers)
    spec = _check_face_model(ensemble, labels, abstain)
    labeller = Labeller(make_plan(ensemble, DEFAULT_BATCH_SIZE), Device(Provider.CPU))

    def predict(file: LabelledFile) -> tuple[str, _FacePrediction] | None:
        data = read_file(file.path)
        photo = data if isinstance(data, Failure) else decode_bytes(file.path, data)
        if not isinstance(photo, Photo):
            return None
        name = name_sample(
            resize_photo(photo, framing.side, framing.side, framing.channels, framing.resize)
        )
        return name, _collect_faces(labeller, photo, file)

    with ThreadPoolExecutor() as pool:
        seen = dict(filter(None, pool.map(predict, files)))
    missing = [name for name in answers.names if name not in seen]
    if missing:
        raise InputError(
            f"{len(missing)} cross-validated photos are missing among the samples of "
            f"{framing.describe()}",
            CROSS_VALIDATE_REMEDY,
        )
    photos = [seen[name] for name in answers.names]
    no_face = np.full(len(spec), np.nan, dtype=np.float32)
    return FusionEvidence(
        labels=labels,
        abstain=abstain,
        face_abstain=spec[len(labels) :],
        face=np.stack([no_face if photo.face is None else photo.face for photo in photos]),
        score=np.asarray([photo.score for photo in photos]),
        share=np.asarray([photo.share for photo in photos]),
        # Calibrated, as the probabilities of the exported model are.
        photo=softmax(answers.logits, fit_temperature(answers.logits, answers.targets)),
        targets=answers.targets,
        folds=answers.folds,
        weights=np.asarray([photo.weight for photo in photos], dtype=np.float32),
        kinds=np.asarray([photo.kind for photo in photos], dtype=np.str_),
    )


def predict_fused(fusion: Fusion, evidence: FusionEvidence) -> Probabilities:
    """Compute the fused probabilities of every photo, as the runner does: float32 [n, K + A]."""
    answers = []
    for has_face, face, score, share, photo in zip(
        evidence.has_face,
        evidence.face,
        evidence.score.tolist(),
        evidence.share.tolist(),
        evidence.photo,
        strict=True,
    ):
        if has_face and fusion.answers_alone(face, score, share):
            answers.append(fusion.spread_face(face))
        else:
            answers.append(fusion.fuse(face if has_face else None, score, photo))
    return np.stack(answers)


def fit_fusion(face_model: str, evidence: FusionEvidence) -> Fusion:
    """Fit the rules for photos with and without a face; thresholds are left at their defaults."""
    return Fusion(
        face_model=face_model,
        face_abstain=evidence.face_abstain,
        both=_fit_rule(evidence.take(evidence.has_face), with_face=True),
        photo=_fit_rule(evidence.take(~evidence.has_face), with_face=False),
        alone_score=ALONE_SCORE,
        alone_share=ALONE_SHARE,
        alone_from=ALONE_FROM,
        unsure_below=1 / len(evidence.labels),
        abstain_from=dict.fromkeys(evidence.abstain, 0.5),
    )


def set_thresholds(fusion: Fusion, chosen: ChosenThresholds) -> Fusion:
    """Return the fusion with the chosen thresholds."""
    return replace(fusion, unsure_below=chosen.unsure_below, abstain_from=chosen.abstain_from)


def choose_fusion_thresholds(
    fusion: Fusion, evidence: FusionEvidence, risk: float
) -> ChosenThresholds:
    """Choose the thresholds on photos of weight 1, because the labels of others are uncertain.

    The threshold for ``no_person`` is chosen on all photos: whether one shows a person is certain.

    Args:
        fusion: the fitted rules.
        evidence: the photos.
        risk: largest share of wrong labels among those that count.
    """
    answers = predict_fused(fusion, evidence)
    least = {}
    if Abstain.NO_PERSON in evidence.abstain:
        at = len(evidence.labels) + evidence.abstain.index(Abstain.NO_PERSON)
        least[str(Abstain.NO_PERSON)] = find_person_threshold(
            answers[:, at], evidence.targets != at, evidence.kinds
        )
    trusted = evidence.weights == 1
    if not trusted.any():
        trusted = np.ones_like(trusted)
    return choose_thresholds(
        answers[trusted],
        evidence.targets[trusted],
        evidence.labels,
        evidence.abstain,
        risk,
        least,
    )


@dataclass(frozen=True)
class CrossFit:
    """Predictions for each fold with rules and thresholds fitted on the other folds.

    Attributes:
        probabilities: the fused probabilities, float32 [n, K + A].
        decisions: the runner's decisions by the fold's thresholds.
        fusions: the rules by fold.
    """

    probabilities: Probabilities
    decisions: Decisions
    fusions: Mapping[int, Fusion]


def cross_fit(face_model: str, evidence: FusionEvidence, risk: float) -> CrossFit:
    """Predict each fold with rules and thresholds fitted on the other folds."""
    probabilities = np.empty_like(evidence.photo)
    fusions: dict[int, Fusion] = {}
    parts: list[tuple[npt.NDArray[np.bool_], Decisions]] = []
    for fold in np.unique(evidence.folds):
        held_out = evidence.folds == fold
        others = evidence.take(~held_out)
        fusion = fit_fusion(face_model, others)
        chosen = choose_fusion_thresholds(fusion, others, risk)
        fusions[int(fold)] = set_thresholds(fusion, chosen)
        probabilities[held_out] = predict_fused(fusion, evidence.take(held_out))
        decisions = decide_all(probabilities[held_out], evidence.labels, chosen.thresholds)
        parts.append((held_out, decisions))
    return CrossFit(probabilities, merge_decisions(parts), fusions)


@dataclass(frozen=True)
class _FacePrediction:
    """The face model's predictions for one photo.

    Attributes:
        face: mean probabilities of the faces, float32 [outputs]; None without a face.
        score: the detector's score of the main face.
        share: the main face's longer side over the photo's.
        weight: the photo's weight in its data set.
        kind: the photo's kind in its data set.
    """

    face: Probabilities | None
    score: float
    share: float
    weight: float
    kind: str


def _collect_faces(labeller: Labeller, photo: Photo, file: LabelledFile) -> _FacePrediction:
    evidence = labeller.collect_evidence(photo)
    if not evidence.boxes:
        return _FacePrediction(None, 0.0, 0.0, file.weight, file.kind)
    return _FacePrediction(
        average_faces(evidence), *measure_main_face(photo, evidence), file.weight, file.kind
    )


def _split_outputs(answers: OutOfFold) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the classes of a cross-validation into labels and abstain outputs."""
    abstain = select_abstain_classes(answers.labels)
    return answers.labels[: len(answers.labels) - len(abstain)], abstain


def _check_face_model(
    ensemble: Ensemble, labels: tuple[str, ...], abstain: tuple[str, ...]
) -> tuple[str, ...]:
    """Check the face model's labels; return its outputs: the labels, then its abstain outputs."""
    face = ensemble.face
    if face is None or ensemble.image is not None:
        raise ModelError("the fusion needs a face model", "give --face the name of one")
    if tuple(map(canonical_label, face.spec.labels)) != tuple(map(canonical_label, labels)):
        raise ModelError(
            f"the face model has the labels {', '.join(face.spec.labels)}, not {', '.join(labels)}",
            "give --face a model of the same labels in the same order",
        )
    if not set(face.spec.abstain) <= set(abstain):
        raise ModelError(
            f"the face model has the outputs {', '.join(face.spec.abstain)}, and the data do not "
            "have photos of each",
            "add a folder of such photos to the data",
        )
    return face.spec.outputs


def _fit_rule(evidence: FusionEvidence, with_face: bool) -> FusionWeights:
    """Fit a rule by L-BFGS: weighted log loss, and a decay towards equal weights of both models."""
    label_limit = LABEL_LIMIT if with_face else LABEL_LIMIT_ALONE
    limits = dict.fromkeys(evidence.abstain, (-ABSTAIN_LIMIT, ABSTAIN_LIMIT))
    fitted = list(evidence.abstain)
    if with_face and Abstain.NEITHER in limits:
        limits[Abstain.NEITHER] = NEITHER_LIMITS
        fitted.remove(Abstain.NEITHER)
    count, outputs = len(evidence.labels), len(evidence.labels) + len(evidence.abstain)
    terms = _compute_terms(evidence, with_face, label_limit, limits)
    start = torch.tensor(
        [0.0] * outputs + [1.0 if with_face else 0.0, 1.0, 0.0] + [1.0] * len(fitted),
        dtype=torch.float64,
    )
    numbers = start.clone().requires_grad_(True)
    frozen = dict.fromkeys(set(evidence.abstain) - set(fitted), NEITHER_WEIGHT)

    def logits() -> Tensor:
        weights = dict(zip(fitted, numbers[outputs + 3 :], strict=True))
        columns = [numbers[outputs + 1] * column for column in terms.label.T]
        columns += [
            terms.abstain[name] * weights.get(name, frozen.get(name, 0.0))
            for name in evidence.abstain
        ]
        total = torch.stack(columns, dim=1) + numbers[:outputs] + numbers[outputs] * terms.face
        if Abstain.NO_PERSON in evidence.abstain:
            at = count + evidence.abstain.index(Abstain.NO_PERSON)
            total[:, at] = total[:, at] - numbers[outputs + 2] * terms.score
        return total

    targets = torch.from_numpy(evidence.targets)
    counts = torch.from_numpy(evidence.weights.astype(np.float64))
    search = torch.optim.LBFGS([numbers], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        wrong = (F.cross_entropy(logits(), targets, reduction="none") * counts).sum()
        whole: Tensor = wrong + RULE_DECAY / 2 * (numbers - start).square().sum()
        whole.backward()  # type: ignore[no-untyped-call]
        return whole

    search.step(loss)  # type: ignore[no-untyped-call]
    found = [round(number, 4) for number in numbers.tolist()]
    own = dict(zip(fitted, found[outputs + 3 :], strict=True))
    return FusionWeights(
        bias=tuple(found[:outputs]),
        face=found[outputs] if with_face else 0.0,
        label=found[outputs + 1],
        abstain={name: own.get(name, frozen.get(name, 0.0)) for name in evidence.abstain},
        score=found[outputs + 2] if with_face else 0.0,
        label_limit=label_limit,
        abstain_limits=limits,
    )


@dataclass(frozen=True)
class _Terms:
    """The formula's terms without their weights.

    Attributes:
        face: the face model's term, [n, K + A].
        label: the whole photo's term for each label, [n, K].
        abstain: the whole photo's term for each abstain output, [n].
        score: log-odds of the detector's score, [n].
    """

    face: Tensor
    label: Tensor
    abstain: Mapping[str, Tensor]
    score: Tensor


def _compute_terms(
    evidence: FusionEvidence,
    with_face: bool,
    label_limit: float,
    limits: Mapping[str, tuple[float, float]],
) -> _Terms:
    count = len(evidence.labels)
    photo = np.maximum(evidence.photo.astype(np.float64), MIN_PROBABILITY)
    logs = np.log(photo)
    label = logs[:, :count] - logs[:, :count].mean(axis=1, keepdims=True)
    labels = np.log(
        np.maximum(evidence.photo[:, :count].sum(axis=1, dtype=np.float64), MIN_PROBABILITY)
    )
    face = np.zeros(photo.shape)
    if with_face:
        own = np.log(np.maximum(evidence.face.astype(np.float64), MIN_PROBABILITY))
        face[:, :count] = own[:, :count]
        for n, name in enumerate(evidence.face_abstain):
            face[:, count + evidence.abstain.index(name)] = own[:, count + n]
    scores = [score_log_odds(score) if with_face else 0.0 for score in evidence.score.tolist()]
    return _Terms(
        face=torch.from_numpy(face),
        label=torch.from_numpy(label.clip(-label_limit, label_limit)),
        abstain={
            name: torch.from_numpy((logs[:, count + n] - labels).clip(*limits[name]))
            for n, name in enumerate(evidence.abstain)
        },
        score=torch.tensor(scores, dtype=torch.float64),
    )
