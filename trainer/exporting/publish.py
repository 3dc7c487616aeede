"""Puts a model file, its card and the folder's checksums in place, each in one piece."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from batch.classify import Classifier
from batch.contract.contract import load_model
from batch.contract.model import Model
from batch.contract.shipped import SUFFIX, SUMS
from batch.errors import InputError, OutputError
from batch.options import Provider


def publish(graph: bytes, card: str, output: Path) -> None:
    """Write a model file's bytes and, beside it, its card and the folder's ``SHA256SUMS``.

    The file is read back as the runner reads it, and must answer its golden samples,
    before it takes the place of an earlier one.

    Raises:
        OutputError: the name does not end in .onnx, or the folder can't be written.
        ModelError: the file does not keep the model contract.
    """
    if output.suffix != SUFFIX:
        raise OutputError(f"{output} is no name for a model", f"give one that ends in {SUFFIX}")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        partial = _write_partial(output, graph)
        try:
            Classifier(load_model(partial), Provider.CPU, batch_size=1)
            partial.replace(output)
        finally:
            partial.unlink(missing_ok=True)
        _write_partial(output.with_suffix(".md"), card.encode()).replace(output.with_suffix(".md"))
        sums = output.parent / SUMS
        _write_partial(sums, checksums(output.parent).encode()).replace(sums)
    except OSError as error:
        raise OutputError(
            f"{output} can't be written ({error.strerror})", "choose another --output"
        ) from error


def card_of(model: Model) -> str:
    """Read the card that lies beside a model file.

    Raises:
        InputError: there is none, or it is of another file.
    """
    path = model.path.with_suffix(".md")
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    if model.digest not in card:
        raise InputError(
            f"{path} is not the card of {model.path}", "export the model again, with its card"
        )
    return card


def checksums(folder: Path) -> str:
    """List the models of a folder as ``sha256sum`` does: digest, two spaces, name."""
    models = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.name)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in models
    )


def _write_partial(target: Path, data: bytes) -> Path:
    partial = target.with_name(f".{target.name}.partial")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return partial
