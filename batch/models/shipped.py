"""Shipped models and a user's own models, found by name or path."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from batch.errors import ModelError, UsageError

CHECKSUMS_FILE = "SHA256SUMS"
SUFFIX = ".onnx"
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


def list_own_models(folder: Path | None) -> dict[str, Path]:
    """List a user's own models in a folder, except those named like shipped ones: paths by name.

    The result is empty if the folder can't be read: with `sudo -u`, HOME may be another user's.
    """
    try:
        files = sorted(os.listdir(folder)) if folder else []  # noqa: PTH208 - glob checks more
    except OSError:
        return {}
    found = {Path(name).stem: Path(folder or "", name) for name in files if name.endswith(SUFFIX)}
    return {name: path for name, path in found.items() if name not in list_shipped_models()}


def resolve_models(names: str, folder: Path | None) -> str:
    """Replace the names of a user's own models by paths, for ``find_models``.

    Raises:
        UsageError: a name is unknown.
    """
    own = list_own_models(folder)
    shipped = list_shipped_models()

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
