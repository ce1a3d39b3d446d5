"""The judge of .tde: Tableau's own reader, tableauhyperapi 0.0.19691 (Apache-2.0), the last that knows the format.

    judge_tde.py compare FILE          every column of the torture table, in what docs/types-tde.md says it becomes
    judge_tde.py rows FILE             names with types, then every row, one JSON list per line
    judge_tde.py same FILE PARQUET     whether a Parquet file made from the .tde holds what the judge reads, cell by cell
"""

import datetime as dt
import decimal
import json
import os
import sys

sys.path.insert(0, os.environ["LAKEPORT_TDE_JUDGE"])
import tableauhyperapi as api

import formats

assert api.__version__ == "0.0.19691", api.__version__


def plain(value):
    kind = type(value).__name__
    if kind == "Date":
        return dt.date(value.year, value.month, value.day)
    if kind == "Timestamp":
        return dt.datetime(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return value


def read(path):
    """name -> (type, values)"""
    query = f"""SELECT * FROM external('{path}', format => 'tde', "table" => 'Extract.Extract')"""
    # An old hyperd, whose address must not lie in a long directory.
    with api.HyperProcess(api.Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as hyper:
        with api.Connection(hyper.endpoint) as connection, connection.execute_query(query) as result:
            columns = [(c.name.unescaped, str(c.type)) for c in result.schema.columns]
            rows = [[plain(v) for v in row] for row in result]
    return {name: (kind, [row[i] for row in rows]) for i, (name, kind) in enumerate(columns)}


def compare(path):
    there = read(path)
    columns = list(formats.expected_columns(nested=False))
    assert [n for n, _ in columns] == list(there), list(there)
    cells = 0
    for name, values in columns:
        found = there[name][1]
        assert len(found) == len(values), (name, len(found))
        for row, (expected, actual) in enumerate(zip(values, found)):
            if isinstance(expected, decimal.Decimal) and isinstance(actual, float):
                expected = float(expected)
            if isinstance(expected, dt.datetime) and isinstance(actual, dt.datetime):
                expected = expected.replace(tzinfo=None)
            elif expected is not None and isinstance(actual, str) and not isinstance(expected, str):
                actual = formats.as_type(actual, expected)
            assert formats.same(expected, actual), f"{name} row {row}: expected {str(expected)[:80]!r}, found {str(actual)[:80]!r}"
            cells += 1
    print(f"{cells} cells of {len(columns)} columns are as they left")


def same(path, parquet):
    import pyarrow.parquet as pq

    table = pq.read_table(parquet)
    there = read(path)
    assert table.column_names == list(there), (table.column_names, list(there))
    cells = nulls = 0
    for name, (_, values) in there.items():
        ours = table[name].to_pylist()
        assert len(ours) == len(values), (name, len(ours), len(values))
        for row, (expected, actual) in enumerate(zip(values, ours)):
            assert formats.same(expected, actual), f"{name} row {row}: the judge reads {expected!r}, Lakeport {actual!r}"
            cells += 1
            nulls += expected is None
    print(f"{cells} cells are the same, {nulls} of them NULL")


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare(sys.argv[2])
    elif sys.argv[1] == "same":
        same(sys.argv[2], sys.argv[3])
    else:
        there = read(sys.argv[2])
        print(json.dumps({name: kind for name, (kind, _) in there.items()}, ensure_ascii=False))
        for row in zip(*(values for _, values in there.values())):
            print(json.dumps(row, default=str, ensure_ascii=False))
