"""Folders of training runs: which one a training uses, and which one is the newest.

A run folder holds one training. Another training into the same ``--run`` folder, on other data or
with other settings, goes to a folder beside it: ``mine-2`` beside ``mine``, then ``mine-3``.
``latest.txt`` in the first folder names the newest one, so that an export of ``mine`` takes it.
"""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from batch.errors import InputError, LockedError
from batch.files.lock import hold_lock
from batch.os_errors import translate_write_errors
from trainer.datasets.dataset import Dataset
from trainer.datasets.sources import SOURCE_FILE
from trainer.training.checkpoint import CHECKPOINT_FILE, read_progress
from trainer.training.config import Config

LATEST_FILE = "latest.txt"
LEARN_FROM_ALL = "all"

logger = logging.getLogger(__name__)


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Let only one training at a time use a run folder and the numbered ones beside it.

    Raises:
        LockedError: another training does.
        OutputError: the folder can't be made, or the block raised an ``OSError``.
    """
    remedy = "choose another --run"
    with translate_write_errors(f"run folder {run}", remedy), ExitStack() as stack:
        run.mkdir(parents=True, exist_ok=True)
        try:
            stack.enter_context(hold_lock(str(run / CHECKPOINT_FILE), noun="training run"))
        except LockedError as error:
            raise LockedError(
                f"another training is using {run}", f"wait for it to end, or {remedy}"
            ) from error
        yield


def choose_run(run: Path, data: Dataset, config: Config) -> Path:
    """Choose the folder of a training, log the choice, and note the folder as the newest.

    In this order: the folder of a training on the same data with the same settings, which is
    resumed or is finished; ``run``, if it has no training yet; a new folder beside it. A training
    on all samples never moves, because its cross-validation is in the same folder.

    Args:
        run: the folder that the user gave.
        data: the data set.
        config: the settings.

    A folder beside ``run`` whose checkpoint can't be read is skipped with a warning.

    Raises:
        InputError: the checkpoint of ``run`` can't be read.
    """
    run = _give_name(run)
    runs = _list_runs(run)
    if run not in runs:
        logger.info("%s: new training", run)
    if run not in runs or config.learn_from == LEARN_FROM_ALL:
        _note_latest(run, run)
        return run
    progress = {}
    for folder in runs:
        try:
            progress[folder] = read_progress(folder, data, config)
        except InputError as error:
            if folder == run:
                raise
            logger.warning("WARNING: %s is skipped: %s", folder, error.problem)
    for folder, found in progress.items():
        if found.differences:
            continue
        _note_latest(run, folder)
        if found.is_finished:
            logger.info(
                "%s: finished on these data with these settings (%d epochs), not trained again",
                folder,
                found.epochs,
            )
        else:
            logger.info("%s: resumes after epoch %d of %d", folder, found.epochs, config.epochs)
        return folder
    numbered = (run.with_name(f"{run.name}-{number}") for number in itertools.count(2))
    new = next(folder for folder in numbered if not folder.exists() or _is_abandoned(folder))
    latest = find_latest_run(run)
    before = latest if latest in progress else list(progress)[-1]
    _note_latest(run, new)
    logger.info(
        "%s: new training, because %s has %s; that one is kept",
        new,
        before,
        " and ".join(progress[before].differences),
    )
    return new


def find_latest_run(run: Path) -> Path:
    """Return the folder of the newest training into ``run``: itself, or a numbered one beside it.

    Raises:
        InputError: the note of the newest folder can't be read or names none.
    """
    run = _give_name(run)
    note = run / LATEST_FILE
    try:
        name = note.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return run
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{note} can't be read ({error})", f"remove it to use {run}") from error
    latest = run.with_name(name) if _matches(run, name) else None
    if latest is None or not latest.is_dir():
        raise InputError(f"{note} names {name!r}, which is not there", f"remove it to use {run}")
    return latest


def _list_runs(run: Path) -> list[Path]:
    """List the folders of trainings into ``run``, in the order of their numbers."""
    if not run.parent.is_dir():
        return []
    named = [p for p in run.parent.iterdir() if p.name == run.name or _matches(run, p.name)]
    folders = [run.with_name(path.name) for path in named if (path / CHECKPOINT_FILE).is_file()]
    return sorted(folders, key=lambda folder: _read_number(run, folder))


def _matches(run: Path, name: str) -> bool:
    return re.fullmatch(rf"{re.escape(run.name)}-[1-9][0-9]{{0,8}}", name) is not None


def _read_number(run: Path, folder: Path) -> int:
    return 1 if folder.name == run.name else int(folder.name.removeprefix(f"{run.name}-"))


def _is_abandoned(folder: Path) -> bool:
    """Tell whether a folder is that of a training that was killed in its first epoch."""
    if not folder.is_dir() or (folder / CHECKPOINT_FILE).exists():
        return False
    return (folder / SOURCE_FILE).is_file() or not any(folder.iterdir())


def _give_name(run: Path) -> Path:
    """Resolve a path without a name of its own, such as ``.``."""
    return run if run.name not in ("", "..") else run.resolve()


def _note_latest(run: Path, folder: Path) -> None:
    note = run / LATEST_FILE
    if folder == run:
        note.unlink(missing_ok=True)
        return
    folder.mkdir(exist_ok=True)
    partial = run / f"{LATEST_FILE}.partial"
    partial.write_text(f"{folder.name}\n", encoding="utf-8")
    partial.replace(note)
