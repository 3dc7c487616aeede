from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from batch.errors import ExitCode
from trainer.training.config import Augmentation, Config, ConfigError, list_settings, load_config

PROBING = 'probe = 1.0\ninit = "imagenet"\nnetwork = "efficientnet-lite0"\n'
# The smallest and largest value of each numeric setting, and values below and above the range.
RANGES: dict[str, tuple[float, float, float, float]] = {
    "pretrained_rate": (1e-9, 100, 0, 100.1),
    "dropout": (0, 0.999, -0.001, 1),
    "label_smoothing": (0, 0.999, -0.001, 1),
    "teacher_share": (0, 0.999, -0.001, 1),
    "box_jitter": (0, 0.999, -0.001, 1),
    "consistency": (0, 1000, -0.001, 1000.1),
    "review_weight": (1, 1000, 0, 1001),
    "patience": (0, 100_000, -1, 100_001),
    "epochs": (1, 100_000, -1, 100_001),
    "batch_size": (2, 65_536, 1, 65_537),
    "learning_rate": (1e-9, 10, 0, 10.1),
    "weight_decay": (0, 10, -0.001, 10.1),
    "warm_up": (0, 0.999, -0.001, 1),
    "settle": (0, 0.999, -0.001, 1),
    "ema": (0, 0.999, -0.001, 1),
    "seed": (0, 2**32 - 1, -1, 2**32),
    "threads": (0, 1024, -1, 1025),
    "augmentation.rotation": (0, 180, -0.1, 180.1),
    "augmentation.scale": (1, 10, 0, 10.1),
    "augmentation.shift": (0, 1, -0.01, 1.01),
    "augmentation.low_resolution": (0, 1, -0.01, 1.01),
    "augmentation.min_side": (1, 512, 0, 513),
    "augmentation.contrast": (1, 10, 0, 10.1),
    "augmentation.brightness": (0, 255, -0.1, 255.1),
    "augmentation.noise": (0, 255, -0.1, 255.1),
    "augmentation.erase": (0, 1, -0.01, 1.01),
    "augmentation.erase_side": (0.1, 1, 0.09, 1.01),
    "augmentation.crop": (0.01, 1, 0, 1.01),
    "augmentation.aspect": (1, 10, 0.9, 10.1),
    "augmentation.saturation": (1, 10, 0.9, 10.1),
    "augmentation.grey": (0, 1, -0.01, 1.01),
    "augmentation.tint": (0, 1, -0.01, 1.01),
    "augmentation.jpeg": (0, 1, -0.01, 1.01),
}


def write_settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    return path


def read_setting(config: Config, name: str) -> object:
    record: object = config
    for part in name.split("."):
        record = getattr(record, part)
    return record


def test_without_a_file_the_defaults_are_used() -> None:
    assert load_config(None) == Config()


def test_a_file_sets_values_and_tables(tmp_path: Path) -> None:
    path = write_settings(
        tmp_path, "widths = [8, 16]\nlearning_rate = 1\n[augmentation]\nrotation = 5.5\n"
    )
    config = load_config(path)
    assert config == Config(
        widths=(8, 16), learning_rate=1.0, augmentation=Augmentation(rotation=5.5)
    )


def test_overrides_take_precedence_and_none_is_ignored(tmp_path: Path) -> None:
    path = write_settings(tmp_path, "epochs = 3\nseed = 9\n")
    config = load_config(path, {"epochs": 5, "seed": None})
    assert (config.epochs, config.seed) == (5, 9)


def test_an_override_out_of_range_is_named_by_its_option() -> None:
    with pytest.raises(ConfigError, match=r"^--seed must be a whole number from 0 to 4,294,967,"):
        load_config(None, {"seed": 2**32})


def test_every_numeric_setting_has_a_range_that_is_tested() -> None:
    numeric = [name for name, values in list_settings().items() if values.startswith("a ")]
    assert sorted(numeric) == sorted([*RANGES, "probe", "widths"])
    assert len(list_settings()) == len(fields(Config)) - 1 + len(fields(Augmentation))


@pytest.mark.parametrize("name", RANGES)
def test_a_value_at_a_bound_is_accepted(tmp_path: Path, name: str) -> None:
    low, high, _, _ = RANGES[name]
    for value in (low, high):
        config = load_config(write_settings(tmp_path, f"{name} = {value!r}\n"))
        assert read_setting(config, name) == value


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("beyond", ["below", "above", "nan", "inf", "true", '"1"'])
def test_a_value_beyond_a_bound_is_refused(tmp_path: Path, name: str, beyond: str) -> None:
    _, _, below, above = RANGES[name]
    text = {"below": repr(below), "above": repr(above)}.get(beyond, beyond)
    path = write_settings(tmp_path, f"{name} = {text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    value = {"true": "True", '"1"': "'1'"}.get(text, text)
    assert str(caught.value) == (
        f"{path}: {name} must be {list_settings()[name]}, not {value}; "
        "docs/training-settings.md lists all settings"
    )


def test_a_probe_has_a_range_and_needs_initial_weights(tmp_path: Path) -> None:
    config = load_config(write_settings(tmp_path, f"epochs = 0\n{PROBING}"))
    assert (config.epochs, config.probe) == (0, 1.0)
    for text in ("probe = -0.1", "probe = 1_000_000.1", "probe = nan"):
        with pytest.raises(ConfigError, match="probe must be a number from 0 to 1,000,000, not"):
            load_config(write_settings(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("epoch = 3", r"settings\.toml: epoch is not a setting; the settings are augmentation, "),
        ("epochs = 3.5", r"settings\.toml: epochs must be a whole number from 0 to 100,000"),
        ('widths = ["a"]', "widths must be a list of 1 to 16 whole numbers from 1 to 4,096"),
        ("widths = []", "widths must be a list"),
        ("widths = [8, 0]", r"widths must be a list .*, not \[8, 0\]"),
        (f"widths = {[8] * 17}", "widths must be a list"),
        ("balanced = 1", "balanced must be true or false, not 1"),
        ("init = 1", "init must be text, not 1"),
        ("augmentation = 3", "augmentation must be a table, not 3"),
        (
            "[augmentation]\nspin = 1",
            r"settings\.toml: augmentation\.spin is not a setting; .* aspect, ",
        ),
        ("epochs 3", r"settings\.toml is not TOML"),
        ('network = "resnet"', 'network must be "residual", "efficientnet-lite0" or'),
        ('trainable = "last-0"', 'trainable must be "all", "head" or "last-N", not \'last-0\''),
        ('learn_from = "test"', 'learn_from must be "train" or "all"'),
        ("probe = 1.0", "setting 'probe' needs 'init'"),
        ("epochs = 0", "setting 'epochs' must be above 0 if there is no 'probe'"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem) as caught:
        load_config(write_settings(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml can't be read \(No such file"):
        load_config(tmp_path / "none.toml")


def test_a_teacher_is_one_name_or_a_list(tmp_path: Path) -> None:
    assert Config().teachers == ()
    assert load_config(write_settings(tmp_path, 'teacher = "a.onnx"\n')).teachers == ("a.onnx",)
    several = load_config(write_settings(tmp_path, 'teacher = ["a.onnx", "b.onnx"]\n'))
    assert several.teachers == ("a.onnx", "b.onnx")
    with pytest.raises(ConfigError, match="teacher must be text, or a list of texts, not 3"):
        load_config(write_settings(tmp_path, "teacher = 3\n"))
