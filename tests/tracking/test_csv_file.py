from __future__ import annotations

import csv
import io

import pytest

from kdrobust.tracking.csv_file import CsvWriter, csv_records, csv_text


@pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@sum", "\t=1", "\n=1", "=", "-", "+lr=3"])
def test_a_formula_is_text(text: str) -> None:
    assert next(csv.reader(io.StringIO(csv_text([text], []), newline="")))[0] == "'" + text
    assert list(csv.reader(io.StringIO(csv_text(["a"], [[text]]), newline="")))[1] == ["'" + text]


@pytest.mark.parametrize("value", ["-1", "+1e-5", "-inf", "", "a=b", "'x", " =1", -0.5, 3, True])
def test_numbers_and_other_text_stay(value: object) -> None:
    assert list(csv.reader(io.StringIO(csv_text(["a", "b"], [[value, 0]]))))[1] == [str(value), "0"]


def test_a_carriage_return_begins_no_row() -> None:
    assert list(csv.reader(io.StringIO(csv_text(["a", "b"], [["x\r=1", "\r"]]), newline=""))) == [
        ["a", "b"],
        ["x\n=1", "'\n"],
    ]


def test_none_and_missing_are_empty() -> None:
    assert csv_text(["a", "b"], [[None, 1]]) == "a,b\n,1\n"
    assert csv_records(["a", "b"], [{"b": 1}, {"a": 0.5, "c": 9}]) == "a,b\n,1\n0.5,\n"


def test_rows_are_written_as_they_come() -> None:
    file = io.StringIO()
    writer = CsvWriter(file, ["a"])
    writer.row([1])
    writer.rows([[2], ["x,y"]])
    assert file.getvalue() == 'a\n1\n2\n"x,y"\n'
