"""CSV that a spreadsheet shows as it is: no cell of text is taken for a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

#: What makes a formula of a cell in Excel, LibreOffice and Google Sheets (OWASP, "CSV Injection").
_FORMULA = ("=", "+", "-", "@", "\t", "\n")


class CsvWriter:
    """Writes rows to an open text file, ended by a line feed.

    A text that begins with `=`, `+`, `-`, `@`, a tab or a line's end and is no number gets an apostrophe before
    it: class names and file names come with the data.

    Args:
        file: opened with `newline=""`.
        columns: the header.
    """

    def __init__(self, file: TextIO, columns: Iterable[Any]) -> None:
        self._writer = csv.writer(file, lineterminator="\n")
        self.row(columns)

    def row(self, cells: Iterable[Any]) -> None:
        """Write a row; None is an empty cell."""
        self._writer.writerow([_cell(value) for value in cells])

    def rows(self, rows: Iterable[Iterable[Any]]) -> None:
        """Write rows."""
        for cells in rows:
            self.row(cells)


def csv_text(columns: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A whole table as CSV, see `CsvWriter`."""
    buffer = io.StringIO()
    CsvWriter(buffer, columns).rows(rows)
    return buffer.getvalue()


def csv_records(columns: Sequence[str], records: Iterable[dict[str, Any]]) -> str:
    """Records as CSV, a column a key; what a record lacks is empty."""
    return csv_text(columns, ([record.get(column) for column in columns] for record in records))


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # Python's writer quotes a line feed, and lets a carriage return begin a new row
    text = value.replace("\r", "\n") if "\r" in value else value
    if not text.startswith(_FORMULA):
        return text
    try:
        float(text)
    except ValueError:
        return "'" + text
    return text
