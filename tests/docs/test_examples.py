"""The examples read real datasets, with the real pandas, DuckDB and Spark."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.datasets import rows, write

EXAMPLES = REPOSITORY / "examples"
PROGRAMS = sorted(path.name for path in EXAMPLES.glob("*.py"))
PACKAGES = {"pandas": "pyarrow", "duckdb": "duckdb", "spark": "pyspark"}


def run(program: str, *folders: Path) -> str:
    """Run an example and give what it shows, one space between words and no lines of tables."""
    package = PACKAGES[program.removeprefix("read_with_").removesuffix(".py")]
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    if package == "pyspark" and shutil.which("java") is None:
        pytest.skip("Spark needs Java, which is not installed")
    ran = subprocess.run(
        [sys.executable, EXAMPLES / program, *(f"{folder}/" for folder in folders)],
        capture_output=True,
        text=True,
        timeout=480,
    )
    assert ran.returncode == 0, ran.stderr
    return re.sub(r"[\s|│]+", " ", ran.stdout)


def table(shown: str, title: str) -> str:
    """Give one of the three tables."""
    titles = r"Photos by status and label|The least certain|With another label than before|\Z"
    found = re.search(rf"{title} (.*?)(?:{titles})", shown)
    assert found, shown
    return found[1]


def test_all_examples_are_listed() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `(\w+\.py)`", text, flags=re.MULTILINE)) == PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS)
def test_an_example_shows_the_right_figures(tmp_path: Path, program: str) -> None:
    write(tmp_path / "before", 100)
    # The photos with the label that was the second one have the first one's now.
    write(tmp_path / "now", 100, ("sad", "happy"))
    shown = run(program, tmp_path / "now", tmp_path / "before")

    counts = table(shown, "Photos by status and label")
    now = list(rows(100, ("sad", "happy")))
    for status in ("ok", "unsure"):
        for label in ("happy", "sad"):
            number = sum(r.status == status and r.answer.label == label for r in now if r.answer)
            assert f"{status} {label} {number} " in counts
    assert re.search("failed (NaN|NULL) 10 ", counts)

    least = table(shown, "The least certain")
    lowest = min(row.answer.confidence for row in now if row.answer)
    assert len(re.findall(rf"photos/\d+\.jpg (?:happy|sad) {lowest:.1f} ", least)) == 5

    relabelled = table(shown, "With another label than before")
    changed = re.findall(r"(photos/\d+\.jpg) (\w+) (\w+) ", relabelled)
    assert len(changed) == 90
    assert ("photos/000000.jpg", "happy", "sad") in changed
    assert ("photos/000001.jpg", "sad", "happy") in changed
