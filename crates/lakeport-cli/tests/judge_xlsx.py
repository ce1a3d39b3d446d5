"""The judge of .xlsx: openpyxl, which Lakeport did not write.

    judge_xlsx.py compare FILE   every column of the torture table, in what docs/types-xlsx.md says it becomes
    judge_xlsx.py look FILE      sheets with their shape, frozen row and filter, as JSON
    judge_xlsx.py cells FILE     the cells of the first sheet with their number formats, as JSON
"""

import datetime as dt
import decimal
import json
import sys

import formats
import openpyxl


def compare(path):
    sheet = openpyxl.load_workbook(path)["Extract"]
    rows = list(sheet.iter_rows(values_only=True))
    names, rows = rows[0], rows[1:]
    cells = 0
    columns = [(n, v) for n, v in formats.expected_columns(nested=False) if n in names]
    assert [n for n, _ in columns] == list(names), names
    for at, (name, values) in enumerate(columns):
        for row, expected in enumerate(values):
            found = rows[row][at]
            if isinstance(expected, (dt.datetime, dt.date)) and isinstance(found, dt.datetime):
                expected = expected.replace(tzinfo=None) if isinstance(expected, dt.datetime) else dt.datetime(expected.year, expected.month, expected.day)
                assert abs((found - expected).total_seconds()) < 0.0006, (name, row, expected, found)
                found = expected
            if isinstance(expected, decimal.Decimal) and isinstance(found, (int, float)):
                expected, found = float(expected), float(found)
            if expected is not None and isinstance(found, str) and not isinstance(expected, str):
                found = formats.as_type(found, expected)
            if name in ("float16", "float32") and isinstance(found, (int, float)):
                import struct

                found = struct.unpack("f", struct.pack("f", found))[0]
            assert formats.same(expected, found), f"{name} row {row}: expected {str(expected)[:80]!r}, found {str(found)[:80]!r}"
            cells += 1
    print(f"{cells} cells of {len(columns)} columns are as they left")


def look(path):
    book = openpyxl.load_workbook(path)
    print(json.dumps([[s.title, s.max_row, s.max_column, s.freeze_panes, s.auto_filter.ref, s["A1"].font.bold] for s in book]))


def cells(path):
    sheet = openpyxl.load_workbook(path).worksheets[0]
    print(json.dumps([[[str(c.value), c.number_format, c.data_type] for c in row] for row in sheet.iter_rows()]))


if __name__ == "__main__":
    {"compare": compare, "look": look, "cells": cells}[sys.argv[1]](sys.argv[2])
