from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from batch.models.fusion import pack_fusion, unpack_fusion
from trainer.evaluation.metrics import Probabilities, Targets
from trainer.training.fit_fusion_rules import (
    ALONE_SCORE,
    LABEL_LIMIT,
    FusionEvidence,
    choose_fusion_thresholds,
    cross_fit,
    fit_fusion,
    predict_fused,
    set_thresholds,
)

LABELS, ABSTAIN = ("happy", "sad"), ("neither", "no_person")


def softmax(logits: np.ndarray) -> Probabilities:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Probabilities = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares


def leaning(targets: Targets, outputs: int, strength: float, seed: int) -> Probabilities:
    """Probabilities of a witness who leans towards the truth, with noise."""
    chance = np.random.default_rng(seed)
    truth = np.eye(max(outputs, 4))[targets][:, :outputs]
    return softmax(strength * truth + chance.normal(0, 1, (len(targets), outputs)))


def drawn_evidence(count: int, seed: int) -> FusionEvidence:
    """Photos of four kinds; without a person there is a face in one of ten, which scores low."""
    chance = np.random.default_rng(seed)
    targets = chance.integers(0, 4, count)
    has_face = chance.random(count) < np.where(targets == 3, 0.1, 0.7)
    face = leaning(targets, 3, 2.0, seed + 1)
    face[~has_face] = np.nan
    score = np.where(
        targets == 3, chance.uniform(0.6, 0.8, count), chance.uniform(0.7, 0.95, count)
    )
    return FusionEvidence(
        labels=LABELS,
        abstain=ABSTAIN,
        face_abstain=("neither",),
        face=face,
        score=score,
        share=chance.uniform(0.1, 1.0, count),
        photo=leaning(targets, 4, 2.0, seed + 2),
        targets=targets,
        folds=np.arange(count) % 5,
        weights=np.ones(count, dtype=np.float32),
        kinds=np.full(count, "photo"),
    )


def test_two_witnesses_are_better_than_one() -> None:
    evidence = drawn_evidence(3000, 2)
    answers = cross_fit("face", evidence, 0.2).probabilities
    faces = evidence.has_face & (evidence.score < ALONE_SCORE)
    right = (answers.argmax(axis=1) == evidence.targets)[faces].mean()
    assert right > (evidence.photo.argmax(axis=1) == evidence.targets)[faces].mean() + 0.05


def test_a_fold_is_answered_by_nothing_that_was_fitted_to_it() -> None:
    evidence = drawn_evidence(400, 3)
    held = evidence.folds == 0
    turned = np.where(held, (evidence.targets + 1) % 4, evidence.targets)
    one, other = (
        cross_fit("face", each, 0.2) for each in (evidence, replace(evidence, targets=turned))
    )
    assert one.fusions[0] == other.fusions[0]
    assert np.array_equal(one.probabilities[held], other.probabilities[held])
    assert one.fusions[1] != other.fusions[1]


def test_the_rule_fitted_is_the_rule_of_least_loss() -> None:
    evidence = drawn_evidence(2000, 4)
    fusion = fit_fusion("face", evidence)
    mixed = evidence.take(evidence.has_face)
    never_alone = replace(fusion, alone_score=1.0)

    def loss(bias: float, face: float) -> float:
        rule = never_alone.both
        moved = replace(rule, bias=(rule.bias[0] + bias, *rule.bias[1:]), face=rule.face + face)
        answers = predict_fused(replace(never_alone, both=moved), mixed)
        return float(-np.log(answers[np.arange(len(answers)), mixed.targets]).sum())

    least = loss(0, 0)
    assert all(loss(*move) > least for move in ((0.2, 0), (-0.2, 0), (0, 0.1), (0, -0.1)))


def test_a_doubtful_photo_weighs_less() -> None:
    evidence = drawn_evidence(600, 5)
    wrong = np.arange(600) % 3 == 0
    targets = np.where(wrong, (evidence.targets + 1) % 4, evidence.targets)
    doubted = replace(
        evidence, targets=targets, weights=np.where(wrong, 0.01, 1).astype(np.float32)
    )
    clean = evidence.take(~wrong)
    believed = replace(evidence, targets=targets)
    bias = [fit_fusion("face", each).both.bias for each in (clean, doubted, believed)]
    near, far = (np.abs(np.subtract(bias[0], each)).max() for each in bias[1:])
    assert near < 0.1 < far


def test_thresholds_are_chosen_on_photos_of_weight_one_alone() -> None:
    evidence = drawn_evidence(600, 6)
    fusion = fit_fusion("face", evidence)
    wrong = np.arange(600) % 2 == 0
    targets = np.where(wrong, (evidence.targets + 1) % 4, evidence.targets)
    doubted = replace(evidence, targets=targets, weights=np.where(wrong, 0.5, 1).astype(np.float32))
    by_doubted, by_clean, by_all = (
        choose_fusion_thresholds(fusion, each, 0.2)
        for each in (doubted, evidence.take(~wrong), replace(evidence, targets=targets))
    )
    assert (by_doubted.answered, by_doubted.wrong) == (by_clean.answered, by_clean.wrong)
    assert by_doubted.unsure_below == by_clean.unsure_below
    assert by_all.answered != by_clean.answered


def test_the_photo_never_says_neither_beside_a_face() -> None:
    fusion = fit_fusion("face", drawn_evidence(2000, 7))
    face = np.asarray([0.3, 0.6, 0.1], dtype=np.float32)
    photos = ([0.1, 0.1, 0.796, 0.004], [0.2, 0.2, 0.592, 0.008])
    says = [fusion.fuse(face, 0.7, np.asarray(photo, dtype=np.float32)) for photo in photos]
    assert says[0][2] / says[0][0] == pytest.approx(says[1][2] / says[1][0], rel=1e-3)


def test_what_the_photo_says_for_a_label_is_bounded() -> None:
    fusion = fit_fusion("face", drawn_evidence(2000, 8))
    face = np.asarray([0.5, 0.4, 0.1], dtype=np.float32)
    odds = []
    for sad in (0.9, 0.97, 0.99):
        photo = np.asarray([0.999 - sad, sad, 0.0005, 0.0005], dtype=np.float32)
        says = fusion.fuse(face, 0.7, photo)
        odds.append(np.log(says[1] / says[0]))
    bound = 2 * LABEL_LIMIT * fusion.both.label
    alone = np.log(0.4 / 0.5) * fusion.both.face + fusion.both.bias[1] - fusion.both.bias[0]
    assert odds[1] == pytest.approx(odds[2]) == pytest.approx(alone + bound, abs=1e-3)
    assert odds[0] < odds[1]


def test_data_without_an_abstain_class_make_a_rule_without_it() -> None:
    evidence = drawn_evidence(400, 9)
    labelled = evidence.take(evidence.targets < 2)
    photo = labelled.photo[:, :2] / labelled.photo[:, :2].sum(axis=1, keepdims=True)
    face = labelled.face[:, :2] / labelled.face[:, :2].sum(axis=1, keepdims=True)
    two = replace(labelled, abstain=(), face_abstain=(), photo=photo, face=face)
    fusion = fit_fusion("face", two)
    assert (len(fusion.both.bias), fusion.both.abstain, fusion.abstain_from) == (2, {}, {})
    assert predict_fused(fusion, two).shape == (len(two.targets), 2)


def test_the_fitted_record_survives_the_model_file() -> None:
    evidence = drawn_evidence(300, 10)
    fusion = fit_fusion("face", evidence)
    fusion = set_thresholds(fusion, choose_fusion_thresholds(fusion, evidence, 0.3))
    assert unpack_fusion(pack_fusion(fusion)) == fusion
