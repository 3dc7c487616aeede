"""Patterns match as in a shell, and skip what a walk of a folder skips."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from batch.options import Search
from tests.support.discovery import find, find_skipped, put, without_privileges


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_pattern_ends_where_links_loop() -> None:
    put("a/x.jpg")
    Path("a/one").symlink_to(".")
    Path("a/two").symlink_to(".")
    assert find("a/**/x.jpg") == ["a/x.jpg"]


def test_a_file_with_the_name_of_the_pattern_takes_precedence() -> None:
    put("a[1].jpg", "a1.jpg")
    assert find("a[1].jpg") == ["a[1].jpg"]


def test_patterns() -> None:
    put("a/1.jpg", "a/2.png", "a/b/3.jpg", "a/.c/4.jpg", "a/d.jpg/5.png")
    assert find("a/*.jpg") == ["a/1.jpg", "a/d.jpg/5.png"]
    assert find("a/**/*.jpg") == ["a/1.jpg", "a/b/3.jpg", "a/d.jpg/5.png"]
    assert find("a/[12].*") == ["a/1.jpg", "a/2.png"]
    assert find("a/?/3.jpg") == ["a/b/3.jpg"]
    assert find(str(Path("a/*.png").absolute())) == [str(Path("a/2.png").absolute())]


@pytest.mark.parametrize("pattern", ["g/*/a.jpg", "g/**/a.jpg", "g/*/*.jpg", "l/*/a.jpg"])
def test_an_unreadable_folder_is_a_failure_of_any_pattern(tmp_path: Path, pattern: str) -> None:
    put("g/open/a.jpg", "g/secret/a.jpg")
    Path("l").mkdir()
    for name in ("open", "secret"):
        Path("l", name).symlink_to(f"../g/{name}")
    Path("g/secret").chmod(0)
    top = pattern[0]
    try:
        with without_privileges(tmp_path):
            found = find(pattern)
    finally:
        Path("g/secret").chmod(0o755)
    assert found == [f"{top}/open/a.jpg", f"{top}/secret!unreadable"]


def test_a_name_that_the_system_refuses_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    put("g/1/a.jpg", "g/1/b.jpg")
    long = "x" * 300
    assert find(f"g/*/{long}") == [f"g/1/{long}!unreadable"]


def test_entries_that_are_not_files_are_skipped_as_in_a_folder() -> None:
    put("g/a.jpg", "far.jpg")
    os.mkfifo("g/pipe.jpg")
    Path("g/gone.jpg").symlink_to("nowhere")
    Path("g/self.jpg").symlink_to("self.jpg")
    Path("g/null.jpg").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("g/socket.jpg")
    expected = {
        **dict.fromkeys(("g/pipe.jpg", "g/socket.jpg"), "not a regular file"),
        **dict.fromkeys(("g/gone.jpg", "g/self.jpg", "g/null.jpg"), "symbolic link"),
    }
    for inputs in ("g", "g/*.jpg", "?/*"):
        assert find(inputs) == ["g/a.jpg"]
        assert find_skipped(inputs) == expected
    for name, why in expected.items():
        assert find_skipped(f"?/{name[2:]}") == {name: why}
    assert find("g/pipe.jpg") == ["g/pipe.jpg!not_a_file"]
    followed = Search(follow_symlinks=True)
    for inputs in ("g", "g/*.jpg"):
        rows = ["g/a.jpg", "g/gone.jpg!vanished", "g/self.jpg!unreadable"]
        assert find(inputs, search=followed) == rows
        assert find_skipped(inputs, search=followed) == dict.fromkeys(
            ("g/null.jpg", "g/pipe.jpg", "g/socket.jpg"), "not a regular file"
        )


def test_a_link_that_a_pattern_matches_is_followed_as_by_a_shell() -> None:
    put("far/a.jpg")
    Path("g").mkdir()
    Path("g/a.jpg").symlink_to("../far/a.jpg")
    Path("g/far").symlink_to("../far")
    assert find("g/*.jpg") == ["g/a.jpg"]
    assert find("g/*/a.jpg") == ["g/far/a.jpg"]
