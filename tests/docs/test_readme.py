"""The README shows what the shipped models say of the sample pictures of `make label`."""

from __future__ import annotations

import csv
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import batch
from batch.cli.label import label as command_label
from batch.records import Status
from batch.tally import Tally
from tests.conftest import REPOSITORY, Command

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PICTURES = ("astronaut.png", "chelsea.png", "coffee.png")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The pictures as scikit-image carries them."""
    import skimage.data

    for name in PICTURES:
        shutil.copy(Path(skimage.data.__path__[0]) / name, tmp_path)
    return tmp_path


def test_a_cat_and_a_cup_of_coffee_get_no_label(command: Command, pictures: Path) -> None:
    ran = command(*PICTURES, "--provider", "cpu")
    assert ran.returncode == 0, ran.stderr
    rows = list(csv.DictReader(ran.stdout.splitlines()))
    found = [(row["path"], row["status"], row["label"]) for row in rows]
    assert found == [
        ("astronaut.png", "ok", "happy"),
        ("chelsea.png", "no_person", ""),
        ("coffee.png", "no_person", ""),
    ]
    shown = ("path,status,label", *map(",".join, found))
    command_line = f"$ batch-label {' '.join(PICTURES)} | cut -d, -f1-3"
    assert "\n".join(f"    {line}" for line in (command_line, *shown)) in README


def test_they_are_among_the_samples_of_make_label() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    samples = re.search(r"^SAMPLE := (.*)$", makefile, flags=re.MULTILINE)
    assert samples
    assert set(PICTURES) <= set(samples[1].split())


def test_the_line_of_a_run_adds_up_and_has_every_status() -> None:
    line = re.search(r"^    (\d+) found = (.*) \(happy (\d+), sad (\d+)\); ", README, re.MULTILINE)
    assert line
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", line[2])}
    assert list(counts) == [status.value for status in Status]
    assert sum(counts.values()) == int(line[1])
    assert counts["ok"] == int(line[3]) + int(line[4])
    summary = Tally(("happy", "sad"), found=int(line[1]))
    for status, count in counts.items():
        for n in range(count):
            label = ("happy" if n < int(line[3]) else "sad") if status == Status.OK else None
            summary.count(Status(status), label, None)
    assert summary.summary_text().startswith(line[0].strip())


@pytest.mark.parametrize("document", ["README.md", "docs/usage.md"])
def test_the_python_examples_run(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pictures: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    shutil.move(pictures / PICTURES[0], tmp_path / "photos" / "a.jpg")
    text = (REPOSITORY / document).read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    for example in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(example, names)
    assert list(names["frame"]["label"]) == ["happy"]


def test_options_are_documented_and_named_as_on_the_command_line() -> None:
    usage = (REPOSITORY / "docs" / "usage.md").read_text(encoding="utf-8")
    table = usage.partition("`batch.Options` has the options")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE)
    groups = {"search": batch.Search, "file_limits": batch.FileLimits}
    expected = [field.name for field in fields(batch.Options) if field.name not in groups]
    for group, options in groups.items():
        inside = [field.name for field in fields(options)]
        at = documented.index(group)
        assert documented[at + 1 : at + 1 + len(inside)] == inside
        del documented[at]
        expected += inside
    assert sorted(documented) == sorted(expected)
    assert set(expected) <= {option.name for option in command_label.params}
