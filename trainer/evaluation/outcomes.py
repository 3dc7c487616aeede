"""What becomes of each kind of labelled photo, as tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from batch.records import Abstain, Answer, Status
from trainer.evaluation.bootstrap import Estimate, of_means
from trainer.evaluation.fusion import Evidence
from trainer.evaluation.tables import interval

COLUMNS = ("photos", "ok", "right", *(s.value for s in (Status.UNSURE, *Abstain)))


def kinds_table(evidence: Evidence, answers: Sequence[Answer]) -> str:
    """Lay out, for each true class and kind, what share of its photos came out how.

    ``right`` is the share that is ``ok`` with the true label. The last line is the share of right
    labels among all that are ``ok``, over photos of weight 1, with a 95 % bootstrap interval.
    """
    classes = (*evidence.labels, *evidence.abstain)
    rows = []
    for n, name in enumerate(classes):
        for kind in sorted(set(evidence.kinds[evidence.targets == n])):
            chosen = _indices((evidence.targets == n) & (evidence.kinds == kind))
            rows.append((name, kind, _shares([answers[i] for i in chosen], name)))
    first = max(len(f"{name}  {kind}") for name, kind, _ in rows) + 2
    lines = [" " * first + "".join(f"{column:>11}" for column in COLUMNS)]
    for name, kind, (count, *shares) in rows:
        cells = f"{count:>11,.0f}" + "".join(f"{share:>11.1%}" for share in shares)
        lines.append(f"{f'{name}  {kind}':<{first}}{cells}")
    lines.append(f"\nright among ok  {interval(selective_accuracy(evidence, answers))}")
    return "\n".join(lines)


def always_table(evidence: Evidence, answers: Sequence[Answer]) -> str:
    """Lay out the share of right labels by kind if every photo is answered."""
    labelled = evidence.targets < len(evidence.labels)
    lines = []
    for kind in sorted(set(evidence.kinds[labelled])):
        chosen = _indices(labelled & (evidence.kinds == kind))
        right = [answers[i].label == evidence.labels[evidence.targets[i]] for i in chosen]
        estimate = of_means(lambda means: means[..., 0], np.asarray(right, dtype=float)[:, None])
        lines.append(f"always answered, {kind} ({len(chosen):,})  {interval(estimate)}")
    return "\n".join(lines)


def selective_accuracy(evidence: Evidence, answers: Sequence[Answer]) -> Estimate:
    """Share of right labels among those that count, over photos of weight 1."""
    ok = np.asarray([answer.status is Status.OK for answer in answers]) & (evidence.weights == 1)
    names = (*evidence.labels, *evidence.abstain)
    right = [answers[i].label == names[evidence.targets[i]] for i in _indices(ok)]
    return of_means(lambda means: means[..., 0], np.asarray(right, dtype=float)[:, None])


def _indices(chosen: npt.NDArray[np.bool_]) -> list[int]:
    return [int(i) for i in np.flatnonzero(chosen)]


def _shares(answers: Sequence[Answer], name: str) -> tuple[float, ...]:
    count = len(answers)
    statuses = [answer.status for answer in answers]
    right = sum(a.status is Status.OK and a.label == name for a in answers)
    counts = (
        statuses.count(Status.OK),
        right,
        statuses.count(Status.UNSURE),
        *(statuses.count(Status(reason.value)) for reason in Abstain),
    )
    return (count, *(each / count for each in counts))
