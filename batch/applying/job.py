"""What to do with which photos of a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from batch.applying.selection import Selection
from batch.applying.transfer import How
from batch.files.publish import resolve_path
from batch.location import Location, parse_location
from batch.options import SidecarOptions


@dataclass(frozen=True)
class ApplyJob:
    """What to do with which photos of a report.

    Attributes:
        report: path or URL of the report.
        state_folder: folder for what was done, if the report is at a URL.
        photos: base folder of the relative paths in the report.
        selection: which rows match.
        copy_to: copy photos into this folder.
        move_to: move photos into this folder.
        link_to: link photos into this folder.
        link: the kind of link.
        flat: without the sub-folders in which the photos are.
        sidecars: write labels into sidecars; None for not.
        list_to: write a list of the photos to this file, or ``-``.
        null: separate the paths in the list by NUL.
        prune: remove what was made for photos that do not match any more.
        execute: do it; otherwise only plan it.
        follows_run: a run has just published the report: its photos need not be read, and nothing
            is done if the same file was applied completely before.
    """

    report: str
    state_folder: Path
    photos: Path = Path()
    selection: Selection = field(default_factory=Selection)
    copy_to: Path | None = None
    move_to: Path | None = None
    link_to: Path | None = None
    link: How = How.SYMBOLIC
    flat: bool = False
    sidecars: SidecarOptions | None = None
    list_to: str | None = None
    null: bool = False
    prune: bool = False
    execute: bool = False
    follows_run: bool = False

    @property
    def location(self) -> Location:
        """The report."""
        return parse_location(self.report)

    @property
    def folders(self) -> list[tuple[Path, How | None]]:
        """The folders to fill, and how; None to move photos."""
        given = ((self.copy_to, How.COPY), (self.link_to, self.link), (self.move_to, None))
        return [(make_absolute(root), how) for root, how in given if root is not None]


def make_absolute(path: Path) -> Path:
    """Return the absolute path of a file, without following links to it or to its folders.

    Only ``..`` after a link is replaced by the folder that it leads to. After a folder that does
    not exist, it stays.
    """
    absolute = path.absolute()
    if ".." not in absolute.parts:
        return absolute
    found = Path(absolute.anchor)
    for part in absolute.parts[1:]:
        if part != "..":
            found /= part
        elif not found.is_dir():
            return absolute
        else:
            found = (resolve_path(found) if found.is_symlink() else found).parent
    return found
