"""An XMP packet as a tree: parsing with limits, editing in its own layout, writing.

XMP is RDF in XML (ISO 16684-1). A sidecar is untrusted input, so the parser loads and expands
nothing: a document type declaration, and with it every entity, is refused before it starts.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from batch.errors import SidecarError, UsageError
from batch.path_text import printable_text

if TYPE_CHECKING:
    from types import ModuleType

    from lxml.etree import _Element

MAX_SIDECAR_BYTES = 16_777_216
# Bounds the memory of the tree: a tag of four bytes takes more than a hundred bytes in it.
MAX_SIDECAR_TAGS = 200_000

# The usual prefixes of the namespaces in which properties are added.
NAMESPACES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "mwg-rs": "http://www.metadataworkinggroup.com/schemas/regions/",
    "stArea": "http://ns.adobe.com/xmp/sType/Area#",
    "stDim": "http://ns.adobe.com/xap/1.0/sType/Dimensions#",
    # What batch-label records about its own additions.
    "batchlabel": "urn:batch-label:xmp:1.0/",
}
RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
DESCRIPTION = f"{{{RDF}}}Description"
ABOUT = f"{{{RDF}}}about"
LI = f"{{{RDF}}}li"
ARRAYS = tuple(f"{{{RDF}}}{kind}" for kind in ("Bag", "Seq", "Alt"))

# As readers expect it: a byte order mark, and the identifier of all XMP packets.
_EMPTY_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="batch-label">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""
# What may stand before the first tag: white space, the XML declaration, other instructions, and
# comments. No document type declaration.
_PROLOG = re.compile(r"(?:\s++|<\?.*?\?>|<!--.*?-->)*+", re.DOTALL)
_DECLARED_ENCODING = re.compile(r"""(<\?xml\s[^>]*?\bencoding\s*=\s*["'])[\w.-]+""")
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
}
_REMEDY = "restore it from a backup, or move it away and a new one is written"


class Packet:
    """A parsed sidecar.

    Attributes:
        rdf: the element ``rdf:RDF``.
    """

    def __init__(self, data: bytes | None) -> None:
        """Parse a sidecar; None makes an empty one.

        Raises:
            SidecarError: it is empty, too large, damaged or not XMP.
            UsageError: lxml is not installed.
        """
        etree = _import_etree()
        self._given = data
        text = _EMPTY_PACKET if data is None else _decode(data)
        self._prolog, body = _split_prolog(text)
        self._ends_line = text.endswith("\n")
        parser = etree.XMLParser(
            encoding="utf-8",
            resolve_entities=False,
            load_dtd=False,
            no_network=True,
            huge_tree=False,
            strip_cdata=False,
        )
        try:
            self._root: _Element = etree.fromstring(body.encode(), parser)
        except etree.XMLSyntaxError as error:
            # The body begins behind the prolog, so the line is counted again.
            line = self._prolog.count("\n") + (error.lineno or 1)
            problem = printable_text(str(error.msg))[:200]
            raise SidecarError(f"damaged XML in line {line}: {problem}", _REMEDY) from error
        found = list(self._root.iter(f"{{{RDF}}}RDF"))
        if len(found) != 1:
            count = "no" if not found else "more than one"
            raise SidecarError(f"not an XMP sidecar: {count} rdf:RDF element", _REMEDY)
        self.rdf = found[0]
        self._unchanged = self._write_root()
        self._own: _Element | None = None

    def write(self) -> bytes:
        """Write the packet in UTF-8; the bytes that were read if nothing changed."""
        root = self._write_root()
        if self._given is not None and root == self._unchanged:
            return self._given
        etree = _import_etree()
        following = [
            etree.tostring(node, encoding="unicode", with_tail=False)
            for node in self._root.itersiblings()
        ]
        prolog = _DECLARED_ENCODING.sub(r"\1UTF-8", self._prolog, count=1)
        mark = codecs.BOM_UTF8 if (self._given or b"").startswith(codecs.BOM_UTF8) else b""
        end = "\n" if self._ends_line else ""
        return mark + ("\n".join([prolog + root, *following]) + end).encode()

    def is_empty(self) -> bool:
        """Return whether the packet has neither a property nor a comment."""
        comment = _import_etree().Comment
        if "<!--" in self._prolog or any(True for _ in self._root.iter(comment)):
            return False
        if any(node.tag is comment for node in self._root.itersiblings()):
            return False
        if self._root is not self.rdf and list(self._root) != [self.rdf]:
            return False
        return all(child.tag == DESCRIPTION and _is_bare(child) for child in self.rdf)

    def list_descriptions(self) -> list[_Element]:
        """List the elements whose attributes and children are the properties of the photo."""
        return list(self.rdf.iterchildren(DESCRIPTION))

    def find_properties(self, tag: str) -> list[_Element]:
        """List the elements of a property; those in the form of attributes are not among them."""
        return [child for node in self.list_descriptions() for child in node.iterchildren(tag)]

    def add_property(self, name: str) -> _Element:
        """Add an empty property, such as ``dc:subject``, to the description of batch-label."""
        if self._own is None or self._own.getparent() is None:
            found = self._find_own()
            self._own = self._add_description() if found is None else found
        return add_element(self._own, name)

    def remove_property(self, element: _Element) -> None:
        """Remove a property, and its description if that was its last one."""
        node = element.getparent()
        remove_child(element)
        if node is not None and _is_bare(node):
            remove_child(node)

    def _find_own(self) -> _Element | None:
        for node in self.list_descriptions():
            if any(str(child.tag).startswith(qualify("batchlabel:")) for child in node):
                return node
        return None

    def _add_description(self) -> _Element:
        # All descriptions of a packet are about the same photo, mostly named "".
        names = [node.get(ABOUT, node.get("about")) for node in self.list_descriptions()]
        node: _Element = self.rdf.makeelement(DESCRIPTION, nsmap=NAMESPACES)
        node.set(ABOUT, next((name for name in names if name), ""))
        append_child(self.rdf, node)
        return node

    def _write_root(self) -> str:
        text: str = _import_etree().tostring(self._root, encoding="unicode", with_tail=False)
        return text


def qualify(name: str) -> str:
    """Turn a name with a usual prefix into one with its namespace, as lxml writes it."""
    prefix, _, local = name.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def add_element(parent: _Element, name: str) -> _Element:
    """Append an empty element whose name has a usual prefix."""
    prefix = name.partition(":")[0]
    element: _Element = parent.makeelement(qualify(name), nsmap={prefix: NAMESPACES[prefix]})
    append_child(parent, element)
    return element


def read_text(element: _Element) -> str:
    """Return the text of an element without the comments in it."""
    return ((element.text or "") + "".join(node.tail or "" for node in element)).strip()


def append_child(parent: _Element, child: _Element) -> None:
    """Append an element with the indentation of the packet."""
    # lxml counts all children for len(), so that is not asked.
    last = next(parent.iterchildren(reversed=True), None)
    if last is not None:
        before = parent.text if _is_space(parent.text) else None
        child.tail, last.tail = last.tail, before if _is_space(last.tail) else last.tail
    else:
        outer = _find_indentation(parent)
        child.tail = outer
        parent.text = None if outer is None else f"{outer} "
    parent.append(child)


def remove_child(child: _Element) -> None:
    """Remove an element and its indentation; text behind it stays."""
    parent, before, tail = child.getparent(), child.getprevious(), child.tail
    if parent is None:
        return
    head = before.tail if before is not None else parent.text
    if _is_space(tail) and child.getnext() is not None:
        joined = head  # the indentation of the element becomes that of the next one
    elif _is_space(tail) and _is_space(head):
        joined = tail  # the indentation of the end tag
    else:
        joined = (head or "") + (tail or "")
    parent.remove(child)
    if before is not None:
        before.tail = joined
    else:
        is_empty = next(parent.iterchildren(), None) is None
        parent.text = None if is_empty and _is_space(joined) else joined


def _is_bare(description: _Element) -> bool:
    return not len(description) and not set(description.attrib) - {ABOUT, "about"}


def _find_indentation(element: _Element) -> str | None:
    """Return the white space in front of an element, None if it is not on a line of its own."""
    parent, before = element.getparent(), element.getprevious()
    text = before.tail if before is not None else parent.text if parent is not None else None
    if not text or not _is_space(text) or "\n" not in text:
        return None
    return "\n" + text.rpartition("\n")[2]


def _is_space(text: str | None) -> bool:
    return not text or text.isspace()


def _decode(data: bytes) -> str:
    if len(data) > MAX_SIDECAR_BYTES:
        raise SidecarError(
            f"too large: {len(data):,} bytes, more than {MAX_SIDECAR_BYTES:,}",
            "move it away and a new one is written",
        )
    if not data.strip():
        raise SidecarError("empty file", _REMEDY)
    marks = _BYTE_ORDER_MARKS.items()
    encoding = next((name for mark, name in marks if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise SidecarError(f"byte {error.start:,} is not {name}", _REMEDY) from error


def _split_prolog(text: str) -> tuple[str, str]:
    match = _PROLOG.match(text)
    end = match.end() if match else 0
    body = text[end:]
    if body[:9].upper() == "<!DOCTYPE":
        raise SidecarError("a document type declaration, which XMP does not allow", _REMEDY)
    if not body.startswith("<"):
        raise SidecarError("not an XMP sidecar: no XML element", _REMEDY)
    tags = body.count("<")
    if tags > MAX_SIDECAR_TAGS:
        raise SidecarError(
            f"too large: {tags:,} tags, more than {MAX_SIDECAR_TAGS:,}",
            "move it away and a new one is written",
        )
    return text[:end], body


def _import_etree() -> ModuleType:
    try:
        from lxml import etree
    except ImportError as error:
        raise UsageError(
            f"XMP sidecars need lxml, which can't be imported ({error})",
            "run: pip install 'batch-label[xmp]'",
        ) from error
    return etree
