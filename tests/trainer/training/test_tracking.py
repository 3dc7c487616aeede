"""Trackers: what they logged, read back by their own libraries, and what happens if they fail."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.support.trainer_data import CONFIG, drawn_dataset, write_folders
from tests.support.wandb_file import read_wandb_records, to_values
from trainer.cli.main import cli
from trainer.training import tracking
from trainer.training.epoch_metrics import EpochMetrics
from trainer.training.loop import train
from trainer.training.tracking import TRACKERS, TrackedRun, TrackerKind, Trackers

# Ends a process that looks up a host or connects to one.
OFFLINE = """
import os, sys
def refuse(event, arguments):
    remote = event == "socket.connect" and isinstance(arguments[1], tuple)
    if remote or event == "socket.getaddrinfo":
        print("NETWORK", event, arguments, file=sys.stderr, flush=True)
        os._exit(99)
sys.addaudithook(refuse)
from trainer.cli.main import main
main()
"""
# As if some modules were not installed.
WITHOUT = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
from trainer.cli.main import main
main()
"""
HISTORY = tuple(EpochMetrics(n, 0.1 / n, 1.0 / n, n / 10, 2.0 / n, n / 20) for n in range(1, 5))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that all trackers followed."""
    pytest.importorskip("mlflow")
    pytest.importorskip("wandb")
    folder = tmp_path_factory.mktemp("tracked") / "run"
    photos = write_folders(folder.parent / "photos", 40)
    (folder.parent / "settings.toml").write_text("widths = [4, 8]\nbatch_size = 16\n")
    # MLflow sends no telemetry from tests and CI, whatever its settings are.
    unset = ("PYTEST_", "CI", "GITHUB_", "MLFLOW_", "WANDB_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(unset)}
    settings = ("--epochs", "2", "--threads", "1", "--side", "32")
    given = ("--data", photos, "--run", folder, "--config", folder.parent / "settings.toml")
    names = ("--track", "mlflow,wandb", "--track", "tensorboard")
    ran = subprocess.run(
        [sys.executable, "-c", OFFLINE, "train", *given, *settings, *names],
        env=environment | {"WANDB_CACHE_DIR": str(folder.parent)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert "WARNING" not in ran.stderr, ran.stderr
    assert "wandb: offline, send it with `wandb sync" in ran.stderr
    return folder


def read_history(run: Path) -> list[EpochMetrics]:
    names, *rows = (run / "history.csv").read_text().splitlines()
    assert names.startswith("epoch,")
    assert names.endswith(",recall_happy,recall_sad")
    found = []
    for row in rows:
        epoch, rate, loss, right, other_loss, other_right, happy, sad = map(float, row.split(","))
        recall = {"happy": happy, "sad": sad}
        metrics = EpochMetrics(int(epoch), rate, loss, right, other_loss, other_right, recall)
        found.append(metrics)
    return found


def test_the_libraries_know_the_variables_that_are_set() -> None:
    """A name that a release no longer reads is ignored without a word."""
    mlflow = pytest.importorskip("mlflow.environment_variables")
    wandb, names = pytest.importorskip("wandb"), pytest.importorskip("wandb.env")
    assert all(hasattr(mlflow, name) for name in TRACKERS["mlflow"].environment)
    known = {f"WANDB_{name.upper()}" for name in wandb.Settings.model_fields} | {
        value for value in vars(names).values() if isinstance(value, str)
    }
    assert set(TRACKERS["wandb"].environment) <= known


def test_mlflow_has_settings_epochs_test_metrics_and_files(run: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{run / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("batch-label")
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id])
    assert (tracked.info.run_name, tracked.info.status) == ("run", "FINISHED")
    assert tracked.data.params["widths"] == "(4, 8)"
    assert tracked.data.params["augmentation.rotation"] == "20.0"
    assert tracked.data.params["labels"] == "happy, sad"
    for name in ("learning_rate", "train_loss", "validation_accuracy"):
        logged = client.get_metric_history(tracked.info.run_id, name)
        assert [(m.step, m.value) for m in logged] == [
            (epoch.epoch, pytest.approx(getattr(epoch, name))) for epoch in read_history(run)
        ]
    logged = client.get_metric_history(tracked.info.run_id, "recall_sad")
    assert [m.value for m in logged] == [epoch.recall["sad"] for epoch in read_history(run)]
    assert 0 <= tracked.data.metrics["test_balanced_accuracy"] <= 1
    files = {file.path: file.file_size for file in client.list_artifacts(tracked.info.run_id)}
    assert {"checkpoint.pt", "curves.png", "history.csv"} <= set(files)
    assert files["checkpoint.pt"] == (run / "checkpoint.pt").stat().st_size


def test_wandb_has_settings_epochs_test_metrics_and_files(run: Path) -> None:
    records = list(read_wandb_records(run))
    (tracked,) = (r.run for r in records if r.WhichOneof("record_type") == "run")
    assert (tracked.project, tracked.display_name) == ("batch-label", "run")
    settings = to_values(tracked.config.update)
    assert (settings["widths"], settings["augmentation.rotation"]) == ([4, 8], 20.0)
    logged = [to_values(r.history.item) for r in records if r.history.item]
    assert [(row["_step"], row["train_loss"]) for row in logged] == [
        (epoch.epoch, epoch.train_loss) for epoch in read_history(run)
    ]
    summary: dict[str, Any] = {}
    for record in records:
        summary |= to_values(record.summary.update)
    assert 0 <= summary["test_macro_f1"] <= 1
    files = {file.path for record in records for file in record.files.files}
    assert {"checkpoint.pt", "curves.png", "history.csv"} <= files
    assert [r.exit.exit_code for r in records if r.WhichOneof("record_type") == "exit"] == [0]


def test_tensorboard_has_settings_epochs_and_test_metrics(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for split in ("train", "validation"):
        events = EventAccumulator(str(run / "logs" / split)).Reload()
        for metric in ("loss", "accuracy"):
            assert [(e.step, e.value) for e in events.Scalars(metric)] == [
                (epoch.epoch, pytest.approx(getattr(epoch, f"{split}_{metric}")))
                for epoch in read_history(run)
            ]
    events = EventAccumulator(str(run / "logs" / "validation")).Reload()
    assert [e.value for e in events.Scalars("recall_happy")] == [
        pytest.approx(epoch.recall["happy"]) for epoch in read_history(run)
    ]
    assert (
        "settings/text_summary"
        in (EventAccumulator(str(run / "logs" / "train")).Reload().Tags()["tensors"])
    )
    (test,) = EventAccumulator(str(run / "logs" / "test")).Reload().Scalars("macro_f1")
    assert test.step == 2


def test_a_resumed_training_continues_its_mlflow_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def interrupt() -> None:
        with Trackers(["mlflow"], tmp_path) as trackers:
            trackers.start({"seed": 1}, ())
            trackers.log_history(HISTORY[:2])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    name = (tmp_path / "mlflow-run.txt").read_text().strip()
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert client.get_run(name).info.status == "KILLED"
    # The third epoch was completed, but the training was killed before it was logged.
    with Trackers(["mlflow"], tmp_path) as trackers:
        trackers.start({"seed": 1}, HISTORY[:3])
        trackers.log_history(HISTORY)
    assert client.get_run(name).info.status == "FINISHED"
    logged = client.get_metric_history(name, "train_loss")
    assert [(m.step, m.value) for m in logged] == [(e.epoch, e.train_loss) for e in HISTORY]


@pytest.mark.parametrize("is_foreign", [True, False])
def test_a_tracker_that_cannot_start_does_not_end_the_training(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_foreign: bool,
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if is_foreign:
        (tmp_path / "mlflow.db").write_text("not a database")
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with caplog.at_level(logging.WARNING), Trackers(["mlflow", "tensorboard"], tmp_path) as used:
        history = train(drawn_dataset(), replace(CONFIG, epochs=1), tmp_path, used)
    assert len(history) == 1
    assert list((tmp_path / "logs" / "train").iterdir())
    first, last = [r.getMessage() for r in caplog.records if "WARNING" in r.getMessage()]
    assert first.startswith("WARNING: mlflow failed, and the training goes on (")
    assert ("not a database" if is_foreign else "127.0.0.1") in first
    assert last == "WARNING: mlflow: 1 failures; 1 of 1 epochs are missing there"


class Moody:
    """A tracker that fails twice, and has a result that can't be logged."""

    calls = 0
    logged = -1

    def __init__(self, run: TrackedRun) -> None:
        type(self).steps = []

    steps: list[int]

    def log_epoch(self, epoch: EpochMetrics) -> None:
        type(self).calls += 1
        if 2 <= self.calls <= 3:
            raise OSError("disk\nfull")
        self.steps.append(epoch.epoch)

    def log_result(self, test: Mapping[str, float], files: Sequence[Path]) -> None:
        raise OSError("disk full")

    def close(self, is_complete: bool) -> None:
        assert is_complete


def test_epochs_that_could_not_be_logged_are_logged_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(tracking.TRACKERS, "moody", TrackerKind(Moody, ()))
    with caplog.at_level(logging.WARNING), Trackers(["moody"], tmp_path) as trackers:
        trackers.start({}, ())
        for count in range(1, 5):
            trackers.log_history(HISTORY[:count])
        trackers.log_result(HISTORY, {}, ())
    assert Moody.steps == [1, 2, 3, 4]
    assert [record.getMessage() for record in caplog.records] == [
        "WARNING: moody failed, and the training goes on (OSError: disk full)",
        "WARNING: moody: 3 failures; 0 of 4 epochs are missing there",
    ]


@pytest.mark.parametrize(
    ("missing", "name", "extra"),
    [
        ("mlflow", "mlflow", "mlflow"),
        ("sqlalchemy", "mlflow", "mlflow"),
        ("wandb", "wandb", "wandb"),
    ],
)
def test_a_missing_package_is_an_error_that_names_the_extra(
    tmp_path: Path, missing: str, name: str, extra: str
) -> None:
    if missing != name:
        pytest.importorskip(name)
    given = ("--track", name, "--data", tmp_path / "none", "--run", tmp_path / "run")
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(missing=(missing,)), "train", *given],
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"trainer: {missing} is not installed; run `pip install 'batch-label[{extra}]'`\n"
    )
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused() -> None:
    ran = CliRunner().invoke(cli, ["train", "--track", "mlflow,neptune"])
    assert ran.exit_code == 2
    assert "there is no tracker 'neptune'" in ran.output
    assert all(name in ran.output for name in TRACKERS)
