"""SECURITY.md names an existing test for every promise."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import REPOSITORY

SECURITY = (REPOSITORY / "SECURITY.md").read_text(encoding="utf-8")
TABLES = re.findall(r"^\| Promise \| Held by \|\n\| --- \| --- \|\n((?:\|.*\n)+)", SECURITY, re.M)
PROMISES = [row.strip("|\n ").split(" | ") for table in TABLES for row in table.splitlines()]
HOLDERS = sorted({name for _, held in PROMISES for name in re.findall("`([^`]+)`", held)})


def test_every_promise_has_a_holder() -> None:
    assert len(PROMISES) > 20
    for promise, held in PROMISES:
        assert promise.endswith(".")
        assert re.fullmatch(r"`[^`]+`(, `[^`]+`)*", held), promise


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_test_of_a_promise_exists(holder: str) -> None:
    file, _, name = holder.partition("::")
    (path,) = (REPOSITORY / "tests").glob(f"**/{file}")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name in tests if name else any(test.startswith("test_") for test in tests)
