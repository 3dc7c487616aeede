"""Face regions of the Metadata Working Group (``mwg-rs:Regions``).

Guidelines for Handling Image Metadata 2.0, section 5.9: areas are normalised, given by their
centre, and relative to the stored picture, before its EXIF orientation is applied. A region of
batch-label has no ``mwg-rs:Name``, because photo managers take that for a person; its
``mwg-rs:Description`` is the path of the keyword, such as ``expression|happy``, by which it is
found again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch.errors import SidecarError
from batch.records import MIN_FACE_OVERLAP, Box
from batch.xmp.keywords import ADDED, CREATED, KEPT, SEPARATOR
from batch.xmp.packet import (
    ARRAYS,
    DESCRIPTION,
    LI,
    RDF,
    Packet,
    add_element,
    append_child,
    qualify,
    read_text,
    remove_child,
)
from batch.xmp.value_list import ValueList

if TYPE_CHECKING:
    from lxml.etree import _Element

_REGIONS = "mwg-rs:Regions"
_PARSE_TYPE = f"{{{RDF}}}parseType"


@dataclass(frozen=True)
class Area:
    """A rectangle in parts of a picture's width and height.

    Attributes:
        x: its centre, from the left.
        y: its centre, from the top.
        width: its width.
        height: its height.
    """

    x: float
    y: float
    width: float
    height: float

    def apply_orientation(self, orientation: int) -> Area:
        """Turn an area of the upright picture into one of the stored picture.

        Args:
            orientation: the EXIF orientation of the stored picture, 1 to 8.
        """
        x, y = self.x, self.y
        match orientation:
            case 2:
                return Area(1 - x, y, self.width, self.height)
            case 3:
                return Area(1 - x, 1 - y, self.width, self.height)
            case 4:
                return Area(x, 1 - y, self.width, self.height)
            case 5:
                return Area(y, x, self.height, self.width)
            case 6:
                return Area(y, 1 - x, self.height, self.width)
            case 7:
                return Area(1 - y, 1 - x, self.height, self.width)
            case 8:
                return Area(1 - y, x, self.height, self.width)
        return self

    def compute_overlap(self, other: Area) -> float:
        """Compute the intersection over union with another area of the same picture."""
        return self._to_box().compute_overlap(other._to_box())

    def to_texts(self) -> dict[str, str]:
        """Write the fields of ``mwg-rs:Area``."""
        sides = {"x": self.x, "y": self.y, "w": self.width, "h": self.height}
        return {name: f"{side:.6f}" for name, side in sides.items()} | {"unit": "normalized"}

    def _to_box(self) -> Box:
        left, top = self.x - self.width / 2, self.y - self.height / 2
        return Box(left, top, self.width, self.height, score=1.0)


@dataclass(frozen=True)
class LabelledArea:
    """A face: its area in the stored picture and the path of its keyword."""

    area: Area
    path: str


class Regions:
    """The face regions of a sidecar."""

    def __init__(self, packet: Packet) -> None:
        """Find the regions in a parsed sidecar.

        Raises:
            SidecarError: they are not as the Metadata Working Group defines them.
        """
        self._packet = packet
        self._created = ValueList(packet, CREATED)
        self._records = [ValueList(packet, name) for name in (ADDED, KEPT, CREATED)]
        found = packet.find_properties(qualify(_REGIONS))
        self._property = found[0] if found else None
        lists = [] if self._property is None else _find_fields(self._property, "mwg-rs:RegionList")
        arrays = [array for field in lists for array in field.iterchildren("*")]
        if len(found) > 1 or len(arrays) > 1 or any(not _is_array(array) for array in arrays):
            raise SidecarError(
                "mwg-rs:Regions is not a list of regions",
                "repair it with the program that wrote it",
            )
        self._array = arrays[0] if arrays else None

    def replace_below(self, root: str, faces: list[LabelledArea], width: int, height: int) -> None:
        """Replace the regions of batch-label.

        A region of someone else is never changed. A face on which one lies gets no second region.
        If a program has given a region of batch-label a name, it is someone else's from then on;
        only the description in it is replaced or removed.

        Args:
            root: the root of the keywords.
            faces: the new regions; empty to remove those that are there.
            width: width of the stored picture in pixels.
            height: its height.
        """
        own: list[_Element] = []
        foreign: list[_Element] = []
        for item in self._list_items():
            described, named = _is_described(item, root), _is_named(item)
            (own if described and not named else foreign).append(item)
            if described and named:
                self._update_description(item, faces)
        taken = [area for item in foreign if (area := _read_area(item)) is not None]
        wanted = [
            face
            for face in faces
            if all(face.area.compute_overlap(area) < MIN_FACE_OVERLAP for area in taken)
        ]
        # digiKam stops reading at the first region without a name, so those come last.
        are_last = self._list_items() == [*foreign, *own]
        if are_last and [_read_face(item) for item in own] == [_write_face(f) for f in wanted]:
            return
        for item in own:
            remove_child(item)
        if wanted:
            array = self._find_or_add_array(width, height)
            for face in wanted:
                append_child(array, array.makeelement(LI))
                _write_region(array[-1], face)
        elif not foreign and own:
            self._remove_empty()

    def relabel_below(self, root: str, keywords: tuple[str, ...]) -> None:
        """Bring the descriptions of regions up to date, for which only keywords are known.

        A description that is not one of the keywords is replaced if there is only one keyword.
        Else it is not known which face has which: the region is removed, or if it has a name, only
        the description in it.

        Args:
            root: the root of the keywords.
            keywords: the keywords of the photo, without the root.
        """
        paths = [f"{root}{SEPARATOR}{keyword}" for keyword in keywords]
        for item in self._list_items():
            if not _is_described(item, root) or _read_field(item, "mwg-rs:Description") in paths:
                continue
            if len(paths) == 1 or _is_named(item):
                _set_field(item, "mwg-rs:Description", paths[0] if len(paths) == 1 else None)
                continue
            remove_child(item)
            if not self._list_items():
                self._remove_empty()

    def _list_items(self) -> list[_Element]:
        return [] if self._array is None else list(self._array.iterchildren(LI))

    def _update_description(self, item: _Element, faces: list[LabelledArea]) -> None:
        area = _read_area(item)
        paths = [
            face.path
            for face in faces
            if area is not None and face.area.compute_overlap(area) >= MIN_FACE_OVERLAP
        ]
        _set_field(item, "mwg-rs:Description", paths[0] if paths else None)

    def _find_or_add_array(self, width: int, height: int) -> _Element:
        if self._property is None:
            self._property = self._packet.add_property(_REGIONS)
            self._property.set(_PARSE_TYPE, "Resource")
            sides = {"w": str(width), "h": str(height), "unit": "pixel"}
            _add_struct(self._property, "mwg-rs:AppliedToDimensions", "stDim", sides)
            self._created.change(add=[_REGIONS])
        if self._array is None:
            holder = _find_holder(self._property)
            if holder is self._property:
                holder.set(_PARSE_TYPE, "Resource")
            lists = _find_fields(self._property, "mwg-rs:RegionList")
            field = lists[0] if lists else add_element(holder, "mwg-rs:RegionList")
            self._array = _add_bag(field)
        return self._array

    def _remove_empty(self) -> None:
        """Remove the property, unless it is on record that it was there before."""
        is_recorded = any(record.read() for record in self._records)
        if self._property is not None and (_REGIONS in self._created.read() or not is_recorded):
            self._packet.remove_property(self._property)
            self._created.change({_REGIONS})


def _find_holder(element: _Element) -> _Element:
    """Return the element whose attributes and children are the fields of a structure.

    It is the element itself with ``rdf:parseType="Resource"`` or with attributes only, else the
    ``rdf:Description`` in it.
    """
    inner = element.find(DESCRIPTION)
    return element if inner is None else inner


def _find_fields(element: _Element, name: str) -> list[_Element]:
    return list(_find_holder(element).iterchildren(qualify(name)))


def _read_field(element: _Element, name: str) -> str | None:
    """Read a text of a structure, None if it is missing."""
    attribute = _find_holder(element).get(qualify(name))
    fields = _find_fields(element, name)
    return attribute if attribute is not None or not fields else read_text(fields[0])


def _is_described(item: _Element, root: str) -> bool:
    """Return whether a region has a description below a root."""
    return (_read_field(item, "mwg-rs:Description") or "").startswith(root + SEPARATOR)


def _is_named(item: _Element) -> bool:
    return bool(_read_field(item, "mwg-rs:Name"))


def _set_field(element: _Element, name: str, text: str | None) -> None:
    """Replace a text that a structure has, or remove it."""
    holder = _find_holder(element)
    if qualify(name) in holder.attrib:
        if text is None:
            del holder.attrib[qualify(name)]
        else:
            holder.set(qualify(name), text)
    for field in _find_fields(element, name):
        if text is None:
            remove_child(field)
        elif read_text(field) != text:
            field[:] = []
            field.text = text


def _read_area(item: _Element) -> Area | None:
    """Read the area of a face, None for other regions and for areas that can't be compared."""
    if _read_field(item, "mwg-rs:Type") not in (None, "Face"):
        return None
    texts = _read_texts(item)
    try:
        sides = [float(texts[name]) for name in ("x", "y", "w", "h")]
    except (KeyError, ValueError):
        return None
    if texts.get("unit", "normalized") != "normalized" or not all(map(math.isfinite, sides)):
        return None
    return Area(*sides)


def _read_face(item: _Element) -> tuple[dict[str, str] | None, str | None]:
    area = _read_area(item)
    return None if area is None else area.to_texts(), _read_field(item, "mwg-rs:Description")


def _write_face(face: LabelledArea) -> tuple[dict[str, str] | None, str | None]:
    return face.area.to_texts(), face.path


def _read_texts(item: _Element) -> dict[str, str]:
    fields = _find_fields(item, "mwg-rs:Area")
    names = ("x", "y", "w", "h", "unit")
    found = {name: _read_field(fields[0], f"stArea:{name}") for name in names if fields}
    return {name: text for name, text in found.items() if text is not None}


def _write_region(item: _Element, face: LabelledArea) -> None:
    item.set(_PARSE_TYPE, "Resource")
    _add_struct(item, "mwg-rs:Area", "stArea", face.area.to_texts())
    add_element(item, "mwg-rs:Type").text = "Face"
    add_element(item, "mwg-rs:Description").text = face.path


def _add_struct(parent: _Element, name: str, prefix: str, texts: dict[str, str]) -> None:
    struct = add_element(parent, name)
    struct.set(_PARSE_TYPE, "Resource")
    for field, text in texts.items():
        add_element(struct, f"{prefix}:{field}").text = text


def _add_bag(parent: _Element) -> _Element:
    bag = parent.makeelement(f"{{{RDF}}}Bag")
    append_child(parent, bag)
    return bag


def _is_array(element: _Element) -> bool:
    return element.tag in ARRAYS
