"""A property that is a list of texts, read and changed."""

from __future__ import annotations

from batch.xmp.packet import Packet
from batch.xmp.value_list import ValueList
from tests.support.sidecars import COMPACT, FLAT


def test_what_was_changed_is_read() -> None:
    values = ValueList(Packet(FLAT), "dc:subject")
    assert values.read() == ["beach", "family"]
    values.change({"beach", "sea"}, ["sad", "sad", "<&>"])
    assert values.read() == ["family", "sad", "<&>"]
    values.change({"family", "sad", "<&>"})
    assert values.read() == []


def test_a_list_that_becomes_empty_goes_with_its_description() -> None:
    packet = Packet(FLAT)
    ValueList(packet, "dc:subject").change({"beach", "family"})
    assert b"dc:subject" not in packet.write()
    assert packet.is_empty()


def test_an_attribute_is_a_value() -> None:
    packet = Packet(COMPACT)
    values = ValueList(packet, "dc:subject")
    assert values.read() == ["beach"]
    values.change({"beach"})
    assert values.read() == []
    assert b"dc:subject" not in packet.write()


def test_comments_and_structures_in_a_list_are_left_alone() -> None:
    odd = FLAT.replace(
        b"<rdf:li>beach</rdf:li>",
        b"<rdf:li>be<!-- - -->ach</rdf:li><!-- x --><rdf:li><rdf:Description/></rdf:li>",
    )
    packet = Packet(odd)
    values = ValueList(packet, "dc:subject")
    assert values.read() == ["beach", "family"]
    values.change({"beach", "family"}, ["sea"])
    assert values.read() == ["sea"]
    assert b"<!-- x --><rdf:li><rdf:Description/></rdf:li><rdf:li>sea</rdf:li>" in packet.write()
