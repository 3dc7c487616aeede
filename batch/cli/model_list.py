"""The list of ``model --list``: the models that ``--model`` finds by name, as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch.errors import ModelError
from batch.models.shipped import SearchPath, find_model, find_own_models, list_shipped_models
from batch.path_text import path_text

if TYPE_CHECKING:
    from batch.models.model import ModelSpec

MAX_LABELS_CHARS = 60  # in the text form
REGION_NAMES = {"face": "faces", "image": "whole photos"}


@dataclass(frozen=True)
class ListedModel:
    """A model file with a name for ``--model``.

    Attributes:
        name: the name.
        path: the file.
        is_shipped: whether it is shipped, not a user's own.
        spec: its metadata; None if it breaks the contract.
        problem: how it breaks the contract; "" if it does not.
        hidden_by: the file that the name means instead; None if it means this one.
    """

    name: str
    path: Path
    is_shipped: bool
    spec: ModelSpec | None
    problem: str
    hidden_by: Path | None = None

    def to_record(self) -> dict[str, Any]:
        """Convert it to a JSON object."""
        spec = self.spec
        return {
            "name": self.name,
            "file": path_text(self.path),
            "shipped": self.is_shipped,
            "labels": None if spec is None else list(spec.labels),
            "abstain": None if spec is None else list(spec.abstain),
            "region": None if spec is None else spec.region.value,
            "problem": self.problem or None,
            "hidden_by": None if self.hidden_by is None else path_text(self.hidden_by),
        }

    def describe(self) -> tuple[str, str, str, str]:
        """Describe it in the columns of the text form; metadata are not escaped."""
        if self.spec is None:
            return self.name, "broken", self.problem, path_text(self.path)
        labels = ", ".join(self.spec.outputs)
        if len(labels) > MAX_LABELS_CHARS:
            labels = f"{labels[: MAX_LABELS_CHARS - 3]}..."
        return self.name, REGION_NAMES[self.spec.region], labels, path_text(self.path)


def list_models(search: SearchPath) -> list[ListedModel]:
    """List the shipped models, then the user's own ones, in the order of the search.

    Raises:
        UsageError: a folder that the user has named can't be read.
    """
    shipped = [_load(name, path, is_shipped=True) for name, path in list_shipped_models().items()]
    own = [
        _load(model.name, model.path, is_shipped=False, hidden_by=model.hidden_by)
        for model in find_own_models(search)
    ]
    return [*shipped, *own]


def _load(name: str, path: Path, *, is_shipped: bool, hidden_by: Path | None = None) -> ListedModel:
    from batch.models.contract import load_model

    try:
        spec = load_model(find_model(name) if is_shipped else path).spec
    except ModelError as error:
        return ListedModel(name, path, is_shipped, None, error.problem, hidden_by)
    return ListedModel(name, path, is_shipped, spec, "", hidden_by)


def format_list(models: Sequence[ListedModel], search: SearchPath, as_json: bool) -> list[str]:
    """Format the list as lines of text, or as one JSON object."""
    if as_json:
        folders = [path_text(folder) for folder in search.folders]
        record = {"models": [model.to_record() for model in models], "folders": folders}
        return [json.dumps(record)]
    return list(_format_text(models, search))


def _format_text(models: Sequence[ListedModel], search: SearchPath) -> Iterator[str]:
    rows = [model.describe() for model in models]
    width = max((len(row[0]) for row in rows), default=0)
    for model, (name, region, labels, file) in zip(models, rows, strict=True):
        yield f"{name:<{width}}  {region:<12}  {labels}"
        yield f"{'':<{width}}  {file}"
        if model.hidden_by is not None:
            yield f"{'':<{width}}  not used: the name means {path_text(model.hidden_by)}"
    folders = ", ".join(map(path_text, search.folders)) or "none"
    yield f"Folders of your own models, in the order of the search: {folders}"
