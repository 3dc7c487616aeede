from __future__ import annotations

import re
import tomllib
from dataclasses import asdict, replace
from pathlib import Path

import click
import pytest

from batch.models.contract import load_model, to_metadata
from batch.models.fusion import Fusion, FusionWeights
from batch.models.shipped import list_shipped_models
from batch.records import Abstain
from tests.support.trainer_data import REPOSITORY, tiny_export, wide_dataset, wide_training
from trainer.cli.main import EXTRAS, cli
from trainer.cli.train import RESULT_FILES
from trainer.exporting.export import ExportOptions, export_model
from trainer.exporting.hub_folder import make_hub_files
from trainer.training.config import Config, list_settings, load_config
from trainer.training.tracking import TRACKERS

DATA = (REPOSITORY / "docs" / "training-data.md").read_text(encoding="utf-8")
EVALUATION = (REPOSITORY / "docs" / "evaluation.md").read_text(encoding="utf-8")
EXPORTING = (REPOSITORY / "docs" / "exporting.md").read_text(encoding="utf-8")
MODELS = (REPOSITORY / "docs" / "models.md").read_text(encoding="utf-8")
PUBLISHING = (REPOSITORY / "docs" / "publishing.md").read_text(encoding="utf-8")
SETTINGS = (REPOSITORY / "docs" / "training-settings.md").read_text(encoding="utf-8")
TRACKING = (REPOSITORY / "docs" / "tracking.md").read_text(encoding="utf-8")
TRAINING = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")

# The page that describes a command, in a section with its name.
PAGES = {
    "train": TRAINING,
    "crossvalidate": TRAINING,
    "evaluate": EVALUATION,
    "gate": EVALUATION,
    "export": EXPORTING,
    "fuse": EXPORTING,
    "adjust": EXPORTING,
}


def section(text: str, heading: str) -> str:
    """Return the text under a heading, with its smaller headings."""
    after = text.split(f"\n{heading}\n", 1)[1]
    level = len(heading.split()[0])
    return re.split(rf"\n#{{1,{level}}} ", after, maxsplit=1)[0]


def first_cells(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)


def test_every_metadata_key_is_documented_in_order() -> None:
    rule = FusionWeights((0.0, 0.0), 1.0, 1.0, {}, 0.0, 1.0, {})
    fusion = Fusion("face", (), rule, rule, 0.8, 0.8, 0.9, 0.5, {})
    spec = replace(tiny_export().spec, fusion=fusion)
    documented = first_cells(section(MODELS, "## Metadata"))
    assert documented[: len(to_metadata(spec))] == list(to_metadata(spec))


def test_every_setting_is_documented_with_its_default_and_range() -> None:
    settings = asdict(Config())
    augmentation = settings.pop("augmentation")
    settings |= {f"augmentation.{name}": value for name, value in augmentation.items()}
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ([^|]+) \|", SETTINGS, flags=re.MULTILINE)
    assert len({name for name, _, _ in rows}) == len(rows)
    documented = {name: tomllib.loads(f"value = {value}")["value"] for name, value, _ in rows}
    assert documented == {
        name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()
    }
    assert {name: values for name, _, values in rows} == {
        name: values.removeprefix("a ") for name, values in list_settings().items()
    }


def test_the_toml_example_is_read(tmp_path: Path) -> None:
    example = re.findall(r"```toml\n(.*?)```", SETTINGS, flags=re.DOTALL)[0]
    (tmp_path / "settings.toml").write_text(example)
    config = load_config(tmp_path / "settings.toml")
    assert (config.epochs, config.augmentation.rotation) == (100, 10.0)


def test_the_bring_your_own_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    options = ExportOptions(
        name="raw",
        created="2026-01-31",
        labels={"happy": "happiness", "sad": "sadness"},
        rest=Abstain.NEITHER,
    )
    exported = export_model(wide_training(), wide_dataset(), options)
    Path("raw.onnx").write_bytes(exported.graph)
    golden = exported.spec.golden
    code = re.findall(r"```python\n(.*?)```", MODELS, flags=re.DOTALL)[0]
    exec(code, {"pictures": golden.inputs, "answers": golden.outputs})
    assert Path("my-model.onnx").exists()


@pytest.mark.parametrize("name", PAGES)
def test_every_option_is_documented(name: str) -> None:
    page = PAGES[name]
    command = cli.commands[name]
    assert f"trainer {name}" in page
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[0] in section(page, f"## {name.capitalize()}")


def test_the_options_and_files_of_publish_are_documented() -> None:
    for parameter in cli.commands["publish"].params:
        if isinstance(parameter, click.Option):
            assert f"| `{parameter.opts[0]} " in PUBLISHING
    files = make_hub_files(load_model(list_shipped_models()["people"]), "", "mit", b"")
    assert set(files) == set(re.findall(r"^\| `([a-zA-Z_./]+)` \|", PUBLISHING, flags=re.MULTILINE))


def test_the_trackers_and_their_variables_are_documented() -> None:
    rows = re.findall(
        r"^\| `(\w+)`(?: \(the default\))? \| `(\w+)` \|", TRACKING, flags=re.MULTILINE
    )
    kinds = [row for row in rows if row[0] in TRACKERS]
    assert kinds == [(name, EXTRAS[kind.modules[0]]) for name, kind in TRACKERS.items()]
    variables = dict(row for row in rows if row[0] not in TRACKERS)
    assert variables == {
        name: value for kind in TRACKERS.values() for name, value in kind.environment.items()
    }
    for name in RESULT_FILES:
        assert f"`{name}`" in TRACKING


def test_every_option_of_import_is_documented() -> None:
    described = section(MODELS, "## Bring your own")
    for parameter in cli.commands["import"].params:
        if isinstance(parameter, click.Option):
            assert f"`{parameter.opts[0]}" in described
            assert all(f"`{name}`" in described for name in parameter.secondary_opts)


def test_the_numbers_of_import_are_those_of_the_code() -> None:
    from trainer.exporting import answer_changes
    from trainer.importing import import_model, network, parity

    described = " ".join(section(MODELS, "## Bring your own").split())
    assert f"with the threshold {import_model.ABSTAIN_FROM}." in described
    assert f"at most {parity.MAX_PICTURES}; by default {parity.RENDERED_PICTURES}" in described
    *first, last = parity.PARITY_BATCHES
    assert f"batches of {', '.join(map(str, first))} and {last}." in described
    assert f"above {answer_changes.MAX_DIFFERENCE:.4f} is an error" in described
    assert f"opset {network.MIN_OPSET} to 12" in described


def test_the_options_and_columns_of_data_are_documented() -> None:
    from trainer.datasets.drawn_faces import SPLIT_SIZES
    from trainer.datasets.labelled_files import OPTIONAL_COLUMNS, REQUIRED_COLUMNS

    for parameter in (*cli.commands["data"].params, *cli.commands["render"].params):
        if parameter.name == "folder":
            continue
        assert re.search(rf"{parameter.opts[0]}\s", DATA)
    assert ",".join((*REQUIRED_COLUMNS, *OPTIONAL_COLUMNS)) in DATA
    assert first_cells(DATA)[: len(OPTIONAL_COLUMNS)] == list(OPTIONAL_COLUMNS)
    assert f"{sum(count for count, _ in SPLIT_SIZES.values())} faces that the project draws" in DATA
