"""File names as text for a report: one printable line that can be turned back into the name."""

from __future__ import annotations

import os
import re

from batch.location import Location, parse_location

# Spreadsheets run a cell that begins with one of these as a formula; the full-width forms are
# taken for the same where East Asian languages are set.
FORMULA_STARTS = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
# What a spreadsheet may drop in front of a formula: spaces of any script, and characters of no
# width.
BLANKS = "\\s\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2060-\u2064\u3164\ufeff\uffa0"

SHORT_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

# C0, DEL and C1 controls; line and paragraph separator with the bidirectional controls that
# follow them; the bidirectional isolates; surrogates, which are what is no UTF-8.
CONTROLS = "\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
# Marks that change the direction of what stands beside them, and the code points of each plane that
# are no characters.
_LAST_OF_PLANES = "".join(
    f"{chr(last - 1)}{chr(last)}" for last in range(0xFFFF, 0x110000, 0x10000)
)
UNPRINTABLE = f"{CONTROLS}\u061c\u200e\u200f\ufdd0-\ufdef{_LAST_OF_PLANES}"

_FORMULA = f"[{BLANKS}]*[{re.escape(''.join(FORMULA_STARTS))}]"
_BEGINS_FORMULA = re.compile(_FORMULA)
_IS_UNPRINTABLE = re.compile(f"[{UNPRINTABLE}]")
_ESCAPED = re.compile(f"[\\\\{UNPRINTABLE}]")
# And a semicolon before what begins a formula: where a comma is the decimal sign, it ends a
# spreadsheet's cell.
_NEXT_CELL = re.compile(f";(?={_FORMULA})")
_ESCAPED_IN_CELL = re.compile(f"{_ESCAPED.pattern}|;(?={_FORMULA})")
# A path that stands for itself: ASCII that needs no escape, and begins no formula.
_NEEDS_NO_ESCAPE = re.compile(r"[A-Za-z0-9/._][ -:<-\[\]-~]*")
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.?)", re.DOTALL)
_BYTE_OF_ESCAPE = {b"\\": b"\\", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def path_text(path: Location) -> str:
    r"""Write a path as one printable line of valid UTF-8 that no other path has.

    A backslash becomes ``\\``, a newline ``\n``, a carriage return ``\r`` and a tab
    ``\t``; each byte of other controls and each byte that is not UTF-8 becomes ``\xHH``, and
    so does a semicolon before what begins a formula.
    A path that a spreadsheet would run as a formula, also one after spaces, gets ``./`` in front,
    which names the same file. The separator is ``/`` on every system.
    """
    text = path.as_posix()
    if _NEEDS_NO_ESCAPE.fullmatch(text):  # as nearly all are
        return text
    # By way of the bytes, since Python's own decoding of names depends on the locale.
    text = cell_text(os.fsencode(text).decode("utf-8", "surrogateescape"))
    return f"./{text}" if begins_formula(text) else text


def parse_path_text(text: str) -> Location:
    """Turn the text that ``path_text`` gave back into the path.

    Raises:
        ValueError: the text holds a backslash that begins none of the escapes, or a NUL.
    """
    return parse_location(os.fsdecode(_parse_path_bytes(text)))


def path_bytes(text: str) -> bytes:
    """Give the bytes of the path that ``path_text`` wrote, as the system has them.

    Raises:
        ValueError: as ``parse_path_text`` does.
    """
    return _parse_path_bytes(text).removeprefix(b"./")  # which is there for a formula's start alone


def printable_text(text: str) -> str:
    """Write any string as one line of valid UTF-8 for people."""
    return _ESCAPED.sub(_escape_match, text)


def cell_text(text: str) -> str:
    """Write any string as one line of valid UTF-8 for a report, with ``path_text``'s escapes."""
    return _ESCAPED_IN_CELL.sub(_escape_match, text)


def parse_printable_text(text: str) -> str:
    """Turn the line that ``printable_text`` or ``cell_text`` gave back into the string.

    Raises:
        ValueError: the text holds a backslash that begins none of the escapes.
    """
    return _unescape(text).decode("utf-8", "surrogateescape")


def label_text(label: str) -> str:
    """Write a model's label as a cell that no spreadsheet runs as a formula.

    It is a ``cell_text``, and has an apostrophe in front where it would begin a formula.
    """
    return escape_formula(cell_text(label))


def escape_formula(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if begins_formula(text) else text


def guard_cell(text: str, before: str = "'") -> str:
    """Guard a cell of a report that anybody may have written; one that a run wrote stays as it is.

    It gets what labels (an apostrophe) or paths (``./``) have ``before`` the start of a formula.
    """
    text = _NEXT_CELL.sub(r"\\x3B", text)
    return f"{before}{text}" if begins_formula(text) else text


def begins_formula(text: str) -> bool:
    """Tell whether a spreadsheet would run a cell as a formula, with or without what is blank."""
    return _BEGINS_FORMULA.match(text) is not None


def is_printable(text: str) -> bool:
    """Tell whether a text has no controls, directional marks or what is no character.

    A backslash is printable, although ``printable_text`` escapes it.
    """
    return _IS_UNPRINTABLE.search(text) is None


def _parse_path_bytes(text: str) -> bytes:
    name = _unescape(text)
    if b"\0" in name:
        raise ValueError(f"no path of a report: {printable_text(text[:100])} has a NUL")
    return name


def _unescape(text: str) -> bytes:
    return _ESCAPE.sub(_unescape_match, text.encode()) if "\\" in text else text.encode()


def _escape_match(match: re.Match[str]) -> str:
    char = match.group()
    if char in SHORT_ESCAPES:
        return SHORT_ESCAPES[char]
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # where "surrogateescape" keeps the byte that is no UTF-8
        return f"\\x{code - 0xDC00:02X}"
    return "".join(f"\\x{byte:02X}" for byte in char.encode("utf-8", "surrogatepass"))


def _unescape_match(match: re.Match[bytes]) -> bytes:
    escape = match.group(1)
    if len(escape) == 3:
        return bytes.fromhex(escape[1:].decode())
    if escape not in _BYTE_OF_ESCAPE:
        found = printable_text(match.group().decode("utf-8", "surrogateescape"))
        raise ValueError(f"no path of a report: {found} at byte {match.start()} is no escape")
    return _BYTE_OF_ESCAPE[escape]
