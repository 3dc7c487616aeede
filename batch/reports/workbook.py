"""Writer of workbooks for Excel and LibreOffice, row by row with XlsxWriter.

Cells hold text and numbers only, so that no file name runs as a formula or becomes a link.
"""

from __future__ import annotations

import re
import weakref
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from batch.errors import OutputError
from batch.files.staging import TMPDIR_REMEDY, StagingFolder
from batch.os_errors import translate_write_errors
from batch.path_text import path_text
from batch.reports.tabular import Column, ColumnKind, Record, Sink, format_value

# Limits of Excel: https://support.microsoft.com/office/1672b34d-7043-467e-8e27-269d656771c3
MAX_SHEET_ROWS = 1_048_576  # with the header
MAX_CELL_LENGTH = 32_767  # UTF-16 units
# Bytes of a sheet, uncompressed. A larger one needs zip64, which not all programs read; zipfile
# allows for compression that makes the data 5 % longer.
MAX_SHEET_BYTES = int(zipfile.ZIP64_LIMIT / 1.05)
FORMAT_REMEDY = (
    "name a .csv, .jsonl or .parquet file; with --state and this report's journal no photo is "
    "labelled again"
)
_PATH_WIDTH = 50  # characters
# Characters that XML does not allow or that XlsxWriter escapes; a report's own text has none.
_NOT_XML = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")


class WorkbookWriter:
    """Writes one sheet with a header, one row at a time; equal records give equal bytes.

    The sheet is written to a temporary folder; ``finish`` compresses it into the stream.

    Raises:
        OutputError: the temporary folder can't be created.
    """

    def __init__(self, stream: Sink, columns: Sequence[Column]) -> None:
        import xlsxwriter

        self._columns = tuple(columns)
        self._archive = _ArchiveStream(stream)
        staging = StagingFolder()
        self._temporary = f"temporary folder {path_text(staging.path)}"
        with translate_write_errors(self._temporary, TMPDIR_REMEDY):
            options = {"constant_memory": True, "tmpdir": str(staging.path)}
            self._workbook: Any = xlsxwriter.Workbook(self._archive, options)
            self._sheet: Any = self._workbook.add_worksheet("report")
        self._clean_up = weakref.finalize(
            self, _remove_temporary, staging, self._sheet, self._archive
        )
        self._workbook.set_properties({"created": datetime(1980, 1, 1)})
        self._sheet.freeze_panes(1, 0)
        self._sheet.set_column(0, 0, _PATH_WIDTH)
        self._rows = 0
        self._write_cells([column.name for column in columns])

    def write(self, record: Record) -> None:
        """Write one row; None is an empty cell, and numbers are numbers.

        Raises:
            OutputError: the sheet is full, a text does not fit into a cell, or an I/O error.
        """
        cells: list[str | float | None] = []
        for column in self._columns:
            value = record[column.name]
            if value is None:
                cells.append(None)
            elif column.kind is ColumnKind.TEXT:
                cells.append(str(value))
            else:
                cells.append(float(format_value(value, column)))
        self._write_cells(cells)

    def finish(self) -> None:
        """Write the workbook to the stream.

        Raises:
            OutputError: the sheet is too large, or the temporary folder can't be used.
            OSError: the stream can't be written.
        """
        from xlsxwriter.exceptions import FileCreateError, FileSizeError

        try:
            self._workbook.close()
        except FileCreateError as error:
            if self._archive.error:
                raise self._archive.error from None
            with translate_write_errors(self._temporary, TMPDIR_REMEDY):
                raise error.args[0] from None
        except FileSizeError as error:
            raise OutputError(
                f"a sheet has no more than {MAX_SHEET_BYTES:,} bytes", FORMAT_REMEDY
            ) from error
        finally:
            self._clean_up()

    def _write_cells(self, cells: Sequence[str | float | None]) -> None:
        if self._rows == MAX_SHEET_ROWS:
            raise OutputError(f"a workbook has no more than {MAX_SHEET_ROWS:,} rows", FORMAT_REMEDY)
        with translate_write_errors(self._temporary, TMPDIR_REMEDY):
            for column, cell in enumerate(cells):
                if isinstance(cell, str):
                    self._write_text(column, cell)
                elif cell is not None:
                    self._sheet.write_number(self._rows, column, cell)
        self._rows += 1

    def _write_text(self, column: int, text: str) -> None:
        plain = _NOT_XML.sub("\ufffd", text)
        if len(plain.encode("utf-16-le")) // 2 > MAX_CELL_LENGTH:
            raise OutputError(
                f"text of more than {MAX_CELL_LENGTH:,} characters does not fit into a cell of a "
                f"workbook: {text[:60]}...",
                FORMAT_REMEDY,
            )
        if plain.startswith("<r>") and plain.endswith("</r>"):
            # write_string would take this for markup. write_rich_string escapes it in pieces, but
            # escapes _xHHHH_ twice: the text is split so that no piece contains one.
            self._sheet.write_rich_string(self._rows, column, *re.split("(?<=[<_])", plain))
        else:
            self._sheet.write_string(self._rows, column, plain)


class _ArchiveStream:
    """Passes a workbook's bytes to the stream, until it fails or is closed.

    zipfile writes once more when a broken archive is destroyed. The stream may be closed by then.
    """

    def __init__(self, stream: Sink) -> None:
        self.error: OSError | None = None
        self._stream: Sink | None = stream

    def write(self, data: bytes) -> int:
        if self._stream is not None:
            try:
                self._stream.write(data)
            except OSError as error:
                self.error = error
                raise
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None:
        self._stream = None


def _remove_temporary(staging: StagingFolder, sheet: Any, archive: _ArchiveStream) -> None:
    """Remove the temporary files of a workbook, finished or not."""
    archive.close()
    with suppress(OSError):
        sheet.row_data_fh.close()
    staging.close()
