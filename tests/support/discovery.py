"""Helpers for tests of discovery: write files, then list what is found and what is skipped."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batch.discovery.discover import discover
from batch.options import Search
from batch.records import Failure, Stage

NOBODY = 65534


JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0"


def put(*names: str, content: bytes = JPEG) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def find(*inputs: str, search: Search = Search(), listing: bytes | None = None) -> list[str]:  # noqa: B008
    """Paths as text, failures as 'path!reason'."""
    stream = None if listing is None else io.BytesIO(listing)
    found = []
    for item in discover(inputs, search, listing=stream):
        if isinstance(item, Failure):
            assert item.stage is Stage.READ
            found.append(f"{item.path}!{item.reason}")
        else:
            found.append(str(item))
    return found


def find_skipped(*inputs: str, search: Search = Search()) -> dict[str, str]:  # noqa: B008
    told: dict[str, str] = {}
    for _ in discover(inputs, search, on_skip=lambda path, why: told.update({str(path): why})):
        pass
    return told


@contextmanager
def without_privileges(folder: Path) -> Iterator[None]:
    """Drop root's power to read everything, for as long as the block lasts."""
    folder.chmod(0o755)
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
