"""Paths and other strings as one printable line that can be parsed back.

Guards against control characters, names that are not UTF-8, and formulas in spreadsheets.
"""

from __future__ import annotations

import os
import re

from batch.location import Location, parse_location

# Spreadsheets evaluate a cell that begins with one of these as a formula; with East Asian locales
# also the full-width forms.
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# Characters that spreadsheets may ignore in front of a formula: spaces and zero-width characters.
_BLANKS = "\\s\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2060-\u2064\u3164\ufeff\uffa0"

_SHORT_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

# C0, DEL and C1 controls; line and paragraph separators and bidirectional embeddings; bidirectional
# isolates; surrogates, with which Python represents bytes that are not UTF-8.
CONTROLS = "\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
# The last two code points of each plane are non-characters, as are U+FDD0 to U+FDEF.
_LAST_OF_PLANES = "".join(
    f"{chr(last - 1)}{chr(last)}" for last in range(0xFFFF, 0x110000, 0x10000)
)
# Controls, directional marks and non-characters.
UNPRINTABLE = f"{CONTROLS}\u061c\u200e\u200f\ufdd0-\ufdef{_LAST_OF_PLANES}"

_FORMULA = f"[{_BLANKS}]*[{re.escape(''.join(FORMULA_STARTS))}]"
_BEGINS_FORMULA = re.compile(_FORMULA)
_IS_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")
_ESCAPED = re.compile(f"[\\\\{UNPRINTABLE}]")
# In locales with a decimal comma a semicolon separates cells, so a formula may follow one.
_NEXT_CELL = re.compile(f";(?={_FORMULA})")
_ESCAPED_IN_CELL = re.compile(f"{_ESCAPED.pattern}|;(?={_FORMULA})")
# ASCII that needs no escape and does not begin a formula.
_NEEDS_NO_ESCAPE = re.compile(r"[A-Za-z0-9/._][ -:<-\[\]-~]*")
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.?)", re.DOTALL)
_BYTE_OF_ESCAPE = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def path_text(path: Location) -> str:
    r"""Write a path as one printable line of UTF-8; different paths give different lines.

    A backslash becomes ``\\``, a newline ``\n``, a carriage return ``\r`` and a tab ``\t``. Each
    byte of another control character, each byte that is not UTF-8, and a semicolon before a
    formula become ``\xHH``. A path that a spreadsheet would evaluate as a formula gets ``./`` in
    front, which names the same file.
    """
    text = path.as_posix()
    if _NEEDS_NO_ESCAPE.fullmatch(text):  # nearly all paths
        return text
    # Through the bytes, as Python's decoding of names depends on the locale.
    text = cell_text(os.fsencode(text).decode("utf-8", "surrogateescape"))
    return f"./{text}" if begins_formula(text) else text


def parse_path_text(text: str) -> Location:
    """Parse the text that ``path_text`` wrote.

    Raises:
        ValueError: the text has an invalid escape or a NUL.
    """
    return parse_location(os.fsdecode(_parse_path_bytes(text)))


def path_bytes(text: str) -> bytes:
    """Parse the text that ``path_text`` wrote into the bytes of the path.

    Raises:
        ValueError: the text has an invalid escape or a NUL.
    """
    return _parse_path_bytes(text).removeprefix(b"./")  # added in front of a formula


def printable_text(text: str) -> str:
    """Escape a string into one printable line of UTF-8, for messages."""
    return _ESCAPED.sub(_escape_match, text)


def cell_text(text: str) -> str:
    """Escape a string as ``path_text`` does, for a cell of a report."""
    return _ESCAPED_IN_CELL.sub(_escape_match, text)


def parse_printable_text(text: str) -> str:
    """Parse the line that ``printable_text`` or ``cell_text`` wrote.

    Raises:
        ValueError: the text has an invalid escape.
    """
    return _unescape(text).decode("utf-8", "surrogateescape")


def label_text(label: str) -> str:
    """Escape a model's label for a cell of a report; a formula gets an apostrophe in front."""
    return escape_formula(cell_text(label))


def escape_formula(text: str) -> str:
    """Put an apostrophe in front of a text that a spreadsheet would evaluate as a formula."""
    return f"'{text}" if begins_formula(text) else text


def guard_cell(text: str, before: str = "'") -> str:
    """Guard a cell of an untrusted report against formulas; cells that a run wrote don't change.

    Args:
        text: the cell.
        before: what is put in front of a formula: an apostrophe for labels, ``./`` for paths.
    """
    text = _NEXT_CELL.sub(r"\\x3B", text)
    return f"{before}{text}" if begins_formula(text) else text


def begins_formula(text: str) -> bool:
    """Return whether a spreadsheet would evaluate a cell as a formula."""
    return _BEGINS_FORMULA.match(text) is not None


def is_printable(text: str) -> bool:
    """Return whether a text has no controls, directional marks or non-characters.

    A backslash is printable, although ``printable_text`` escapes it.
    """
    return _IS_UNPRINTABLE.search(text) is None


def _parse_path_bytes(text: str) -> bytes:
    name = _unescape(text)
    if b"\0" in name:
        raise ValueError(f"not a path of a report: {printable_text(text[:100])} has a NUL")
    return name


def _unescape(text: str) -> bytes:
    return _ESCAPE.sub(_unescape_match, text.encode()) if "\\" in text else text.encode()


def _escape_match(match: re.Match[str]) -> str:
    char = match.group()
    if char in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as "surrogateescape" decodes it
        return f"\\x{code - 0xDC00:02X}"
    return "".join(f"\\x{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _unescape_match(match: re.Match[bytes]) -> bytes:
    escape = match.group(1)
    if len(escape) == 3:
        return bytes.fromhex(escape[1:].decode())
    if escape not in _BYTE_OF_ESCAPE:
        found = printable_text(match.group().decode("utf-8", "surrogateescape"))
        raise ValueError(
            f"not a path of a report: {found} at byte {match.start()} is not an escape"
        )
    return _BYTE_OF_ESCAPE[escape]
