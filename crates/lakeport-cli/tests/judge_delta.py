"""The judges of Delta tables: delta-rs through its Python package, and DuckDB over the files that it names.

    judge_delta.py compare TABLE N   every column of the torture table, N times over, in what docs/types-delta.md says it becomes
    judge_delta.py rows TABLE        the rows as both judges give them, sorted, as JSON
    judge_delta.py history TABLE     version, mode and rows of each commit, oldest first, as JSON

Options of the store come as JSON in JUDGE_OPTIONS.
"""

import datetime as dt
import json
import os
import struct
import sys

import deltalake
import duckdb
import formats
import pyarrow as pa

OPTIONS = json.loads(os.environ.get("JUDGE_OPTIONS", "{}"))


def table(path):
    return deltalake.DeltaTable(path, storage_options=OPTIONS)


def by_delta_rs(path):
    """What a reader of the log makes of the table, types included."""
    found = deltalake.QueryBuilder().register("t", table(path)).execute("select * from t")
    return pa.table(found.read_all() if hasattr(found, "read_all") else found)


def by_duckdb(path):
    """The values of the files that the log names; local tables only."""
    files = table(path).file_uris()
    if not files:
        return None
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    found = connection.sql("select * from read_parquet($files, union_by_name = true)", params={"files": files})
    # Each file has its own order of columns; the table's is the log's.
    return found.to_arrow_table().select([f.name for f in table(path).schema().fields])


def values(read):
    for index, field in enumerate(read.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz not in (None, "UTC"):
            read = read.set_column(index, field.name, read[index].cast(pa.timestamp(field.type.unit, "UTC")))
    return {n: read[n].to_pylist() for n in read.column_names}


def compare(path, times):
    columns = list(formats.expected_columns(nested=True))
    number = next(n for n, _ in columns if n.startswith('a "quoted"'))
    for judge in (by_delta_rs, by_duckdb):
        there, cells = values(judge(path)), 0
        assert [n for n, _ in columns] == list(there), (judge.__name__, list(there))
        order = sorted(range(len(there[number])), key=lambda row: there[number][row])
        assert len(order) == 8 * times, (judge.__name__, len(order))
        for name, expected in columns:
            for at, row in enumerate(order):
                e, a = expected[at // times], there[name][row]
                a = formats.as_type(a, e) if e is not None else a
                if name in ("float16", "float32") and isinstance(a, float):
                    a = struct.unpack("f", struct.pack("f", a))[0]
                assert formats.same(e, a), f"{judge.__name__}: {name} row {at}: expected {str(e)[:80]!r}, found {str(a)[:80]!r}"
                cells += 1
        print(f"{judge.__name__}: {cells} cells of {len(columns)} columns are as they left")


def rows(path):
    judges = [by_delta_rs] if "://" in path else [by_delta_rs, by_duckdb]
    found = []
    for judge in judges:
        read = judge(path)
        plain = lambda v: v if isinstance(v, (int, str, float, type(None))) else str(v)
        all = [] if read is None else [[plain(v) for v in row.values()] for row in read.to_pylist()]
        found.append(sorted(all, key=lambda row: [(v is None, str(type(v)), v) for v in row]))
    assert all_same(found), found
    print(json.dumps(found[0]))


def all_same(found):
    return all(f == found[0] for f in found)


def history(path):
    commits = sorted(table(path).history(), key=lambda c: c["version"])
    told = lambda c: [c["version"], c["operationParameters"]["mode"], int(c["operationMetrics"]["numOutputRows"])]
    print(json.dumps([told(c) for c in commits]))


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare(sys.argv[2], int(sys.argv[3]))
    else:
        {"rows": rows, "history": history}[sys.argv[1]](sys.argv[2])
