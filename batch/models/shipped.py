"""Shipped models and a user's own models, found by name or path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from batch.errors import ModelError, UsageError
from batch.os_errors import describe_failed_access
from batch.path_text import path_text

CHECKSUMS_FILE = "SHA256SUMS"
SUFFIX = ".onnx"
# Environment variable that names folders of models; the command line reads it.
MODELS_VARIABLE = "BATCH_LABEL_MODELS"
NAME_SEPARATOR = "+"


def find_models_folder() -> Path:
    """Find the folder of shipped models: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped"
    return installed if installed.is_dir() else package.parent / "models"


def list_shipped_models() -> dict[str, Path]:
    """List the shipped models: paths by name."""
    return {path.stem: path for path in sorted(find_models_folder().glob(f"*{SUFFIX}"))}


def find_models(names: str) -> list[Path]:
    """Find one model, or two whose names or paths are joined by ``+``.

    Raises:
        UsageError, ModelError: as ``find_model`` does.
    """
    # Not Path.exists: it raises if the current folder can't be read.
    if names in list_shipped_models() or os.path.exists(names):  # noqa: PTH110
        return [find_model(names)]
    return [find_model(name) for name in names.split(NAME_SEPARATOR)]


def find_model(name: str) -> Path:
    """Find a model by the name of a shipped model or by its path.

    Raises:
        UsageError: there is no such name or file.
        ModelError: a shipped model's file was changed.
    """
    shipped = list_shipped_models().get(name)
    if shipped is not None:
        _verify_checksum(shipped)
        return shipped
    path = Path(name)
    if os.path.exists(path):  # noqa: PTH110
        return path
    raise make_unknown_model_error(name, list_shipped_models())


@dataclass(frozen=True)
class SearchPath:
    """The folders of a user's own models.

    Attributes:
        named: folders that the user has named, searched first and in this order; each must be
            readable.
        default: the user's default folder, searched last; None if the user has no home folder. It
            is ignored if it can't be read: with `sudo -u`, HOME may be another user's.
    """

    named: tuple[Path, ...] = ()
    default: Path | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders, in the order of the search."""
        return (*self.named, *((self.default,) if self.default else ()))


@dataclass(frozen=True)
class OwnModel:
    """A model file in a user's folders.

    Attributes:
        name: its name for ``--model``.
        path: the file.
        hidden_by: what has the same name and is used instead: a shipped model, or a file in a
            folder that is searched before; None if the name means this file.
    """

    name: str
    path: Path
    hidden_by: Path | None = None


def find_own_models(search: SearchPath, is_strict: bool = True) -> list[OwnModel]:
    """Find all models of a user, in the order of the search.

    Args:
        search: the folders.
        is_strict: whether a named folder that can't be read is an error.

    Raises:
        UsageError: a folder that the user has named can't be read.
    """
    first = list_shipped_models()
    found: list[OwnModel] = []
    for folder in dict.fromkeys(search.folders):
        for path in _list_folder(folder, is_strict and folder in search.named):
            found.append(OwnModel(path.stem, path, first.get(path.stem)))
            first.setdefault(path.stem, path)
    return found


def _list_folder(folder: Path, is_required: bool) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - glob checks more
    except OSError as error:
        if not is_required:
            return []
        what = describe_failed_access(f"folder {path_text(folder)}", "read", error, folder)
        raise UsageError(
            f"{what}, but it may hold models", f"correct {MODELS_VARIABLE}, which names the folder"
        ) from error
    return [folder / name for name in names if name.endswith(SUFFIX)]


def list_own_models(search: SearchPath) -> dict[str, Path]:
    """List the models of a user whose name means them: paths by name.

    Raises:
        UsageError: a folder that the user has named can't be read.
    """
    return {model.name: model.path for model in find_own_models(search) if not model.hidden_by}


def list_hidden_models(names: str, search: SearchPath) -> list[OwnModel]:
    """List the files that have a name in ``--model``, although it means another file."""
    wanted = {names, *names.split(NAME_SEPARATOR)}
    found = find_own_models(search, is_strict=False)
    return [model for model in found if model.hidden_by and model.name in wanted]


def resolve_models(names: str, search: SearchPath) -> str:
    """Replace the names of a user's own models by paths, for ``find_models``.

    Raises:
        UsageError: a name is unknown, or a folder that the user has named can't be read.
    """
    shipped = list_shipped_models()
    # The folders need not be readable, or even exist, for shipped models.
    if set(names.split(NAME_SEPARATOR)) <= set(shipped):
        return names
    own = list_own_models(search)

    def resolve(name: str) -> str:
        if name in shipped:
            return name
        if name in own:
            return str(own[name])
        if os.path.exists(name):  # noqa: PTH110
            return name
        raise make_unknown_model_error(name, [*shipped, *own])

    if names in own or os.path.exists(names):  # noqa: PTH110
        return resolve(names)
    return NAME_SEPARATOR.join(map(resolve, names.split(NAME_SEPARATOR)))


def make_unknown_model_error(name: str, known: Iterable[str]) -> UsageError:
    """Make the error for an unknown model name, with the closest known one."""
    known = list(known)
    near = get_close_matches(name.lower(), known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    names = ", ".join(known) or "(none installed)"
    return UsageError(
        f"there is no model {name}{meant}",
        f"give the path of an .onnx file or one of these names: {names}",
    )


def _verify_checksum(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = path.parent / CHECKSUMS_FILE
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    if f"{digest}  {path.name}" not in lines:
        raise ModelError(
            f"the shipped model {path} is damaged: its SHA-256 is not the one in {CHECKSUMS_FILE}",
            "install batch-label again",
        )
