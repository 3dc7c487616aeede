from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch.errors import InputError, LockedError, OutputError
from tests.support.trainer_data import CONFIG, drawn_dataset, tiny_run, write_folders
from trainer.cli.main import cli
from trainer.datasets.dataset import Dataset, select_samples
from trainer.training.checkpoint import CHECKPOINT_FILE, load_trained_network
from trainer.training.config import Config
from trainer.training.loop import train
from trainer.training.run_folder import LATEST_FILE, choose_run, find_latest_run, lock_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a finished training on ``drawn_dataset`` with ``CONFIG``."""
    shutil.copytree(tiny_run(), tmp_path / "mine")
    return tmp_path / "mine"


def other_data() -> Dataset:
    train_split = drawn_dataset().train
    return replace(drawn_dataset(), train=select_samples(train_split, train_split.certain))


def choose(run: Path, data: Dataset, config: Config, caplog: pytest.LogCaptureFixture) -> str:
    """Choose a folder, check that it is noted as the newest, and return what was logged."""
    caplog.clear()
    with caplog.at_level(logging.INFO, "trainer"):
        folder = choose_run(run, data, config)
    assert find_latest_run(run) == folder
    return caplog.messages[-1]


def test_a_new_training_uses_the_given_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with lock_run(tmp_path / "mine"):
        message = choose(tmp_path / "mine", drawn_dataset(), CONFIG, caplog)
    assert message == f"{tmp_path / 'mine'}: new training"
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_other_data_and_settings_go_to_folders_of_their_own(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = (run / CHECKPOINT_FILE).read_bytes()
    message = choose(run, other_data(), CONFIG, caplog)
    assert message == f"{run}-2: new training, because {run} has other data; that one is kept"
    train(other_data(), CONFIG, find_latest_run(run))
    config = replace(CONFIG, epochs=1, seed=9)
    message = choose(run, other_data(), config, caplog)
    assert message.startswith(f"{run}-3: new training, because {run}-2 has other settings (")
    assert "epochs, seed" in message
    assert (run / CHECKPOINT_FILE).read_bytes() == before


def test_a_finished_training_is_the_newest_again_if_its_command_is_repeated(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choose(run, other_data(), CONFIG, caplog)
    message = choose(run, drawn_dataset(), replace(CONFIG, threads=2), caplog)
    assert message == (
        f"{run}: finished on these data with these settings (4 epochs), not trained again"
    )
    assert not (run / LATEST_FILE).exists()


def test_an_unfinished_training_resumes_in_its_own_folder(
    run: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    choose(run, other_data(), CONFIG, caplog)
    monkeypatch.setattr("trainer.training.loop._log_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        train(other_data(), CONFIG, find_latest_run(run))
    assert not load_trained_network(find_latest_run(run)).is_finished
    choose(run, drawn_dataset(), CONFIG, caplog)
    message = choose(run, other_data(), CONFIG, caplog)
    assert message == f"{run}-2: resumes after epoch 1 of 4"


def test_a_training_killed_in_its_first_epoch_leaves_no_gap(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):  # the folder of the first try has no checkpoint
        assert choose(run, other_data(), CONFIG, caplog).startswith(f"{run}-2: ")


def test_a_damaged_run_beside_is_skipped_with_a_warning(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    neighbour = run.with_name("mine-2")
    neighbour.mkdir()
    (neighbour / CHECKPOINT_FILE).write_text("hello world\n")
    assert "mine: finished on these data" in choose(run, drawn_dataset(), CONFIG, caplog)
    assert f"WARNING: {neighbour} is skipped: {neighbour / CHECKPOINT_FILE} is not" in caplog.text
    assert choose(run, other_data(), CONFIG, caplog).startswith(f"{run}-3: ")
    assert (neighbour / CHECKPOINT_FILE).read_text() == "hello world\n"
    (run / CHECKPOINT_FILE).write_text("hello world\n")
    with pytest.raises(InputError, match=r"mine/checkpoint\.pt is not a readable checkpoint"):
        choose_run(run, drawn_dataset(), CONFIG)


def test_a_folder_of_something_else_is_left_alone(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run.with_name("mine-2").write_text("a file")
    run.with_name("mine-3").mkdir()
    (run.with_name("mine-3") / "notes.md").write_text("mine")
    assert choose(run, other_data(), CONFIG, caplog).startswith(f"{run}-4: ")


def test_a_training_on_all_samples_stays_beside_its_cross_validation(run: Path) -> None:
    assert choose_run(run, drawn_dataset(), replace(CONFIG, learn_from="all")) == run


def test_the_current_folder_has_a_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run)
    assert choose_run(Path(), other_data(), CONFIG) == run.with_name("mine-2")
    assert find_latest_run(Path()) == run.with_name("mine-2")


@pytest.mark.parametrize("name", ["mine-2", "../elsewhere", "other", "", "mine-x"])
def test_a_note_without_a_folder_is_an_error(run: Path, name: str) -> None:
    (run / LATEST_FILE).write_text(f"{name}\n")
    with pytest.raises(InputError, match=r"latest\.txt names .* not there; remove it to use"):
        find_latest_run(run)


def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        lock_run(tmp_path / "run"),
        pytest.raises(LockedError, match=r"another training is using .*run; wait for it"),
        lock_run(tmp_path / "run"),
    ):
        pass
    with lock_run(tmp_path / "run"):
        pass
    assert not list((tmp_path / "run").iterdir())


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with (
        pytest.raises(OutputError, match=r"run folder .*file/run can't be written .*another --run"),
        lock_run(tmp_path / "file" / "run"),
    ):
        pass


def test_a_cross_validation_does_not_share_its_folder(tmp_path: Path) -> None:
    write_folders(tmp_path / "photos", 4)
    run = tmp_path / "run"
    words = ("crossvalidate", "--data", tmp_path / "photos", "--run", run, "--region", "face")
    with lock_run(run):
        result = CliRunner().invoke(cli, [str(word) for word in words])
    assert result.exit_code
    assert f"another training is using {run}; wait for it" in result.stderr
    assert not (run / "out-of-fold.csv").exists()
