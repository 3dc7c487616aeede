"""Keywords in sidecars: added, replaced and removed without touching those of others."""

from __future__ import annotations

import re

import pytest

from batch.errors import SidecarError
from batch.xmp import remove_content, update_sidecar
from tests.support.sidecars import (
    COMPACT,
    DIGIKAM,
    FLAT,
    LIGHTROOM,
    SIDECARS,
    make_content,
    read_keywords,
)

DESCRIPTION = '<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/">'


def list_values(data: bytes, name: str) -> list[str]:
    """Read the list of a property from a sidecar by its text."""
    found = re.search(f"<{name}[ >].*?</{name}>", data.decode(), re.DOTALL)
    return re.findall(r"<rdf:li>(.*?)</rdf:li>", found[0]) if found else []


def make_packet(properties: str) -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f"{properties}</rdf:RDF></x:xmpmeta>"
    ).encode()


def drop_record(data: bytes) -> bytes:
    """Drop batch-label's own properties, as a program that does not know them may do."""
    dropped = re.sub(
        r"\s*<(batchlabel:\w+)[ >].*?</\1>", "", data.decode(), flags=re.DOTALL
    ).encode()
    assert b"<batchlabel:" not in dropped
    assert b"<batchlabel:" in data
    return dropped


def test_a_new_sidecar_has_the_keyword_in_three_properties() -> None:
    made = update_sidecar(None, make_content("happy"))
    assert made.startswith(b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>')
    assert list_values(made, "dc:subject") == ["happy"]
    assert list_values(made, "lr:hierarchicalSubject") == ["expression|happy"]
    assert list_values(made, "digiKam:TagsList") == ["expression/happy"]
    assert read_keywords(made, "expression") == ("happy",)


def test_a_root_may_have_levels() -> None:
    made = update_sidecar(None, make_content("happy", root="mood|expression"))
    assert list_values(made, "dc:subject") == ["happy"]
    assert list_values(made, "lr:hierarchicalSubject") == ["mood|expression|happy"]
    assert list_values(made, "digiKam:TagsList") == ["mood/expression/happy"]
    assert read_keywords(made, "mood|expression") == ("happy",)
    assert read_keywords(made, "mood") == ("expression|happy",)
    assert read_keywords(made, "expression") == ()
    assert remove_content(made, "mood|expression") is None


@pytest.mark.parametrize("name", SIDECARS)
def test_a_second_update_changes_nothing(name: str) -> None:
    content = make_content("happy", "neither")
    once = update_sidecar(SIDECARS[name], content)
    assert once != SIDECARS[name]
    assert update_sidecar(once, content) is once


@pytest.mark.parametrize("name", [name for name in SIDECARS if name != "lightroom"])
def test_a_keyword_is_replaced_and_not_doubled(name: str) -> None:
    happy = update_sidecar(SIDECARS[name], make_content("happy"))
    sad = update_sidecar(happy, make_content("sad"))
    assert b"happy" not in sad
    assert read_keywords(sad, "expression") == ("sad",)
    assert sad.count(b">sad<") == 1
    assert sad == update_sidecar(SIDECARS[name], make_content("sad"))


def test_keywords_of_others_stay_in_their_order() -> None:
    made = update_sidecar(DIGIKAM, make_content("happy"))
    assert list_values(made, "dc:subject") == ["Anna", "Straße &amp; Café", "happy"]
    tags = ["People/Anna", "Straße &amp; Café", "expression/happy"]
    assert list_values(made, "digiKam:TagsList") == tags


def test_the_user_s_own_keyword_survives() -> None:
    for labels in (("happy",), ("sad",), ("happy", "sad")):
        made = LIGHTROOM
        for label in labels:
            made = update_sidecar(made, make_content(label))
            assert list_values(made, "dc:subject").count("happy") == 1
        removed = remove_content(made, "expression")
        assert removed is not None
        for name in ("dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList"):
            assert list_values(removed, name) == list_values(LIGHTROOM, name)


def test_without_the_record_paths_below_the_root_tell_what_was_added() -> None:
    made = drop_record(update_sidecar(DIGIKAM, make_content("happy")))
    sad = update_sidecar(made, make_content("sad"))
    assert b"happy" not in sad
    removed = remove_content(made, "expression")
    assert removed is not None
    for name in ("dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList"):
        assert list_values(removed, name) == list_values(DIGIKAM, name)
    # A keyword that is also somewhere else in the user's tree is the user's.
    made = drop_record(update_sidecar(LIGHTROOM, make_content("happy")))
    assert "happy" in list_values(update_sidecar(made, make_content("sad")), "dc:subject")


def test_without_the_paths_the_record_tells_what_was_added() -> None:
    made = update_sidecar(FLAT, make_content("happy")).decode()
    for name in ("lr:hierarchicalSubject", "digiKam:TagsList"):
        made = re.sub(f"<{name}>.*?</{name}>", "", made)
    assert read_keywords(made.encode(), "expression") == ()
    removed = remove_content(made.encode(), "expression")
    assert removed == FLAT


def test_a_word_of_another_path_that_was_no_flat_keyword_goes_again() -> None:
    before = DIGIKAM.replace(b"<rdf:li>Anna</rdf:li>", b"")
    content = make_content("Anna")
    made = update_sidecar(before, content)
    assert "Anna" in list_values(made, "dc:subject")
    assert update_sidecar(made, content) is made
    removed = remove_content(made, "expression")
    assert removed is not None
    assert "Anna" not in list_values(removed, "dc:subject")
    assert list_values(removed, "digiKam:TagsList")[0] == "People/Anna"


def test_a_correction_below_the_root_is_replaced() -> None:
    made = update_sidecar(DIGIKAM, make_content("happy"))
    corrected = made.replace(b"expression|happy</rdf:li>", b"expression|sad</rdf:li>", 1)
    corrected = corrected.replace(b"expression/happy", b"expression/sad")
    corrected = corrected.replace(b"<rdf:li>happy", b"<rdf:li>sad")
    assert read_keywords(corrected, "expression") == ("sad",)
    again = update_sidecar(corrected, make_content("happy"))
    assert b"sad" not in again
    assert read_keywords(again, "expression") == ("happy",)


def test_a_new_property_does_not_hide_keywords_that_were_read_before() -> None:
    # darktable reads lr:hierarchicalSubject, and dc:subject only without it; digiKam likewise.
    made = update_sidecar(FLAT, make_content("happy"))
    assert list_values(made, "lr:hierarchicalSubject") == ["beach", "family", "expression|happy"]
    assert list_values(made, "digiKam:TagsList") == ["beach", "family", "expression/happy"]
    # A later keyword of the user is mirrored too.
    more = made.replace(
        b"<rdf:li>family</rdf:li>", b"<rdf:li>family</rdf:li><rdf:li>sea</rdf:li>", 1
    )
    more = update_sidecar(more, make_content("happy"))
    assert "sea" in list_values(more, "lr:hierarchicalSubject")
    assert "sea" in list_values(more, "digiKam:TagsList")
    removed = remove_content(made, "expression")
    assert removed == FLAT


def test_a_mirrored_property_that_a_program_has_added_to_is_that_program_s() -> None:
    made = update_sidecar(FLAT, make_content("happy"))
    taken = made.replace(b"<rdf:li>expression|happy</rdf:li>", b"<rdf:li>places|sea</rdf:li>", 1)
    assert taken != made
    for changed in (
        remove_content(taken, "expression"),
        update_sidecar(taken, make_content("sad")),
    ):
        assert changed is not None
        assert {"beach", "family", "places|sea"} <= set(
            list_values(changed, "lr:hierarchicalSubject")
        )


def test_paths_of_lightroom_are_mirrored_for_digikam() -> None:
    made = update_sidecar(LIGHTROOM, make_content("sad"))
    assert list_values(made, "digiKam:TagsList") == ["Germany/Berlin", "happy", "expression/sad"]


def test_levels_that_lightroom_adds_to_the_flat_keywords_go_with_the_last_path() -> None:
    made = update_sidecar(FLAT, make_content("happy"))
    more = made.replace(b"<rdf:li>happy", b"<rdf:li>expression</rdf:li><rdf:li>happy")
    assert update_sidecar(more, make_content("happy")) is more
    removed = remove_content(more, "expression")
    assert removed is not None
    assert list_values(removed, "dc:subject") == ["beach", "family"]


def test_a_flat_keyword_named_as_the_root_may_be_the_user_s() -> None:
    before = FLAT.replace(b"family", b"expression")
    made = update_sidecar(before, make_content("happy"))
    removed = remove_content(made, "expression")
    assert removed is not None
    assert list_values(removed, "dc:subject") == ["beach", "expression"]


def test_a_path_that_a_program_wrote_as_a_flat_keyword_is_replaced() -> None:
    made = update_sidecar(FLAT, make_content("happy"))
    flattened = made.replace(b"<rdf:li>happy", b"<rdf:li>expression|happy</rdf:li><rdf:li>happy")
    sad = update_sidecar(flattened, make_content("sad"))
    assert b"happy" not in sad
    assert list_values(sad, "lr:hierarchicalSubject") == ["beach", "family", "expression|sad"]


def test_two_roots_do_not_touch_each_other() -> None:
    first = update_sidecar(FLAT, make_content("happy"))
    both = update_sidecar(first, make_content("happy", "young", root="age"))
    assert read_keywords(both, "expression") == ("happy",)
    assert read_keywords(both, "age") == ("happy", "young")
    assert update_sidecar(both, make_content("happy")) is both
    left = remove_content(both, "age")
    assert left is not None
    assert read_keywords(left, "expression") == ("happy",)
    assert list_values(left, "dc:subject") == ["beach", "family", "happy"]
    assert remove_content(left, "expression") == FLAT


def test_no_keywords_remove_those_that_are_there() -> None:
    made = update_sidecar(DIGIKAM, make_content("happy"))
    emptied = update_sidecar(made, make_content())
    assert read_keywords(emptied, "expression") == ()
    assert emptied == remove_content(made, "expression")
    assert update_sidecar(DIGIKAM, make_content()) is DIGIKAM
    assert remove_content(DIGIKAM, "expression") is DIGIKAM


def test_a_keyword_as_attribute_or_text_becomes_a_list() -> None:
    made = update_sidecar(COMPACT, make_content("happy"))
    assert list_values(made, "dc:subject") == ["beach", "happy"]
    assert b"dc:subject=" not in made
    text = make_packet(f"{DESCRIPTION}<dc:subject>beach</dc:subject></rdf:Description>")
    assert list_values(update_sidecar(text, make_content("happy")), "dc:subject") == [
        "beach",
        "happy",
    ]


def test_an_unknown_form_is_refused_and_not_lost() -> None:
    odd = make_packet(
        f"{DESCRIPTION}<dc:subject><rdf:Bag/><rdf:Bag/></dc:subject></rdf:Description>"
    )
    with pytest.raises(SidecarError, match="dc:subject is neither a list nor a text; repair"):
        update_sidecar(odd, make_content("happy"))


@pytest.mark.parametrize("keyword", ["", " ", " sad", "n/a", "a\nb", "a\x00b", "\ud800"])
def test_a_keyword_that_programs_would_change_is_refused(keyword: str) -> None:
    with pytest.raises(SidecarError, match="choose another label or root"):
        update_sidecar(None, make_content(keyword))
    with pytest.raises(SidecarError, match="choose another label or root"):
        update_sidecar(None, make_content(f"{keyword}|happy"))
    with pytest.raises(SidecarError, match="choose another label or root"):
        update_sidecar(None, make_content("happy", root=f"mood|{keyword}|x"))


def test_a_record_without_a_root_names_no_keyword_of_ours() -> None:
    record = (
        '<b:AddedKeywords xmlns:b="urn:batch-label:xmp:1.0/"><rdf:Bag><rdf:li>beach</rdf:li>'
        "</rdf:Bag></b:AddedKeywords></rdf:Description>"
    )
    before = FLAT.replace(b"</rdf:Description>", record.encode())
    made = update_sidecar(before, make_content("happy"))
    assert "beach" in list_values(made, "dc:subject")
    assert update_sidecar(made, make_content("happy")) is made
