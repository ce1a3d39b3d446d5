"""The judge of .yxdb: the PyPI package yxdb (MIT), which Lakeport did not write. It knows no Time and reads decimals as floats.

    judge_yxdb.py compare FILE   every column of the torture table, in what docs/types-yxdb.md says it becomes
    judge_yxdb.py rows FILE      number of records, and the first, middle and last value of the first field, as JSON
"""

import datetime as dt
import decimal
import json
import sys

import formats
from yxdb.yxdb_reader import YxdbReader


def rows(path):
    reader = YxdbReader(path=path)
    names = [field.name for field in reader.list_fields()]
    while reader.next():
        yield {name: reader.read_index(i) for i, name in enumerate(names)}
    reader.close()


def compare(path):
    there = list(rows(path))
    cells = 0
    # Columns of times are texts here (the wish `text`), because this reader has no Time.
    for name, values in formats.expected_columns(nested=False):
        for row, (expected, found) in enumerate(zip(values, (r[name] for r in there), strict=True)):
            if isinstance(expected, decimal.Decimal) or name == "uint64" and expected is not None:
                expected = float(expected)
            if isinstance(expected, dt.datetime) and isinstance(found, dt.datetime):
                expected = expected.replace(tzinfo=None)
            elif isinstance(expected, dt.date) and isinstance(found, dt.datetime):
                found = found.date()
            if expected is not None and found is not None and isinstance(found, str) and not isinstance(expected, str):
                found = formats.as_type(found, expected)
                if isinstance(expected, dt.datetime) and expected.tzinfo is None:
                    found = found.replace(tzinfo=None)
            if name in ("float16", "float32") and found is not None:
                expected, found = float(expected), float(found)
            assert formats.same(expected, found), f"{name} row {row}: expected {str(expected)[:80]!r}, found {str(found)[:80]!r}"
            cells += 1
    print(f"{cells} cells are as they left")


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare(sys.argv[2])
    else:
        values = [next(iter(row.values())) for row in rows(sys.argv[2])]
        print(json.dumps([len(values), values[0], values[len(values) // 2], values[-1]]))
