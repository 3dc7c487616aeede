"""Files that appear or change between a plan and its operation are not replaced."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.applying.transfer import UNWRITABLE, How, Refusal, copy, link, move, write


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"photo")
    return path


@pytest.mark.parametrize("action", ["copy", "move", How.HARD, How.SYMBOLIC])
def test_a_file_that_has_just_appeared_is_not_replaced(photo: Path, action: str) -> None:
    target, draft = photo.with_name("target.jpg"), photo.with_name("draft")
    target.write_bytes(b"others")
    digest = hashlib.sha256(b"photo").digest()

    actions: dict[str, Callable[[], None]] = {
        "copy": lambda: copy(photo, draft, target, digest),
        "move": lambda: move(photo, draft, target, digest),
        How.HARD: lambda: link(photo, target, How.HARD, digest),
        How.SYMBOLIC: lambda: link(photo, target, How.SYMBOLIC, digest),
    }
    with pytest.raises(Refusal) as refused:
        actions[action]()

    assert (refused.value.reason, "File exists" in refused.value.detail) == (UNWRITABLE, True)
    assert (photo.read_bytes(), target.read_bytes()) == (b"photo", b"others")
    assert not draft.exists()


@pytest.mark.parametrize(("expected", "now"), [(None, b"new"), (b"before", b"changed")])
def test_a_sidecar_that_has_just_changed_is_not_replaced(
    tmp_path: Path, expected: bytes | None, now: bytes
) -> None:
    sidecar = tmp_path / "a.xmp"
    sidecar.write_bytes(now)

    with pytest.raises(Refusal, match="changed by another program meanwhile"):
        write(tmp_path / "draft", sidecar, b"ours", expected)

    assert sidecar.read_bytes() == now
    assert not (tmp_path / "draft").exists()
