"""What a sidecar gets: keywords below a root, and the face regions they belong to."""

from __future__ import annotations

import math
from dataclasses import dataclass

from batch.errors import SidecarError
from batch.path_text import is_printable, printable_text
from batch.xmp.keywords import SEPARATOR, Keywords
from batch.xmp.packet import Packet
from batch.xmp.regions import Area, LabelledArea, Regions


@dataclass(frozen=True)
class FaceRegion:
    """A face in pixels of the upright photo.

    Attributes:
        label: its keyword, such as ``happy`` or ``neither``.
        left: left edge.
        top: top edge.
        width: width.
        height: height.
    """

    label: str
    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True)
class SidecarContent:
    """What a sidecar says about a photo.

    Attributes:
        keywords: keywords below the root; empty to remove those that are there.
        root: the keyword above them; ``|`` separates its levels.
        faces: the faces, empty to remove the regions of batch-label; None adds none, and
            only brings the descriptions of those that are there up to date.
        width: width of the upright photo in pixels.
        height: its height.
        orientation: EXIF orientation of the photo file, 1 to 8, as regions are relative to the
            stored picture.
    """

    keywords: tuple[str, ...]
    root: str
    faces: tuple[FaceRegion, ...] | None
    width: int
    height: int
    orientation: int = 1


def update_sidecar(existing: bytes | None, content: SidecarContent) -> bytes:
    """Write keywords and face regions into a sidecar and keep everything else in it.

    Args:
        existing: the sidecar, None to make one.
        content: what it says from now on. It replaces what batch-label has written before.

    Returns:
        the sidecar in UTF-8; the same bytes if nothing changes.

    Raises:
        SidecarError: the sidecar is too large, damaged or not XMP, or a keyword, the root or the
            size of the photo can't be written.
        UsageError: lxml is not installed.
    """
    _check_root(content.root)
    labels = () if content.faces is None else tuple(face.label for face in content.faces)
    for keyword in (*content.keywords, *labels):
        _check_keyword(keyword)
    packet = Packet(existing)
    # The regions first: they read the record, which the keywords change.
    if content.faces is None:
        Regions(packet).relabel_below(content.root, content.keywords)
    else:
        faces = [found for face in content.faces if (found := _locate(face, content)) is not None]
        sides = content.width, content.height
        width, height = sides if content.orientation < 5 else sides[::-1]
        Regions(packet).replace_below(content.root, faces, width, height)
    Keywords(packet).replace_below(content.root, tuple(dict.fromkeys(content.keywords)))
    return packet.write()


def remove_content(existing: bytes, root: str) -> bytes | None:
    """Remove what ``update_sidecar`` has written below a root.

    Returns:
        the sidecar; the same bytes if it had nothing of batch-label. None if no property and no
        comment is left, so that the file may be deleted.

    Raises:
        SidecarError: the sidecar is too large, damaged or not XMP, or the root can't be a keyword.
        UsageError: lxml is not installed.
    """
    _check_root(root)
    packet = Packet(existing)
    Regions(packet).replace_below(root, [], 0, 0)
    Keywords(packet).replace_below(root, ())
    return None if packet.is_empty() else packet.write()


def _locate(face: FaceRegion, content: SidecarContent) -> LabelledArea | None:
    """Place a face in the stored picture, cut at its edges; None if it lies outside."""
    if not (content.width > 0 and content.height > 0 and content.orientation in range(1, 9)):
        raise SidecarError(
            f"a photo of {content.width} x {content.height} pixels with EXIF orientation"
            f" {content.orientation} has no face regions",
            "label the photo again",
        )
    edges = (
        face.left / content.width,
        face.top / content.height,
        (face.left + face.width) / content.width,
        (face.top + face.height) / content.height,
    )
    if not all(map(math.isfinite, edges)):
        return None
    left, top, right, bottom = (min(max(edge, 0.0), 1.0) for edge in edges)
    if left >= right or top >= bottom:
        return None
    area = Area((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    path = f"{content.root}{SEPARATOR}{face.label}"
    return LabelledArea(area.apply_orientation(content.orientation), path)


def _check_root(root: str) -> None:
    for level in root.split(SEPARATOR):
        _check_keyword(level)


def _check_keyword(keyword: str) -> None:
    """Reject a text that programs would split into levels, trim or not show."""
    if not keyword.strip() or keyword != keyword.strip() or not is_printable(keyword):
        reason = "is empty, begins or ends with a space, or has characters that can't be shown"
    elif SEPARATOR in keyword or "/" in keyword:
        reason = "has | or /, which separate levels of keywords"
    else:
        return
    shown = printable_text(keyword)[:100]
    raise SidecarError(f"the keyword '{shown}' {reason}", "choose another label or root")
