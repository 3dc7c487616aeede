"""The version stands in pyproject.toml, and the changelog begins with it."""

from __future__ import annotations

import re
import tomllib

from tests.conftest import REPOSITORY


def test_the_changelog_begins_with_the_version() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    changes = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (.*)$", changes, flags=re.MULTILINE)
    assert heading
    version, _, date = heading[1].partition(", ")
    assert version == project["project"]["version"]
    assert re.fullmatch(r"unreleased|\d{4}-\d{2}-\d{2}", date)


def test_no_module_states_the_version() -> None:
    for program in ("batch", "trainer"):
        for path in (REPOSITORY / program).rglob("*.py"):
            assert "__version__ =" not in path.read_text(encoding="utf-8"), path
