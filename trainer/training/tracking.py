"""Experiment trackers of a training: TensorBoard, MLflow, and Weights & Biases.

Each tracker logs through its own library, whose environment variables apply. By default everything
stays in the run's folder and nothing is sent. A tracker that fails never ends a training.
"""

from __future__ import annotations

import importlib
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from trainer.training.epoch_metrics import EpochMetrics

PROJECT = "batch-label"  # the default name of the experiment (MLflow) or project (W&B)

LOG_FOLDER = "logs"  # of TensorBoard
MLFLOW_DATABASE = "mlflow.db"
MLFLOW_FILES = "mlflow-artifacts"
MLFLOW_RUN_FILE = "mlflow-run.txt"  # the run's id, for a training that is resumed
# Characters of a label that MLflow does not accept in the name of a metric.
UNLOGGABLE = re.compile(r"[^\w./ -]")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackedRun:
    """A training as its trackers see it when they start.

    Attributes:
        folder: the run's folder.
        settings: plain values by name.
        epoch: the last epoch that earlier, interrupted trainings in this folder completed, -1 for
            none.
    """

    folder: Path
    settings: Mapping[str, Any]
    epoch: int


class Tracker(Protocol):
    """A tracker of one training.

    Attributes:
        logged: number of the last epoch that it has, -1 for none.
    """

    logged: int

    def log_epoch(self, epoch: EpochMetrics) -> None:
        """Log the metrics of an epoch."""

    def log_result(self, test: Mapping[str, float], files: Sequence[Path]) -> None:
        """Log the metrics on the test split, and files of the run's folder."""

    def close(self, is_complete: bool) -> None:
        """End the tracked run."""


class TensorBoardTracker:
    """Writes event files into one folder for each split."""

    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / LOG_FOLDER
        self.logged = run.epoch if folder.is_dir() else -1
        self._folder, self._writer = folder, SummaryWriter
        if self.logged < 0:
            rows = [f"| {name} | {value} |" for name, value in run.settings.items()]
            with self._open("train") as writer:
                writer.add_text("settings", "\n".join(["| Setting | Value |", "|---|---|", *rows]))

    def _open(self, split: str) -> SummaryWriter:
        return self._writer(str(self._folder / split))

    def log_epoch(self, epoch: EpochMetrics) -> None:
        for split in ("train", "validation"):
            # Closed after each epoch, so that a killed training leaves complete files.
            with self._open(split) as writer:
                for metric in ("loss", "accuracy"):
                    writer.add_scalar(metric, getattr(epoch, f"{split}_{metric}"), epoch.epoch)
        with self._open("validation") as writer:
            for label, share in epoch.recall.items():
                if share is not None:
                    writer.add_scalar(f"recall_{label}", share, epoch.epoch)

    def log_result(self, test: Mapping[str, float], files: Sequence[Path]) -> None:
        with self._open("test") as writer:
            for metric, value in test.items():
                writer.add_scalar(metric, value, max(0, self.logged))

    def close(self, is_complete: bool) -> None:
        pass


class MlflowTracker:
    """Logs to the server or database of MLFLOW_TRACKING_URI, or to SQLite in the run's folder."""

    def __init__(self, run: TrackedRun) -> None:
        import mlflow

        self._mlflow = mlflow
        folder, server = run.folder.resolve(), os.environ.get("MLFLOW_TRACKING_URI")
        mlflow.set_tracking_uri(server or f"sqlite:///{folder / MLFLOW_DATABASE}")
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        if not server and mlflow.get_experiment_by_name(experiment) is None:
            mlflow.create_experiment(experiment, (folder / MLFLOW_FILES).as_uri())
        if "MLFLOW_EXPERIMENT_ID" not in os.environ:
            mlflow.set_experiment(experiment)
        known = self._find_run(folder / MLFLOW_RUN_FILE)
        self._id = mlflow.start_run(known, run_name=folder.name).info.run_id
        self.logged = -1
        if known:
            metrics = mlflow.MlflowClient().get_metric_history(known, "train_loss")
            self.logged = max((metric.step for metric in metrics), default=-1)
        else:
            mlflow.log_params(dict(run.settings))
            (folder / MLFLOW_RUN_FILE).write_text(f"{self._id}\n", encoding="utf-8")

    def _find_run(self, path: Path) -> str | None:
        """Read the id of the run to continue; None if there is none on this server."""
        if not path.is_file():
            return None
        known = path.read_text(encoding="utf-8").strip()
        try:
            self._mlflow.get_run(known)
        except self._mlflow.exceptions.MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise
        return known

    def log_epoch(self, epoch: EpochMetrics) -> None:
        metrics = {UNLOGGABLE.sub("_", name): value for name, value in _list_metrics(epoch).items()}
        self._mlflow.log_metrics(metrics, step=epoch.epoch, run_id=self._id)

    def log_result(self, test: Mapping[str, float], files: Sequence[Path]) -> None:
        self._mlflow.log_metrics(
            _name_test_metrics(test), step=max(0, self.logged), run_id=self._id
        )
        for path in files:
            self._mlflow.log_artifact(str(path), run_id=self._id)

    def close(self, is_complete: bool) -> None:
        self._mlflow.end_run("FINISHED" if is_complete else "KILLED")


class WandbTracker:
    """Logs to Weights & Biases: offline, unless WANDB_MODE or WANDB_API_KEY is set.

    An offline run can't be continued, so a resumed training is a new run with all epochs.
    """

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._folder = run.folder.resolve()
        given = os.environ.get("WANDB_MODE")
        chosen: Literal["online", "offline"] = (
            "online" if os.environ.get("WANDB_API_KEY") else "offline"
        )
        # Given as arguments, because the library reads the environment only once per process.
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=os.environ.get("WANDB_NAME", self._folder.name),
            dir=os.environ.get("WANDB_DIR", str(self._folder)),
            mode=None if given else chosen,
            config=dict(run.settings),
        )
        self.logged = -1
        if (given or chosen) == "offline":
            logger.info("wandb: offline, send it with `wandb sync %s`", Path(self._run.dir).parent)

    def log_epoch(self, epoch: EpochMetrics) -> None:
        self._run.log(_list_metrics(epoch), step=epoch.epoch)

    def log_result(self, test: Mapping[str, float], files: Sequence[Path]) -> None:
        self._run.summary.update(_name_test_metrics(test))
        for path in files:
            self._run.save(str(path.resolve()), base_path=str(self._folder), policy="now")

    def close(self, is_complete: bool) -> None:
        self._run.finish(exit_code=0 if is_complete else 1)


def _list_metrics(epoch: EpochMetrics) -> dict[str, float]:
    """List the metrics of an epoch by name, without classes that have no samples."""
    return {
        name: value
        for name, value in epoch.to_row().items()
        if name != "epoch" and value is not None
    }


def _name_test_metrics(test: Mapping[str, float]) -> dict[str, float]:
    return {f"test_{name}": value for name, value in test.items()}


@dataclass(frozen=True)
class TrackerKind:
    """A kind of tracker.

    Attributes:
        open: starts tracking a run.
        modules: modules that it needs.
        environment: defaults of variables that its library reads.
    """

    open: Callable[[TrackedRun], Tracker]
    modules: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


TRACKERS = {
    "tensorboard": TrackerKind(TensorBoardTracker, ("tensorboard",)),
    "mlflow": TrackerKind(
        MlflowTracker,
        ("mlflow", "sqlalchemy", "alembic"),
        {
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "MLFLOW_LOGGING_LEVEL": "WARNING",
            # By default a call to a server that is down would wait for minutes.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        },
    ),
    "wandb": TrackerKind(
        WandbTracker,
        ("wandb",),
        {
            "WANDB_ERROR_REPORTING": "false",  # to the makers of the library
            "WANDB_DISABLE_CODE": "true",
            "WANDB_DISABLE_GIT": "true",
            "WANDB_CONSOLE": "off",
            "WANDB_SILENT": "true",
            "WANDB_INIT_TIMEOUT": "30",
            "WANDB_FINISH_TIMEOUT": "60",
            "WANDB_FINISH_TIMEOUT_RAISES": "true",
        },
    ),
}
DEFAULT_TRACKERS = ("tensorboard",)


def import_trackers(names: Sequence[str]) -> None:
    """Import the libraries of trackers, keys of ``TRACKERS``, with their environment variables.

    Raises:
        ModuleNotFoundError: the library of a tracker is not installed.
    """
    for name in names:
        for variable, value in TRACKERS[name].environment.items():
            os.environ.setdefault(variable, value)
        for module in TRACKERS[name].modules:
            importlib.import_module(module)


class Trackers:
    """The trackers of a training; a context manager that ends their runs.

    A failure is a warning, the first time with its cause. Epochs that a tracker could not take are
    logged again with the next one. A tracker that can't start is not used.

    Args:
        names: keys of ``TRACKERS``.
        folder: the run's folder.

    Raises:
        ModuleNotFoundError: the library of a tracker is not installed.
    """

    def __init__(self, names: Sequence[str], folder: Path) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._folder = folder
        self._open: dict[str, Tracker] = {}
        self._epochs: list[int] = []
        self._failures: Counter[str] = Counter()
        import_trackers(self._names)

    def start(self, settings: Mapping[str, Any], history: Sequence[EpochMetrics]) -> None:
        """Start tracking a training, with the epochs of an earlier, interrupted one."""
        run = TrackedRun(self._folder, settings, history[-1].epoch if history else -1)
        for name in self._names:
            with self._contain_failures(name):
                self._open[name] = TRACKERS[name].open(run)
        self.log_history(history)

    def log_history(self, history: Sequence[EpochMetrics]) -> None:
        """Log the epochs that a tracker does not have yet."""
        self._epochs = [epoch.epoch for epoch in history]
        for name, tracker in self._open.items():
            with self._contain_failures(name):
                for epoch in history:
                    if epoch.epoch > tracker.logged:
                        tracker.log_epoch(epoch)
                        tracker.logged = epoch.epoch

    def log_result(
        self, history: Sequence[EpochMetrics], test: Mapping[str, float], files: Sequence[Path]
    ) -> None:
        """Log the metrics on the test split, and files of the run's folder."""
        self.log_history(history)
        for name, tracker in self._open.items():
            with self._contain_failures(name):
                tracker.log_result(test, files)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for name, tracker in self._open.items():
            with self._contain_failures(name):
                tracker.close(is_complete=kind is None)
        for name, count in self._failures.items():
            logged = self._open[name].logged if name in self._open else -1
            missing = sum(epoch > logged for epoch in self._epochs)
            logger.warning(
                "WARNING: %s: %d failures; %d of %d epochs are missing there",
                name,
                count,
                missing,
                len(self._epochs),
            )

    @contextmanager
    def _contain_failures(self, name: str) -> Iterator[None]:
        """Turn any error of a tracker into a warning; its library may raise anything."""
        try:
            yield
        except Exception as error:
            self._failures[name] += 1
            if self._failures[name] == 1:
                cause = " ".join(str(error).split())[:300]
                logger.warning(
                    "WARNING: %s failed, and the training goes on (%s: %s)",
                    name,
                    type(error).__name__,
                    cause,
                )
