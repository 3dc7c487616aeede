"""Puts a model file, its card and the folder's checksums in place, each in one piece."""

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
from trainer.exporting.model_card import USE_HEADING


def publish_model(graph: bytes, card: str, output: Path) -> None:
    """Write a model file's bytes and, beside it, its card and the folder's ``SHA256SUMS``.

    The file is read back as the runner reads it, and must answer its golden samples,
    before it takes the place of an earlier one. A card is replaced if it is one, and the checksums
    if they are of models alone: these two are named by no user.

    Raises:
        OutputError: the name does not end in .onnx, the folder can't be written, or another's file
            is in the place of the card or of the checksums.
        ModelError: the file does not keep the model contract.
    """
    if output.suffix != SUFFIX:
        raise OutputError(f"{output} is no name for a model", f"give one that ends in {SUFFIX}")
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


def read_card(model: Model) -> str:
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


def list_checksums(folder: Path) -> str:
    """List the models of a folder as ``sha256sum`` does: digest, two spaces, name."""
    models = sorted(folder.glob(f"*{SUFFIX}"), key=lambda path: path.name)
    return "".join(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in models
    )


def _check_card(path: Path, model: Path) -> None:
    """Make sure that a file is a card: of the model beside it, by its digest, or by its form.

    Raises:
        OutputError: it is another's.
    """
    text = path.read_text("utf-8", "replace") if path.exists() else None
    if text is None or f"## {USE_HEADING}\n" in text:
        return
    if not model.exists() or hashlib.sha256(model.read_bytes()).hexdigest() not in text:
        raise _foreign_file(path)


def _check_sums(path: Path) -> None:
    """Make sure that a file has the checksums of models and nothing else.

    Raises:
        OutputError: it is another's.
    """
    lines = path.read_text("utf-8", "replace").splitlines() if path.exists() else []
    if not all(re.fullmatch(rf"[0-9a-f]{{64}}  .*\{SUFFIX}", line) for line in lines):
        raise _foreign_file(path)


def _foreign_file(path: Path) -> OutputError:
    return OutputError(
        f"{path} would be replaced, and the trainer did not write it",
        "move it away, or choose another --output",
    )


@contextmanager
def _open_model_draft(target: Path, data: bytes) -> Iterator[Path]:
    """Make a file with this content beside ``target``, which the block may rename.

    It proves itself as ``batch.files.drafts`` says.
    """
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
