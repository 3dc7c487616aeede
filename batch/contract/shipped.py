"""The models that come with the program."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from batch.errors import ModelError

SUMS = "SHA256SUMS"
SUFFIX = ".onnx"
JOIN = "+"


def models_folder() -> Path:
    """Find the shipped models: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "models"
    return installed if installed.is_dir() else package.parent / "models"


def shipped_models() -> dict[str, Path]:
    """Paths of the shipped models by name."""
    return {path.stem: path for path in sorted(models_folder().glob(f"*{SUFFIX}"))}


def find_models(names: str) -> list[Path]:
    """Find one model, or the two whose names or paths are joined by ``+``.

    Raises:
        ModelError: as ``find_model`` does.
    """
    # Not Path.exists, which raises where the current folder may not be read.
    if names in shipped_models() or os.path.exists(names):  # noqa: PTH110
        return [find_model(names)]
    return [find_model(name) for name in names.split(JOIN)]


def find_model(name: str) -> Path:
    """Find a model by a shipped model's name or by its path.

    Raises:
        ModelError: there is neither, or a shipped file is not what was shipped.
    """
    shipped = shipped_models().get(name)
    if shipped is not None:
        _verify(shipped)
        return shipped
    path = Path(name)
    if os.path.exists(path):  # noqa: PTH110
        return path
    names = ", ".join(shipped_models()) or "none is shipped"
    raise ModelError(
        f"there is no model {name}", f"give the path of an .onnx file or a name of these: {names}"
    )


def _verify(path: Path) -> None:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    sums = path.parent / SUMS
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    if f"{digest}  {path.name}" not in lines:
        raise ModelError(
            f"the shipped model {path} is damaged: its SHA-256 is not the one in {SUMS}",
            "install batch-label again",
        )
