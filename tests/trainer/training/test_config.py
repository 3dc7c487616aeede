from __future__ import annotations

from pathlib import Path

import pytest

from batch.errors import ExitCode
from trainer.training.augment import Augmentation
from trainer.training.config import Config, ConfigError, load_config


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_stand() -> None:
    assert load_config(None) == Config()


def test_a_file_sets_values_and_tables(tmp_path: Path) -> None:
    path = written(
        tmp_path, "widths = [8, 16]\nlearning_rate = 1\n[augmentation]\nrotation = 5.5\n"
    )
    config = load_config(path)
    assert config == Config(
        widths=(8, 16), learning_rate=1.0, augmentation=Augmentation(rotation=5.5)
    )


def test_overrides_win_and_none_is_no_override(tmp_path: Path) -> None:
    path = written(tmp_path, "epochs = 3\nseed = 9\n")
    config = load_config(path, {"epochs": 5, "seed": None})
    assert (config.epochs, config.seed) == (5, 9)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("epoch = 3", "'epoch'"),
        ("epochs = 3.5", "'epochs'"),
        ("epochs = true", "'epochs'"),
        ('widths = ["a"]', "'widths'"),
        ("widths = []", "'widths'"),
        ("augmentation = 3", "augmentation"),
        ("[augmentation]\nspin = 1", "'spin'"),
        ("epochs 3", "settings.toml"),
        ('network = "resnet"', "efficientnet-lite0"),
        ('trainable = "last-0"', "'trainable'"),
        ('learn_from = "test"', "'learn_from'"),
        ("patience = -1", "'patience'"),
        ("probe = 1.0", "'probe'"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "text",
    ["epochs = 0", "batch_size = -1", "dropout = 1.0", "ema = 1.5", "learning_rate = nan"],
)
def test_a_value_out_of_range_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=text.split()[0]):
        load_config(written(tmp_path, text))
