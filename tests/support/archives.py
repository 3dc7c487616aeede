"""Helpers for tests of archives: pack photos, then list the members that are found."""

from __future__ import annotations

import tarfile
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path

from batch.discovery.discover import Discovery
from batch.options import Search


def pack_zip(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder.parent))
    return archive


def pack_tar(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.add(path, path.relative_to(folder.parent), recursive=False)
    return archive


def add_member(
    tar: tarfile.TarFile, name: str, kind: bytes = tarfile.REGTYPE, target: str = ""
) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    info.size = 3 if kind == tarfile.REGTYPE else 0
    tar.addfile(info, BytesIO(b"abc"))


def find_members(archive: Path, skipped: Counter[str]) -> list[str]:
    """Return the names of members found, each with the reason if it can't be read."""
    found = Discovery(
        [str(archive)],
        Search(),
        on_skip=lambda path, why: skipped.update([why]),
    )
    return [
        file.path.partition("::")[0].partition("://")[2]
        + (f"!{file.failure.reason}" if file.failure else "")
        for file in found
    ]
