"""Lists of paths in files and on standard input."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.discovery import find, put


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_lists() -> None:
    put("a.jpg", "b.jpg", "sub/c.jpg")
    expected = ["b.jpg", "lost.jpg!vanished", "sub/c.jpg", "a.jpg"]
    assert find("-", listing=b"b.jpg\nlost.jpg\n\nsub/\r\na.jpg") == expected
    assert find("-", listing=b"b.jpg\0lost.jpg\0\0sub/\0a.jpg\0") == expected
    assert find("-", listing=b"") == []
    put("cr.jpg\r", "two\nlines.jpg")
    assert find("-", listing=b"cr.jpg\r\0two\nlines.jpg\0") == ["cr.jpg\r", "two\nlines.jpg"]


def test_a_list_file_is_read_like_a_piped_list(tmp_path: Path) -> None:
    put("a.jpg", "sub/b.jpg", "sub/c.jpg")
    listing = "sub/\ngone.jpg\na.jpg\n"
    Path("sub/list.txt").write_text(listing, encoding="utf-16")
    Path("more.LST").write_text("a.jpg\n")
    expected = ["sub/b.jpg", "sub/c.jpg", "gone.jpg!vanished", "a.jpg"]
    assert find("sub/list.txt") == find("sub/list.txt", "more.LST") == expected
    assert find(Path("sub/list.txt").absolute().as_uri()) == expected
    assert find("-", listing=listing.encode()) == expected
    # A photo with a list's suffix is not a list.
    Path("photo.txt").write_bytes(b"\xff\xd8\xff\xe0")
    assert find("photo.txt") == ["photo.txt"]
