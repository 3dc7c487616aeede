"""A report as a workbook for Excel and LibreOffice: Office Open XML, written as the rows come.

Source: ECMA-376, part 1 (SpreadsheetML) and part 2 (packages). Cells hold texts and numbers and
nothing else, so that no name of a file runs as a formula or becomes a link.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from typing import IO
from xml.sax.saxutils import escape

from batch.errors import OutputError
from batch.reports.formats import Column, Kind, Record, Sink, Spool, field_text

# What Excel takes: https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3
MAX_SHEET_ROWS = 1_048_576  # the header is one of them
MAX_CELL_LENGTH = 32_767  # UTF-16 units
# Bytes of a sheet, uncompressed: beyond them a zip needs extensions that not all programs read.
MAX_SHEET_BYTES = zipfile.ZIP64_LIMIT
OTHERWISE = (
    "name a .csv, .jsonl or .parquet file; with --state and this report's journal nothing is "
    "labelled again"
)

_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_SHEET = "xl/worksheets/sheet1.xml"
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
    f'<Override PartName="/{_SHEET}" ContentType="{_TYPE}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><bookViews>'
    '<workbookView/></bookViews><sheets><sheet name="report" sheetId="1" r:id="rId1"/></sheets>'
    "</workbook>",
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet1.xml"/>'
    "</Relationships>",
}
# The header stays in sight, and the first column, the path, is wide.
_BEGIN = (
    f'<worksheet xmlns="{_MAIN}"><sheetViews><sheetView workbookViewId="0"><pane ySplit="1" '
    'topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
    '<cols><col min="1" max="1" width="50" customWidth="1"/></cols><sheetData>'
)
_END = "</sheetData></worksheet>"
# Of characters that XML 1.0 does not have; the report's own texts have none of them.
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# An underscore that would begin an escape: part 1, 22.9.2.19 (ST_Xstring).
_ESCAPE = re.compile("_(?=x[0-9A-Fa-f]{4}_)")


class WorkbookWriter:
    """One sheet with a header: the same bytes every time, and one row in memory."""

    def __init__(self, stream: Sink, columns: Sequence[Column]) -> None:
        self._columns = [(column, _letters(number)) for number, column in enumerate(columns)]
        self._stream = stream
        self._spool = Spool()
        self._zip = zipfile.ZipFile(self._spool, "w")
        for name, text in _PARTS.items():
            self._zip.writestr(_part(name), _HEAD + text)
        self._sheet: IO[bytes] = self._zip.open(_part(_SHEET), "w")
        self._bytes = 0
        self._put(_HEAD + _BEGIN)
        self._rows = 0
        self._add("".join(self._text(column.name, at) for column, at in self._columns))

    def write(self, record: Record) -> None:
        """Write one row; None is an empty cell, and numbers are numbers.

        Raises:
            OutputError: a sheet has no more room, or a cell none for a text.
        """
        cells = []
        for column, at in self._columns:
            value = record[column.name]
            if value is None:
                continue
            if column.kind is Kind.TEXT:
                cells.append(self._text(str(value), at))
            else:
                number = field_text(value, column)
                cells.append(f'<c r="{at}{self._rows + 1}"><v>{number}</v></c>')
        self._add("".join(cells))

    def finish(self) -> None:
        """Write the end, without which no program takes the file."""
        self._put(_END)
        self._sheet.close()
        self._zip.close()
        self._stream.write(self._spool.drain())

    def _text(self, text: str, at: str) -> str:
        if len(text.encode("utf-16-le", "surrogatepass")) // 2 > MAX_CELL_LENGTH:
            raise OutputError(
                f"a text of more than {MAX_CELL_LENGTH:,} characters does not fit into a cell of a "
                f"workbook: {text[:60]}...",
                OTHERWISE,
            )
        plain = escape(_ESCAPE.sub("_x005F_", _NO_XML.sub("\ufffd", text)))
        where = f"{at}{self._rows + 1}"
        return f'<c r="{where}" t="inlineStr"><is><t xml:space="preserve">{plain}</t></is></c>'

    def _add(self, cells: str) -> None:
        self._rows += 1
        if self._rows > MAX_SHEET_ROWS:
            raise OutputError(f"a workbook has no more than {MAX_SHEET_ROWS:,} rows", OTHERWISE)
        self._put(f'<row r="{self._rows}">{cells}</row>')

    def _put(self, text: str) -> None:
        data = text.encode()
        self._bytes += len(data)
        if self._bytes + len(_END) > MAX_SHEET_BYTES:
            raise OutputError(f"a sheet has no more than {MAX_SHEET_BYTES:,} bytes", OTHERWISE)
        self._sheet.write(data)
        self._stream.write(self._spool.drain())


def _part(name: str) -> zipfile.ZipInfo:
    part = zipfile.ZipInfo(name)  # of 1980
    part.compress_type = zipfile.ZIP_DEFLATED
    return part


def _letters(number: int) -> str:
    """Name a column, from 0 on: A, B, ..., Z, AA, ..."""
    before, last = divmod(number, 26)
    return (_letters(before - 1) if before else "") + chr(ord("A") + last)
