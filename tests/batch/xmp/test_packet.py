"""Sidecars as untrusted input: what is kept of them, what is refused, and what nothing breaks."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batch.errors import SidecarError, UsageError
from batch.xmp import (
    MAX_SIDECAR_BYTES,
    FaceRegion,
    remove_content,
    update_sidecar,
)
from batch.xmp.packet import MAX_SIDECAR_TAGS
from tests.support.sidecars import (
    COMPACT,
    DARKTABLE,
    DIGIKAM,
    LIGHTROOM,
    SIDECARS,
    make_content,
    read_keywords,
)

FACE = FaceRegion("happy", 600, 100, 200, 240)
CONTENT = make_content("happy", faces=(FACE,))
START = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
)
END = b"</rdf:RDF></x:xmpmeta>"


def refuse(data: bytes, message: str) -> None:
    for call in (
        lambda: update_sidecar(data, CONTENT),
        lambda: remove_content(data, "expression"),
        lambda: read_keywords(data, "expression"),
    ):
        with pytest.raises(SidecarError, match=message):
            call()


# What is kept


def test_comments_wrapper_and_instructions_are_kept() -> None:
    made = update_sidecar(LIGHTROOM, CONTENT)
    assert made.startswith(LIGHTROOM[: LIGHTROOM.index(b"<x:xmpmeta")])
    assert b"<!-- exported -->" in made
    assert made.endswith(b'</x:xmpmeta>\n<?xpacket end="w"?>')
    made = update_sidecar(DARKTABLE, CONTENT)
    assert made.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<x:xmpmeta')
    assert b'darktable:blendop_params="gz11eJxjYIAACQYYOOHEgAYY0' in made
    made = update_sidecar(COMPACT, CONTENT)
    assert b"A <![CDATA[<day>]]>" in made
    assert b'dc:source="a &lt; b"' in made


def test_added_elements_follow_the_indentation() -> None:
    made = update_sidecar(DIGIKAM, make_content("happy"))
    added = [line for line in made.splitlines() if line not in DIGIKAM.splitlines()]
    assert b"     <rdf:li>happy</rdf:li>" in added
    assert not any(not line.strip() for line in added)
    # Only lines were added, but for start tags, whose attributes move to one line.
    removed = remove_content(made, "expression")
    assert removed is not None
    assert [line.strip() for line in removed.splitlines()][-40:] == [
        line.strip() for line in update_sidecar(removed, make_content()).splitlines()
    ][-40:]
    assert b"".join(removed.split()).count(b"<rdf:li") == DIGIKAM.count(b"<rdf:li")


def test_a_packet_without_a_wrapper_is_read() -> None:
    bare = COMPACT[COMPACT.index(b"<rdf:RDF") :].removesuffix(b"</x:xmpmeta>")
    made = update_sidecar(bare, CONTENT)
    assert made.startswith(b"<rdf:RDF")
    assert read_keywords(made, "expression") == ("happy",)
    only_ours = update_sidecar(START[START.index(b"<rdf:RDF") :] + b"</rdf:RDF>", CONTENT)
    assert remove_content(only_ours, "expression") is None


def test_descriptions_keep_the_name_of_the_photo() -> None:
    made = update_sidecar(COMPACT, CONTENT)
    assert made.count(b'rdf:about="uuid:1"') == made.count(b"<rdf:Description")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_other_encodings_are_read_and_written_as_utf_8(encoding: str) -> None:
    declared = DARKTABLE.decode().replace("UTF-8", "UTF-16" if "16" in encoding else "UTF-8")
    data = declared.replace("<rdf:li>beach", "<rdf:li>plage d'été \U0001f3d6").encode(encoding)
    assert remove_content(data, "expression") is data
    made = update_sidecar(data, CONTENT)
    text = made.decode("utf-8-sig" if encoding == "utf-8-sig" else "utf-8")
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    assert "plage d'été \U0001f3d6" in text
    assert made.startswith(b"\xef\xbb\xbf") == (encoding == "utf-8-sig")
    assert read_keywords(made, "expression") == ("happy",)


def test_nothing_is_left_of_a_sidecar_that_only_batch_label_wrote() -> None:
    made = update_sidecar(None, CONTENT)
    assert remove_content(made, "expression") is None
    for more in (
        made.replace(b"<x:xmpmeta", b"<!-- mine --><x:xmpmeta"),
        made.replace(b"<rdf:RDF", b"<!-- mine --><rdf:RDF"),
        made.replace(b"</rdf:RDF>", b"<!-- mine --></rdf:RDF>"),
        made.replace(b"<?xpacket end", b"<!-- mine --><?xpacket end"),
        made.replace(b"</rdf:RDF>", b"</rdf:RDF><other/>"),
        made.replace(b' rdf:about=""', b' rdf:about="" xmlns:q="q:" q:a="1"', 1),
        made.replace(b"</rdf:Description>", b"<q:a xmlns:q='q:'>1</q:a></rdf:Description>"),
    ):
        assert more != made
        left = remove_content(more, "expression")
        assert left is not None
        assert b"batchlabel:Added" not in left


# What is refused


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file; restore it from a backup"),
        (b" \n", "empty file"),
        (b"not xml", "not an XMP sidecar: no XML element"),
        (b"\xff\xd8\xff\xe0JFIF", "byte 0 is not UTF-8"),
        (b"<html><body/></html>", "not an XMP sidecar: no rdf:RDF element"),
        (START + b"<rdf:RDF/>" + END, "not an XMP sidecar: more than one rdf:RDF element"),
        (b"<?xml version='1.0'?>\n\n" + START, "damaged XML in line 3: "),
        (DIGIKAM[: len(DIGIKAM) // 2], "damaged XML in line 25: "),
        (START + b"<!-- ", "damaged XML"),
        (b"<!-- " + START, "damaged XML in line 1: Comment not terminated"),
        (DARKTABLE.replace(b"beach", b"pl\xe4ge"), "byte 1,334 is not UTF-8"),
        (b"\xff\xfe" + START, "damaged XML|not an XMP sidecar|is not UTF-16"),
        (b"\xff\xfe" + START.decode().encode("utf-16-le") + b"\x00\xd8", "is not UTF-16"),
        (START + b"<a>&#0;</a>" + END, "damaged XML"),
        (START + b"<a>\x00</a>" + END, "damaged XML"),
        (START + b"<a>&other;</a>" + END, "damaged XML in line 1: Entity 'other' not defined"),
        (START + b"<b:a/>" + END, "damaged XML"),
    ],
)
def test_what_is_not_a_sidecar_is_refused(data: bytes, message: str) -> None:
    refuse(data, message)


@pytest.mark.parametrize("space", [b"", b"\n", b"<?xml version='1.0'?>", b"<!-- - -->\n"])
def test_a_document_type_is_refused_before_it_is_read(space: bytes, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    laughs = "".join(
        f'<!ENTITY a{level} "{f"&a{level - 1};" * 10}">' for level in range(1, 10)
    ).encode()
    for declaration in (
        b'<!DOCTYPE x [<!ENTITY a0 "ha">' + laughs + b"]>",
        b'<!DOCTYPE x [<!ENTITY a9 SYSTEM "%s">]>' % secret.as_uri().encode(),
        b'<!DOCTYPE x SYSTEM "%s">' % secret.as_uri().encode(),
        b'<!doctype x [<!ENTITY a9 SYSTEM "http://127.0.0.1:1/">]>',
    ):
        refuse(
            space + declaration + START + b"<a>&a9;</a>" + END,
            "a document type declaration, which XMP does not allow",
        )
    encoded = (declaration + START + END).decode().encode("utf-16")
    refuse(encoded, "a document type declaration")


def test_deep_nesting_is_refused() -> None:
    deep = START + b"<a>" * 90_000 + b"</a>" * 90_000 + END
    refuse(deep, "damaged XML in line 1: .*depth")
    flat = START + b"<rdf:Description>" + b"<a>" * 100 + b"</a>" * 100 + b"</rdf:Description>" + END
    assert read_keywords(update_sidecar(flat, CONTENT), "expression") == ("happy",)


def test_a_large_sidecar_is_refused_before_it_is_parsed() -> None:
    refuse(b" " * (100 * 1024**2), "too large: 104,857,600 bytes, more than 16,777,216; move it")
    most = START + b"<!--" + b"-a" * ((MAX_SIDECAR_BYTES - 200) // 2) + b"-->" + END
    refuse(most, "damaged XML")  # a text of more than ten million bytes
    tags = START + b"<a/>" * MAX_SIDECAR_TAGS + END
    refuse(tags, "too large: 200,004 tags, more than 200,000")


def test_the_largest_tree_takes_bounded_memory() -> None:
    tags = START + b"<a b=''/>" * (MAX_SIDECAR_TAGS - 10) + END
    code = (
        "import re, sys; from batch.xmp import update_sidecar;"
        "from tests.support.sidecars import make_content;"
        "update_sidecar(sys.stdin.buffer.read(), make_content('happy'));"
        # A process begins with the ru_maxrss of the one that started it.
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    ran = subprocess.run([sys.executable, "-c", code], input=tags, capture_output=True, check=True)
    assert int(ran.stdout) < 300 * 1024  # kilobytes


def test_without_lxml_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    with pytest.raises(UsageError, match=r"; run: pip install 'batch-label\[xmp\]'"):
        update_sidecar(None, CONTENT)


def test_lxml_is_imported_when_it_is_used() -> None:
    code = "import sys, batch.xmp; sys.exit('lxml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Fuzzing


def cut(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + data[start + dice.randrange(1, 200) :]


def flip(data: bytes, dice: random.Random) -> bytes:
    mutable = bytearray(data)
    for _ in range(dice.randrange(1, 9)):
        mutable[dice.randrange(len(mutable))] = dice.randrange(256)
    return bytes(mutable)


def swap_tags(data: bytes, dice: random.Random) -> bytes:
    parts = data.split(b"<")
    first, second = dice.randrange(len(parts)), dice.randrange(len(parts))
    parts[first], parts[second] = parts[second], parts[first]
    return b"<".join(parts)


def drop_tag(data: bytes, dice: random.Random) -> bytes:
    parts = data.split(b"<")
    del parts[dice.randrange(len(parts))]
    return b"<".join(parts)


def rename(data: bytes, dice: random.Random) -> bytes:
    names = [
        b"rdf:Bag",
        b"rdf:Seq",
        b"rdf:li",
        b"rdf:Description",
        b"dc:subject",
        b"lr:hierarchicalSubject",
        b"digiKam:TagsList",
        b"mwg-rs:Regions",
        b"mwg-rs:RegionList",
        b"mwg-rs:Area",
        b"mwg-rs:Name",
        b"batchlabel:AddedKeywords",
        b'rdf:parseType="Resource"',
        b"stArea:x",
        b"expression|happy",
        b"0.25",
        b"nan",
    ]
    return data.replace(dice.choice(names), dice.choice(names), dice.choice([1, 2, -1]))


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [cut, flip, swap_tags, drop_tag, rename]


@pytest.mark.parametrize("name", SIDECARS)
def test_mutated_sidecars_raise_nothing_but_the_module_s_error(name: str) -> None:
    seeds = [SIDECARS[name], update_sidecar(SIDECARS[name], CONTENT)]
    sad = make_content("sad", faces=(FaceRegion("sad", 600, 100, 200, 240),))
    accepted = 0
    for number in range(2000):
        dice = random.Random(f"{name} {number}")
        data = dice.choice(seeds)
        for _ in range(dice.randrange(1, 3)):
            data = dice.choice(MUTATIONS)(data, dice) or b"<"
        try:
            made = update_sidecar(data, sad)
        except SidecarError:
            continue
        accepted += 1
        assert "sad" in read_keywords(made, "expression"), number
        assert update_sidecar(made, sad) is made, number
        removed = remove_content(made, "expression")
        if removed is not None:
            assert read_keywords(removed, "expression") == (), number
            assert remove_content(removed, "expression") is removed, number
    assert 100 < accepted < 2000
