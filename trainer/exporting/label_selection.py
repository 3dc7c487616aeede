"""Selects and joins the trained classes that become outputs of an exported model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from batch.errors import UsageError
from batch.records import Abstain
from trainer.datasets.dataset import (
    Groups,
    Split,
    Votes,
    build_membership_matrix,
    keep_agreed,
    merge_classes,
    select_abstain_classes,
    sort_classes,
)


@dataclass(frozen=True)
class LabelSelection:
    """How an exported model's outputs are composed of classes.

    Attributes:
        labels: the model's labels.
        abstain: its abstain outputs.
        columns: the classes in use.
        groups: int64 [classes], the output of each class, -1 for none.
        joined: float32 [outputs, columns] of 0 and 1; an output is the sum of its columns'
            probabilities. None if every column is an output.
    """

    labels: tuple[str, ...]
    abstain: tuple[str, ...]
    columns: tuple[int, ...]
    groups: Groups
    joined: Votes | None

    @property
    def outputs(self) -> tuple[str, ...]:
        """All outputs: the labels, then the abstain outputs."""
        return (*self.labels, *self.abstain)

    def samples(self, part: Split) -> Split:
        """Keep the samples of the classes in use, with the outputs as their classes."""
        return merge_classes(part, self.groups, len(self.outputs))

    def select_agreed(self, part: Split) -> Split:
        """Like ``samples``, without the samples on whose class people disagreed."""
        return keep_agreed(self.samples(part))


def select_labels(
    wanted: Mapping[str, str] | None, rest: Abstain | None, classes: tuple[str, ...]
) -> LabelSelection:
    """Select labels of a trained network; its abstain classes are always kept.

    Args:
        wanted: maps each label of the model to a label of the training; None for all, unchanged.
        rest: the abstain output of the other labels; None to drop them.
        classes: the network's classes.

    Raises:
        UsageError: the training has no such label, a label is used twice, or there are fewer than
            two.
    """
    abstain = select_abstain_classes(classes)
    known = tuple(name for name in classes if name not in abstain)
    names = dict(wanted or {name: name for name in known})
    unknown = [source for source in names.values() if source not in known]
    if unknown:
        raise UsageError(
            f"the training has no label {', '.join(unknown)}", f"choose from {', '.join(known)}"
        )
    if len(names) < 2 or len(set(names.values())) < len(names):
        raise UsageError("a model needs two or more different labels", "change --labels")
    reserved = select_abstain_classes(tuple(names))
    if reserved:
        raise UsageError(
            f"{reserved[0]} is the name of an abstain output, not of a label", "choose another name"
        )
    left = [name for name in known if name not in names.values()]
    if rest and not left:
        raise UsageError("--rest needs labels that are not in --labels", "drop --rest")
    outputs = order_outputs(tuple(names), (*abstain, *([str(rest)] if rest else [])))
    sources = {source: name for name, source in names.items()}
    groups = np.array(
        [
            outputs.index(name)
            if name in abstain
            else outputs.index(sources[name])
            if name in sources
            else outputs.index(str(rest))
            if rest
            else -1
            for name in classes
        ],
        dtype=np.int64,
    )
    selected = np.flatnonzero(groups >= 0)
    columns = selected[np.argsort(groups[selected], kind="stable")]
    joined = (
        build_membership_matrix(groups[columns], len(outputs))
        if len(columns) > len(outputs)
        else None
    )
    return LabelSelection(
        labels=tuple(names),
        abstain=outputs[len(names) :],
        columns=tuple(columns.tolist()),
        groups=groups,
        joined=joined,
    )


def order_outputs(labels: tuple[str, ...], abstain: tuple[str, ...]) -> tuple[str, ...]:
    """Append the abstain outputs, each once, in the order of the contract."""
    return (*labels, *sort_classes(abstain))
