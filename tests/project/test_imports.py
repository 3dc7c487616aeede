"""The import graph of batch/ and trainer/ against the order that docs/architecture.md states."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PROGRAMS = ("batch",)

DOCUMENT = REPOSITORY / "docs" / "architecture.md"


def modules(program: str, root: Path = REPOSITORY) -> dict[str, Path]:
    """Map the dotted names of a program's modules to their files."""
    found = {}
    for path in sorted((root / program).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, known: set[str]) -> Iterator[str]:
    """Yield the known modules that a source imports, late and for typing too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                yield submodule if submodule in known else node.module


def graph(program: str, root: Path = REPOSITORY) -> dict[str, set[str]]:
    """Draw the import graph: each module with the modules of its own program that it imports."""
    files = modules(program, root)
    known = set(files)
    return {
        module: set(imports(path.read_text(encoding="utf-8"), known)) - {module}
        for module, path in files.items()
    }


def unit(module: str) -> str:
    """Name the package or top-level module of a program that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def layers(program: str) -> list[list[str]]:
    """Read the layers of a program from the document, the lowest first."""
    text = DOCUMENT.read_text(encoding="utf-8")
    (block,) = re.findall(rf"```text {program}\n(.*?)```", text, flags=re.DOTALL)
    return [line.split() for line in reversed(block.strip().splitlines())]


def arrows_against(order: list[list[str]], edges: dict[str, set[str]]) -> list[str]:
    """List imports of another unit that does not lie on a lower layer."""
    rank = {name: number for number, layer in enumerate(order) for name in layer}
    return sorted(
        f"{module} imports {other}"
        for module, others in edges.items()
        for other in others
        if unit(module) != unit(other) and rank[unit(other)] >= rank[unit(module)]
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_import_goes_against_the_stated_order(program: str) -> None:
    assert arrows_against(layers(program), graph(program)) == []


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_stated_order_has_each_unit_once(program: str) -> None:
    stated = [name for layer in layers(program) for name in layer]

    assert sorted(stated) == sorted({unit(module) for module in modules(program)})


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_modules_import_each_other(program: str) -> None:
    try:
        TopologicalSorter(graph(program)).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' <- '.join(error.args[1])}")


def test_batch_imports_neither_the_trainer_nor_pytorch() -> None:
    for path in modules("batch").values():
        names = {
            name.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not names & {"torch", "trainer"}, path


def test_an_arrow_upwards_and_a_late_import_are_found(tmp_path: Path) -> None:
    package = tmp_path / "batch"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "low.py").write_text("def f() -> None:\n    from batch.high import g\n")
    (package / "high.py").write_text("from batch import low\n")

    edges = graph("batch", tmp_path)

    assert arrows_against([["low"], ["high"]], edges) == ["batch.low imports batch.high"]
    with pytest.raises(CycleError):
        TopologicalSorter(edges).prepare()
