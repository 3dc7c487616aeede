"""Publishes a model file with its card and the folder's checksums, each atomically."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.errors import InputError, OutputError
from batch.files.drafts import draft_pattern, draft_stem, open_draft, remove_abandoned
from batch.models.contract import load_model
from batch.models.model import Model
from batch.models.shipped import CHECKSUMS_FILE, SUFFIX
from batch.options import Provider
from batch.vision.classify import Classifier
from trainer.exporting.card_text import USE_HEADING

# Part of the file name of a model that has not passed the gate.
CANDIDATE_SUFFIX = ".candidate"


def publish_model(graph: bytes, card: str, output: Path) -> None:
    """Write a model file, its card and the folder's ``SHA256SUMS``.

    Before it replaces an earlier file, the model is loaded as the runner does and must reproduce
    its golden answers. An existing card or checksum file is replaced only if its content shows that
    it is one.

    Raises:
        OutputError: the name does not end in .onnx, the folder can't be written, or a foreign file
            has the name of the card or of the checksums.
        ModelError: the file breaks the model contract.
    """
    if output.suffix != SUFFIX:
        raise OutputError(f"{output} is not a model's name", f"give a name that ends in {SUFFIX}")
    beside, sums = output.with_suffix(".md"), output.parent / CHECKSUMS_FILE
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        _check_card(beside, output)
        _check_sums(sums)
        with _open_model_draft(output, graph) as draft:
            Classifier(load_model(draft), Provider.CPU, batch_size=1)
            draft.replace(output)
        with _open_model_draft(beside, card.encode()) as draft:
            draft.replace(beside)
        with _open_model_draft(sums, list_checksums(output.parent).encode()) as draft:
            draft.replace(sums)
    except OSError as error:
        raise OutputError(
            f"{output} can't be written ({error.strerror})", "choose another --output"
        ) from error


def candidate_path(path: Path) -> Path:
    """Return the place of a candidate beside the model that it may replace."""
    return path.with_name(f"{path.stem}{CANDIDATE_SUFFIX}{SUFFIX}")


def remove_model(path: Path) -> None:
    """Remove a model file and its card, and update the folder's ``SHA256SUMS``.

    Raises:
        OutputError: the folder can't be written.
    """
    sums = path.parent / CHECKSUMS_FILE
    try:
        _check_sums(sums)
        path.with_suffix(".md").unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        with _open_model_draft(sums, list_checksums(path.parent).encode()) as draft:
            draft.replace(sums)
    except OSError as error:
        raise OutputError(f"{path} can't be removed ({error.strerror})", "remove it") from error


def read_card(model: Model) -> str:
    """Read the card beside a model file.

    Raises:
        InputError: it is missing, or describes another file.
    """
    path = model.path.with_suffix(".md")
    card = path.read_text(encoding="utf-8") if path.is_file() else ""
    if model.digest not in card:
        raise InputError(
            f"{path} is not the card of {model.path}", "export the model again, with its card"
        )
    return card


def list_checksums(folder: Path) -> str:
    """List the checksums of a folder's models in the format of ``sha256sum``."""
    models = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.name)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in models
    )


def _check_card(path: Path, model: Path) -> None:
    """Require that a file is a card, by its text or by the digest of the model beside it.

    Raises:
        OutputError: it is a foreign file.
    """
    text = path.read_text("utf-8", "replace") if path.exists() else None
    if text is None or f"## {USE_HEADING}\n" in text:
        return
    if not model.exists() or hashlib.sha256(model.read_bytes()).hexdigest() not in text:
        raise _foreign_file(path)


def _check_sums(path: Path) -> None:
    """Require that a file contains only checksums of models.

    Raises:
        OutputError: it is a foreign file.
    """
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    if not all(re.fullmatch(rf"[0-9a-f]{{64}}  .*\{SUFFIX}", line) for line in lines):
        raise _foreign_file(path)


def _foreign_file(path: Path) -> OutputError:
    return OutputError(
        f"{path} was not written by the trainer and would be replaced",
        "move it away, or choose another --output",
    )


@contextmanager
def _open_model_draft(target: Path, data: bytes) -> Iterator[Path]:
    """Create a draft with this content beside ``target``; the block may rename it."""
    folder, stem = target.parent, draft_stem(target)
    remove_abandoned(folder, draft_pattern(stem))
    path, stream = open_draft(folder, stem)
    try:
        with stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            yield path
    finally:
        path.unlink(missing_ok=True)
