"""`trainer train` ends with the page of the training, and never fails because of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch.errors import InputError
from tests.support.trainer_data import write_folders
from tests.trainer.cli.test_cli import trainer
from trainer.page.make import PAGE_FILE, PROBLEMS_FILE
from trainer.training.epoch_metrics import read_history

EPOCHS = 2


@pytest.fixture
def learn(tmp_path: Path) -> tuple[object, ...]:
    photos = write_folders(tmp_path / "photos", 12)
    (tmp_path / "s.toml").write_text("widths = [4]\nbatch_size = 16\n")
    return (
        "train", "--data", photos, "--config", tmp_path / "s.toml", "--run", tmp_path / "run",
        "--epochs", EPOCHS, "--threads", 1, "--side", 16,
    )  # fmt: skip


def test_the_last_lines_name_the_page_which_is_made_once(
    learn: tuple[object, ...], tmp_path: Path
) -> None:
    page, listed = (tmp_path / "run" / name for name in (PAGE_FILE, PROBLEMS_FILE))
    result = trainer(*learn)
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-2:] == [
        f"Its page is {page}",
        f"The run is {tmp_path / 'run'}",
    ]
    text = page.read_text(encoding="utf-8")
    assert f"<dd>{EPOCHS} of {EPOCHS}</dd>" in text
    assert "<dt>Time</dt>" in text
    assert listed.exists()
    # The user has marked rows; the finished training is not trained, nor its page made, again.
    listed.write_text(f"{listed.read_text()}mine\n")
    before = page.stat().st_ino, listed.read_bytes()
    again = trainer(*learn)
    assert f"Its page is {page}" in again.output
    assert (page.stat().st_ino, listed.read_bytes()) == before
    # A missing page is made again.
    page.unlink()
    trainer(*learn)
    assert page.exists()


def test_a_page_that_cannot_be_made_is_a_warning(
    learn: tuple[object, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = tmp_path / "run" / PAGE_FILE
    page.parent.mkdir()
    page.write_text("notes of the user")
    # Older than the checkpoint, as a file that was there before.
    os.utime(page, (1, 1))
    result = trainer(*learn)
    assert result.exit_code == 0, result.output
    assert "Its page is" not in result.output
    assert result.output.splitlines()[-1] == f"The run is {tmp_path / 'run'}"
    assert f"WARNING: the page of the training could not be made ({page} was not" in caplog.text
    assert page.read_text() == "notes of the user"
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    # Nor is it named as the page by the next command, although it is newer than the checkpoint.
    page.touch()
    assert "Its page is" not in trainer(*learn).output


def test_a_pipe_or_a_link_into_a_missing_folder_is_a_warning(
    learn: tuple[object, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    page = tmp_path / "run" / PAGE_FILE
    page.parent.mkdir()
    os.mkfifo(page)
    assert trainer(*learn).exit_code == 0
    assert f"{page} can't be read (not a regular file); move it away" in caplog.text
    page.unlink()
    page.symlink_to(tmp_path / "missing" / "page.html")
    caplog.clear()
    assert trainer(*learn).exit_code == 0
    assert f"page of the training could not be made (file {page} can't be written" in caplog.text


@pytest.mark.parametrize("content", ["epoch,train_loss\n1,2\nmean,3\n", "\xe4poch\n1\n"])
def test_an_edited_history_does_not_stop_a_training(
    learn: tuple[object, ...], tmp_path: Path, content: str
) -> None:
    assert trainer(*learn).exit_code == 0
    history = tmp_path / "run" / "history.csv"
    before = history.read_bytes()
    history.write_bytes(content.encode("latin-1"))
    (tmp_path / "run" / PAGE_FILE).unlink()
    result = trainer(*learn)
    assert result.exit_code == 0, result.output
    assert "Its page is" in result.output
    assert history.read_bytes() == before
    history.write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"history\.csv .*; remove it"):
        read_history(history)


def test_a_resumed_training_gets_a_new_page(learn: tuple[object, ...], tmp_path: Path) -> None:
    import torch

    from trainer.training.checkpoint import save_checkpoint

    page = tmp_path / "run" / PAGE_FILE

    def stop(*arguments: object) -> None:
        save_checkpoint(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.training.loop.save_checkpoint", stop)
        assert trainer(*learn).exit_code != 0
    assert not page.exists()
    assert len(torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["history"]) == 1
    assert trainer(*learn).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert f"<dd>{EPOCHS} of {EPOCHS}</dd>" in text
    assert "from epoch 2, where the training was resumed" in text
