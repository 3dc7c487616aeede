"""The documents agree with the code, and their links resolve."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch.cli.default_command import DEFAULT_COMMAND, RESERVED_COMMANDS
from batch.cli.main import cli
from batch.errors import EXIT_MEANINGS
from batch.explaining.explainer import MAX_FACES
from batch.explaining.occlusion import SPOT_WIDTH, SPOTS_PER_SIDE
from batch.explaining.picture import MIN_SCALE
from batch.log import PROGRAM
from batch.models.shipped import list_shipped_models
from batch.options import MAX_FILE_BYTES, MAX_PIXELS
from batch.vision.faces import (
    CLOSE_SIDE,
    FIRST_GLANCE_SIDE,
    GLANCE_SIDE,
    MIN_GLANCE_FACE_SIDE,
    MIN_GLANCE_SCORE,
    MIN_SCORE,
)
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
USAGE = (REPOSITORY / "docs" / "usage.md").read_text(encoding="utf-8")
ARCHITECTURE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")
DOCUMENTS = [
    *REPOSITORY.glob("*.md"),
    *(
        path
        for folder in ("docs", "examples", "models")
        for path in REPOSITORY.glob(f"{folder}/*.md")
    ),
]


def _unwrapped(text: str) -> str:
    return " ".join(text.split())


def test_usage_shows_the_help_word_for_word() -> None:
    # What a terminal of 100 columns shows: click leaves two of them free.
    help_text = CliRunner().invoke(cli, ["--help"], prog_name=PROGRAM, terminal_width=98).output
    shown = [line[4:] for line in USAGE.splitlines() if line.startswith("    ") or not line]
    assert help_text.strip() in "\n".join(shown)


@pytest.mark.parametrize(
    ("name", "document"), [("apply", "apply.md"), ("explain", "explain.md"), ("model", "models.md")]
)
def test_documents_show_the_help_of_other_commands(name: str, document: str) -> None:
    ran = CliRunner().invoke(cli, [name, "--help"], prog_name=PROGRAM, terminal_width=98)
    text = (REPOSITORY / "docs" / document).read_text(encoding="utf-8")
    shown = [line[4:] for line in text.splitlines() if line.startswith("    ") or not line]
    assert ran.output.strip() in "\n".join(shown)


def test_explain_names_the_numbers_of_the_code() -> None:
    text = _unwrapped((REPOSITORY / "docs" / "explain.md").read_text(encoding="utf-8"))
    assert f"{SPOTS_PER_SIDE} x {SPOTS_PER_SIDE} spots" in text
    assert (SPOT_WIDTH, "A spot is a quarter of the view wide" in text) == (0.25, True)
    assert f"the {MAX_FACES} largest faces" in text
    assert (MIN_SCALE, "half a unit of log-odds at least" in text) == (0.5, True)


def test_usage_names_the_reserved_commands() -> None:
    (name,) = RESERVED_COMMANDS
    assert f"The name `{name}` is reserved for a future command" in _unwrapped(USAGE)


def test_usage_lists_every_command() -> None:
    listed = set(re.findall(r"^\| `batch-label ([a-z]+)", USAGE, flags=re.MULTILINE))
    assert listed == set(cli.commands) - {DEFAULT_COMMAND, "help"}


def test_usage_names_the_limits_of_the_code() -> None:
    text = _unwrapped(USAGE)
    assert f"{MAX_PIXELS // 1_000_000} million pixels" in text
    assert f"more than {MAX_FILE_BYTES // 1024**2} MiB" in text
    assert f"scores less than {MIN_SCORE} is no face" in text
    assert f"with the photo's longer side at {FIRST_GLANCE_SIDE} pixels or less" in text
    assert f"glances again, at {GLANCE_SIDE} pixels or less" in text
    assert f"the largest scores {MIN_GLANCE_SCORE} or more" in text
    assert f"each of {MIN_GLANCE_FACE_SIDE} pixels or more" in text
    assert f"looks closely, at {CLOSE_SIDE} pixels" in text


def test_the_readme_lists_the_shipped_models() -> None:
    listed = set(re.findall(r"^\| `([a-z-]+)`", README, flags=re.MULTILINE))
    assert listed == set(list_shipped_models())


def test_the_readme_s_exit_codes_exist() -> None:
    codes = re.search(r"exit code is for the scheduler: (.*?)\[", README, flags=re.DOTALL)
    assert codes
    numbers = {int(number) for number in re.findall(r"\b\d+\b", codes.group(1))}
    assert numbers <= {int(code) for code in EXIT_MEANINGS}


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for command in re.findall(r"^(?:    |`)make ([a-z -]+)", text, flags=re.MULTILINE):
            assert set(command.split()) <= targets, f"{document.name}: make {command}"


@pytest.mark.parametrize("program", ["batch"])
def test_architecture_names_every_package(program: str) -> None:
    named = set(re.findall(r"`(\w+/)`", ARCHITECTURE))
    packages = {f"{path.parent.name}/" for path in (REPOSITORY / program).glob("*/__init__.py")}
    assert packages <= named


def test_architecture_names_modules_that_exist() -> None:
    programs = [REPOSITORY / program for program in ("batch", "trainer")]
    for name in re.findall(r"`([\w/]+\.py)`", ARCHITECTURE):
        assert any(list(program.glob(f"**/{name}")) for program in programs), name


def test_contributing_names_files_that_exist() -> None:
    text = (REPOSITORY / "docs" / "contributing.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:batch|tests|trainer)/[\w/.]+)`", text))
    assert len(named) > 30
    for name in named:
        assert (REPOSITORY / name).exists(), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_table_is_cut(document: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.M | re.S)
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        head, dashes, *rows = [re.split(r"(?<!\\)\|", line) for line in table.splitlines()]
        assert all(re.fullmatch(" *:?-+:? *", cell) for cell in dashes[1:-1]), head
        for row in (dashes, *rows):
            assert len(row) == len(head), row
    # Lines around a table are not part of it, nor does one begin within a paragraph.
    assert not re.search(r"^[^|\n].*\n\|", text, flags=re.M)
    assert not re.search(r"^\|.*\n[^|\n]", text, flags=re.M)


def _anchors(document: Path) -> set[str]:
    """Build the anchors of a document's headings as GitHub and MkDocs do."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_their_anchors_resolve(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", document.read_text(encoding="utf-8"))
    for target, anchor in links:
        if target.startswith("http"):
            continue
        path = document.parent / target if target else document
        assert path.exists(), target
        if anchor:
            assert anchor in _anchors(path), f"{target}#{anchor}"
