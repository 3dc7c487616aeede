"""Mutations of texts: words, lines and JSON values, and mutations of a part of a file."""

from __future__ import annotations

import json
import random
import re
from typing import Any

from tests.fuzz.mutations import (
    Mutation,
    cut_end,
    cut_out,
    flip_bits,
    overwrite_run,
    repeat_slice,
    write_extreme,
)

BYTES: tuple[Mutation, ...] = (
    *(flip_bits, flip_bits, overwrite_run, write_extreme),
    *(cut_end, cut_out, repeat_slice),
)
# Replacements for words: numbers, names and texts that parsers tend to get wrong.
WORDS = (
    b"", b"0", b"-1", b"1e999", b"nan", b"NaN", b"-Infinity", b"9" * 400, b"9" * 5000, b"0x10",
    b"1_000", b"18446744073709551616", b"-9223372036854775809", b"1.5", b"true", b"null", b"[]",
    b"{}", b"[" * 3000, b'{"a":' * 3000, b'"', b'""', b"'", b",", b"\n", b"\r", b"\r\n", b"\0",
    b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\x1b[31m", b"\xe2\x80\xae", b"=1+1",
    b"..", b"../../x.jpg", b"zip://a::b", b"a" * 9000, b"\xc3\xa9\xe6\x97\xa5", b"\xef\xbb\xbf",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 2**70, -(2**70), 0.5, 1e308, "", "x", "\0"),
    *("2026-01-01", "nan", "\ud800", "a" * 9000, [], {}, [[]], [None], {"a": 1}, ["x"] * 99),
)
_WORD = re.compile(rb"[^\s,;:\"\[\]{}=]+")


def replace_word(data: bytes, rng: random.Random) -> bytes:
    """Replace a word."""
    found = list(_WORD.finditer(data))
    if not found:
        return data
    word = rng.choice(found)
    return data[: word.start()] + rng.choice(WORDS) + data[word.end() :]


def add_word(data: bytes, rng: random.Random) -> bytes:
    """Insert a word anywhere."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice(WORDS) + data[at:]


def drop_line(data: bytes, rng: random.Random) -> bytes:
    """Delete a line."""
    lines = data.splitlines(keepends=True)
    del lines[rng.randrange(len(lines))]
    return b"".join(lines)


def repeat_line(data: bytes, rng: random.Random) -> bytes:
    """Repeat a line, once or a hundred times."""
    lines = data.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    return b"".join([*lines[:at], *[lines[at]] * rng.choice((2, 2, 100)), *lines[at + 1 :]])


def swap_lines(data: bytes, rng: random.Random) -> bytes:
    """Swap two lines."""
    lines = data.splitlines(keepends=True)
    one, two = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[one], lines[two] = lines[two], lines[one]
    return b"".join(lines)


LINES: tuple[Mutation, ...] = (
    *(replace_word, replace_word, replace_word, add_word),
    *(drop_line, repeat_line, swap_lines),
)


def replace_value(data: bytes, rng: random.Random) -> bytes:
    """Replace a value of a JSON text by one of any type; replace a word if it is not JSON."""
    try:
        values = json.loads(data)
    except (ValueError, RecursionError):
        return replace_word(data, rng)
    places = _list_places(values)
    if not places:
        return data
    holder, key = rng.choice(places)
    what = rng.random()
    if what < 0.15:
        del holder[key]
    elif what < 0.25 and isinstance(holder, dict):
        holder[rng.choice(("", "x", "schema_version"))] = rng.choice(VALUES)
    else:
        holder[key] = rng.choice(VALUES)
    return json.dumps(values).encode()


def mutate_line(mutation: Mutation) -> Mutation:
    """Restrict a mutation to one line."""

    def change(data: bytes, rng: random.Random) -> bytes:
        lines = data.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        lines[at] = mutation(lines[at], rng).rstrip(b"\n") + b"\n"
        return b"".join(lines)

    change.__name__ = mutation.__name__
    return change


def mutate_end(mutation: Mutation, length: int) -> Mutation:
    """Restrict a mutation to the last bytes, where some formats have their index."""

    def change(data: bytes, rng: random.Random) -> bytes:
        head, tail = data[:-length], data[-length:]
        return head + mutation(tail, rng)

    change.__name__ = f"{mutation.__name__}_at_the_end"
    return change


def _list_places(value: Any) -> list[tuple[Any, Any]]:
    """List all places in a JSON value, each as its container and key."""
    found: list[tuple[Any, Any]] = []
    waiting = [value]
    while waiting:
        holder = waiting.pop()
        items: list[tuple[Any, Any]] = []
        if isinstance(holder, dict):
            items = list(holder.items())
        elif isinstance(holder, list):
            items = list(enumerate(holder))
        for key, inside in items:
            found.append((holder, key))
            waiting.append(inside)
    return found
