"""A property that is a list of texts, such as keywords."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from batch.errors import SidecarError
from batch.xmp.packet import ARRAYS, LI, RDF, Packet, append_child, qualify, read_text, remove_child

if TYPE_CHECKING:
    from lxml.etree import _Element


class ValueList:
    """The values of a property, in all its elements and attributes.

    XMP asks for one element with an rdf:Bag or rdf:Seq. Programs also write a single keyword as a
    plain text or as an attribute, and these are read too.
    """

    def __init__(self, packet: Packet, name: str, kind: str = "Bag") -> None:
        """Find a property.

        Args:
            packet: the parsed sidecar.
            name: its name with its usual prefix, such as ``dc:subject``.
            kind: ``Bag`` or ``Seq``, for a list that is added.
        """
        self._packet = packet
        self._name = name
        self._tag = qualify(name)
        self._kind = f"{{{RDF}}}{kind}"
        self._values: list[str] | None = None

    def read(self) -> list[str]:
        """Return the values in their order.

        Raises:
            SidecarError: the property is neither a list nor a text.
        """
        if self._values is not None:
            return self._values
        nodes = self._packet.list_descriptions()
        values = [node.get(self._tag, "").strip() for node in nodes]
        for element in self._packet.find_properties(self._tag):
            array = self._get_array(element)
            if array is None:
                values.append(read_text(element))
            else:
                values += [read_text(item) for item in _list_items(array)]
        self._values = [text for text in values if text]
        return self._values

    def change(self, remove: Collection[str] = (), add: Iterable[str] = ()) -> None:
        """Remove all occurrences of some values and append others; the rest stays as it is.

        Raises:
            SidecarError: the property is neither a list nor a text.
        """
        self._values = None
        if remove:
            self._remove(remove)
        new = list(dict.fromkeys(add))
        if new:
            array = self._find_array()
            if array is None:
                array = self._add_array()
            for value in new:
                item = array.makeelement(LI)
                item.text = value
                append_child(array, item)

    def _remove(self, values: Collection[str]) -> None:
        for node in self._packet.list_descriptions():
            if node.get(self._tag, "").strip() in values:
                del node.attrib[self._tag]
        for element in self._packet.find_properties(self._tag):
            array = self._get_array(element)
            if array is None:
                if read_text(element) in values:
                    self._packet.remove_property(element)
                continue
            items = [item for item in _list_items(array) if read_text(item) in values]
            for item in items:
                remove_child(item)
            if not len(array):
                self._packet.remove_property(element)

    def _find_array(self) -> _Element | None:
        arrays = map(self._get_array, self._packet.find_properties(self._tag))
        return next((array for array in arrays if array is not None), None)

    def _add_array(self) -> _Element:
        """Make a list, of a text or attribute if the property is one."""
        found = self._packet.find_properties(self._tag)
        texts = [text for text in map(read_text, found) if text]
        for node in self._packet.list_descriptions():
            if text := node.get(self._tag, "").strip():
                texts.append(text)
                del node.attrib[self._tag]
        for surplus in found[1:]:
            self._packet.remove_property(surplus)
        element = found[0] if found else self._packet.add_property(self._name)
        element.text = None
        array = element.makeelement(self._kind)
        append_child(element, array)
        for text in texts:
            item = array.makeelement(LI)
            item.text = text
            append_child(array, item)
        return array

    def _get_array(self, element: _Element) -> _Element | None:
        """Return the list of a property, None for a plain text."""
        children = list(element.iterchildren("*"))
        if not children:
            return None
        if len(children) > 1 or children[0].tag not in ARRAYS:
            raise SidecarError(
                f"{self._name} is neither a list nor a text",
                "repair it with the program that wrote it",
            )
        return children[0]


def _list_items(array: _Element) -> list[_Element]:
    """List the items that are texts; structures are left alone."""
    return [
        item for item in array.iterchildren(LI) if not any(True for _ in item.iterchildren("*"))
    ]
