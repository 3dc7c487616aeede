"""Paths as text: one printable line each, unambiguous, and reversible to the byte."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from batch.path_text import (
    FORMULA_STARTS,
    begins_formula,
    is_printable,
    label_text,
    parse_path_text,
    path_bytes,
    path_text,
    printable_text,
)

INTERESTING = [
    b"\\", b"\n", b"\r", b"\t", b"\x00"[:0], b"\x1b", b"\x7f", b"\xff", b"\xc3", b"\xa9",
    b"\xe2\x80\xa8", b"\xe2\x80\xae", b"\xe2\x81\xa6", b"\xed\xa0\x80", b"\xc2\x85", b"x41",
    b"n", b"=", b"+", b"-", b"@", b".", b"..", b"/", b" ", b"'", b'"', b",", b";",
    "ä".encode(), "日本".encode(), "😀".encode(), "\u202f".encode(), "\u200e".encode(),
    "\u061c".encode(), "\u3000".encode(), "\xa0".encode(), "\u200b".encode(), "\uffff".encode(),
    "\ufeff".encode(), "\uff1d".encode(),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"photos/IMG 1.jpg", "photos/IMG 1.jpg"),
        (b"a\\b", "a\\\\b"),
        (b"a\nb\rc\td", "a\\nb\\rc\\td"),
        (b"\x1b[31m", "\\x1B[31m"),
        (b"\xff.jpg", "\\xFF.jpg"),
        ("caf\u00e9 \U0001f600.jpg".encode(), "caf\u00e9 \U0001f600.jpg"),
        ("gpj\u202eexe".encode(), "gpj\\xE2\\x80\\xAEexe"),
        ("a\u2028b\u2066c\u0085".encode(), "a\\xE2\\x80\\xA8b\\xE2\\x81\\xA6c\\xC2\\x85"),
        (b"=1+1.jpg", "./=1+1.jpg"),
        (b"+a", "./+a"),
        (b"-a", "./-a"),
        (b"@a", "./@a"),
        (b" =1+1.jpg", "./ =1+1.jpg"),
        (b"\t=1", "\\t=1"),
        ("\xa0+a".encode(), "./\xa0+a"),
        ("\u3000@a".encode(), "./\u3000@a"),
        ("\u200b\ufeff-a".encode(), "./\u200b\ufeff-a"),
        ("a\u200e\u200f\u061cb".encode(), "a\\xE2\\x80\\x8E\\xE2\\x80\\x8F\\xD8\\x9Cb"),
        ("a\uffffb\ufdd0".encode(), "a\\xEF\\xBF\\xBFb\\xEF\\xB7\\x90"),
        (b"a;=b", "a\\x3B=b"),
        ("a;\xa0 =b".encode(), "a\\x3B\xa0 =b"),
        (b" a=b", " a=b"),
        (b"./ a", " a"),
        (b"a/=b", "a/=b"),
        (b"/=b", "/=b"),
    ],
)
def test_each_escape(name: bytes, text: str) -> None:
    path = Path(os.fsdecode(name))
    assert path_text(path) == text
    assert parse_path_text(text) == path


def test_random_names_round_trip_and_never_collide() -> None:
    chance = random.Random(7)
    seen: dict[str, Path] = {}
    for _ in range(5000):
        if chance.random() < 0.5:
            name = bytes(chance.choices(range(1, 256), k=chance.randint(1, 12)))
        else:
            name = b"".join(chance.choices(INTERESTING, k=chance.randint(1, 8)))
        path = Path(os.fsdecode(name))
        text = path_text(path)
        assert parse_path_text(text) == path
        assert os.fsencode(parse_path_text(text)) == os.fsencode(path)
        assert text.encode().decode() == text
        assert len(text.splitlines()) == 1
        assert path_bytes(text) == os.fsencode(path)
        assert not text.lstrip().startswith(FORMULA_STARTS)
        assert is_printable(text)
        assert seen.setdefault(text, path) == path
    assert len(seen) > 4000


def test_any_unicode_round_trips_and_never_begins_a_formula() -> None:
    chance = random.Random(11)
    blanks = [chr(code) for code in range(0x3001) if chr(code).isspace()]
    for _ in range(5000):
        start = "".join(
            chance.choices([*blanks, "\u200b", "\ufeff", "\u200e"], k=chance.randint(0, 3))
        )
        rest = "".join(chr(chance.randrange(1, 0x110000)) for _ in range(chance.randint(0, 4)))
        name = f"{start}{chance.choice(('', *FORMULA_STARTS))}{rest}"
        path = Path(os.fsdecode(name.encode("utf-8", "surrogatepass")))
        text = path_text(path)
        assert parse_path_text(text) == path
        assert path_bytes(text) == os.fsencode(path)
        assert not begins_formula(text)
        assert not begins_formula(label_text(name))
        assert is_printable(text)


def test_every_character_is_escaped_or_printable() -> None:
    for code in range(0x110000):
        text = printable_text(chr(code))
        assert text.encode()
        if text == chr(code):
            assert code >= 0x20
            assert not 0x7F <= code <= 0x9F
            assert text.splitlines() == [text]


def test_names_on_disk_round_trip_to_the_same_files(tmp_path: Path) -> None:
    names = [b"a\nb", b"\xff\xfe.jpg", b"back\\slash", b"=cmd", b"\xe2\x80\xaegpj.exe", b"\\n"]
    for number, name in enumerate(names):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(str(number))
    texts = {path_text(path): path.read_text() for path in tmp_path.iterdir()}
    assert len(texts) == len(names)
    for text, content in texts.items():
        assert Path(parse_path_text(text)).read_text() == content


def test_a_formula_guard_names_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("=1").write_text("here")
    text = path_text(Path("=1"))
    assert text == "./=1"
    assert Path(text).read_text() == Path(parse_path_text(text)).read_text() == "here"


@pytest.mark.parametrize("text", ["a\\", "a\\q", "\\x4", "\\xgg", "\\\n"])
def test_text_with_an_invalid_escape_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError, match="is not an escape") as caught:
        parse_path_text(text)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["a\\x00b", "a\0b"])
def test_text_with_a_nul_is_not_a_path(text: str) -> None:
    for turned in (parse_path_text, path_bytes):
        with pytest.raises(ValueError, match="has a NUL"):
            turned(text)


def test_labels_are_one_line_and_not_a_formula() -> None:
    assert label_text("happy") == "happy"
    assert label_text("=SUM(A1)") == "'=SUM(A1)"
    assert label_text("two\nlines") == "two\\nlines"
    assert label_text("\ud800") == "\\xED\\xA0\\x80"
