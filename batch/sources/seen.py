"""Which files and folders were reached, so that each is looked at once."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from batch.location import is_url, location_of, split_member


@dataclass
class Seen:
    """What was reached so far, for inputs that overlap and links that meet."""

    files: set[str] = field(default_factory=set)
    folders: set[tuple[int, int]] = field(default_factory=set)
    parent: tuple[str, str] | None = None

    def is_new(self, path: str) -> bool:
        """Tell whether a file is reached for the first time, by whatever path or URL."""
        known = len(self.files)
        self.files.add(self._real_path(path))
        return len(self.files) > known

    def forget(self, path: str) -> None:
        """Take a file for one that was not reached yet."""
        self.files.discard(self._real_path(path))

    def _real_path(self, path: str) -> str:
        member = split_member(path)
        if member:
            # NUL is in no path.
            return f"{self._real_path(os.fspath(location_of(member[0])))}\0{member[1]}"
        if is_url(path):
            return path
        # realpath asks the system about every part of a path: once a folder is enough.
        parent, name = os.path.split(path)
        if self.parent is None or self.parent[0] != parent:
            self.parent = parent, _real(parent)
        return _real(path) if os.path.islink(path) else f"{self.parent[1]}/{name}"  # noqa: PTH114

    def is_new_folder(self, path: str) -> bool:
        """Tell whether a folder is entered for the first time, by whatever path."""
        status = os.stat(path)  # noqa: PTH116
        known = len(self.folders)
        self.folders.add((status.st_dev, status.st_ino))
        return len(self.folders) > known


def _real(path: str) -> str:
    """Follow all links of a path; where the system refuses to, the path stands for itself."""
    try:
        return os.path.realpath(path)
    except OSError:
        return path
