"""SQL expressions over the columns of a report, evaluated by SQLite row by row."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence

from batch.errors import UsageError
from batch.path_text import printable_text
from batch.reports.tabular import Value

# What an expression may do: read its columns and call functions. Everything else is denied, such
# as to attach a file. SQLITE_RECURSIVE is denied, as such a query may never end.
_ALLOWED = frozenset((sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION))
_DENIED_FUNCTIONS = frozenset(("load_extension",))
# Most bytes of a value, so that no function takes the memory of the machine.
MAX_VALUE_BYTES = 16 * 1024**2
_EXAMPLE = "write an SQL condition such as --where \"confidence > 0.95 AND path LIKE '%/2026/%'\""
_MAX_SHOWN_COLUMNS = 40  # in a message; the outputs of a model may be a thousand
_STRING = re.compile(r"'(?:[^']|'')*'")
_UNKNOWN_NAME = re.compile(r'no such column: "?([^"]+)')
_QUOTED = re.compile(r'"((?:[^"]|"")*)"')


class Condition:
    """An SQL expression that is true or not for a row of a report.

    Args:
        text: the expression, as given on the command line.
        columns: the columns that it can name, in the order of the values of ``matches``.

    Raises:
        UsageError: SQLite refuses the expression.
    """

    def __init__(self, text: str, columns: Sequence[str]) -> None:
        self._text = text
        self._columns = tuple(columns)
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        self._database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
        self._database.set_authorizer(_authorize)
        self._check_quotes()
        names = ", ".join(f"? AS {_quote(name)}" for name in self._columns)
        # The newline ends a comment, which would swallow the parenthesis.
        self._query = f"SELECT ({text}\n) IS TRUE FROM (SELECT {names})"
        self.matches([None] * len(self._columns))

    def matches(self, values: Sequence[Value]) -> bool:
        """Return whether the expression is true for a row; NULL is not true.

        Raises:
            UsageError: SQLite can't evaluate it.
        """
        try:
            found = self._database.execute(self._query, values).fetchone()
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            raise self._make_error(str(error)) from error
        return bool(found and found[0])

    def _check_quotes(self) -> None:
        """Refuse a name in double quotes that is not a column: SQLite would read it as text."""
        known = {name.lower() for name in self._columns}
        for name in _QUOTED.findall(_STRING.sub("", self._text)):
            if name.replace('""', '"').lower() not in known:
                raise self._make_error(f'no such column: "{name}"')

    def _make_error(self, why: str) -> UsageError:
        shown = ", ".join(self._columns[:_MAX_SHOWN_COLUMNS])
        more = ", ..." if len(self._columns) > _MAX_SHOWN_COLUMNS else ""
        unknown = _UNKNOWN_NAME.search(why)
        hint = f"text stands in single quotes ('{unknown[1]}'); " if unknown else ""
        return UsageError(
            printable_text(f"--where {self._text}: {why}"),
            printable_text(f"{hint}{_EXAMPLE}; the columns are {shown}{more}"),
        )


def _authorize(
    action: int, first: str | None, second: str | None, database: str | None, trigger: str | None
) -> int:
    if action not in _ALLOWED:
        return sqlite3.SQLITE_DENY
    if action == sqlite3.SQLITE_FUNCTION and second in _DENIED_FUNCTIONS:
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
