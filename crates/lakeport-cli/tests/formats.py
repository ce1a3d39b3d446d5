"""The value battery of the plain formats: each read by a reader Lakeport did not write, each cell compared.

    formats.py compare FILE   every column of the torture table, in what the format's mapping table says it becomes
    formats.py text FILE      the lines of a text file, as JSON

csv, parquet and orc are read by pyarrow, ndjson by Python's json, avro by fastavro.
"""

import datetime as dt
import decimal
import gzip
import json
import math
import struct
import sys
from pathlib import Path

import torture

D = decimal.Decimal


def lines(path):
    opened = gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8")
    # Only \n ends a line; Python's own notion is wider.
    with opened as file:
        return file.read().split("\n")[:-1]


def read(path):
    """name -> values, as the judge gives them."""
    name = Path(path).name
    if ".csv" in name:
        import pyarrow.csv as csv

        names = list(csv.open_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), read_options=csv.ReadOptions(block_size=1 << 26)).schema.names)
        table = csv.read_csv(
            path,
            parse_options=csv.ParseOptions(newlines_in_values=True),
            read_options=csv.ReadOptions(block_size=1 << 26),
            convert_options=csv.ConvertOptions(
                column_types={n: "string" for n in names}, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
        return {n: table[n].to_pylist() for n in names}
    if ".ndjson" in name:
        rows = [json.loads(line, parse_float=D) for line in lines(path)]
        return {n: [row[n] for row in rows] for n in rows[0]}
    if name.endswith(".avro"):
        import fastavro

        with open(path, "rb") as file:
            rows = list(fastavro.reader(file))
        return {n: [row[n] for row in rows] for n in rows[0]}
    if name.endswith(".orc"):
        import pyarrow.orc as orc

        table = orc.read_table(path)
        return {n: table[n].to_pylist() for n in table.column_names}
    import pyarrow.parquet as pq

    import pyarrow as pa

    table = pq.read_table(path)
    for index, field in enumerate(table.schema):
        # Python's own calendar ends where the last instant of 9999 is shown in Berlin.
        if pa.types.is_timestamp(field.type) and field.type.tz not in (None, "UTC"):
            table = table.set_column(index, field.name, table[index].cast(pa.timestamp(field.type.unit, "UTC")))
    return {n: table[n].to_pylist() for n in table.column_names}


def as_type(value, like):
    """A judge's value as the type of the expected one; texts are parsed."""
    if value is None or isinstance(value, type(like)) and not isinstance(like, (dt.datetime, bytes)):
        return value
    if isinstance(like, bool):
        return {"true": True, "false": False}[value]
    if isinstance(like, int):
        return int(value)
    if isinstance(like, float):
        return float(value)
    if isinstance(like, D):
        return D(str(value))
    if isinstance(like, bytes):
        return value if isinstance(value, bytes) else bytes.fromhex(value)
    if isinstance(like, dt.datetime):
        value = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
        return value.astimezone(dt.timezone.utc) if like.tzinfo else value
    if isinstance(like, dt.date):
        return dt.datetime.fromisoformat(value).date()
    if isinstance(like, dt.time):
        return dt.time.fromisoformat(value)
    if isinstance(like, (list, dict)):
        return dict(value) if isinstance(like, dict) else value
    raise AssertionError(f"{value!r} where {like!r} was expected")


def same(expected, actual):
    if isinstance(expected, float) and isinstance(actual, float):
        return math.isnan(expected) and math.isnan(actual) or expected == actual
    return expected == actual


def expected_columns(nested):
    for name, (array, values, _) in torture.columns().items():
        if name == "struct_flat":
            rows = array.to_pylist()
            for field in ("a", "b"):
                yield f"{name}.{field}", [None if row is None else row[field] for row in rows]
        elif name.endswith("_json") and nested:
            yield name, [None if v is None else json.loads(v) for v in values]
        else:
            yield name, values


def compare(path):
    nested = ".ndjson" in path or path.endswith(".parquet")
    there = read(path)
    if path.endswith(".avro"):
        plain = lambda name: "".join(c if c.isascii() and c.isalnum() or c == "_" else "_" for c in name)
    else:
        plain = lambda name: name
    cells = 0
    columns = list(expected_columns(nested))
    assert [plain(n) for n, _ in columns] == list(there), (list(there), [n for n, _ in columns])
    for name, values in columns:
        actual = there[plain(name)]
        assert len(actual) == len(values), (name, len(actual))
        for row, (e, a) in enumerate(zip(values, actual)):
            a = as_type(a, e) if e is not None else a
            if name in ("float16", "float32") and isinstance(a, float):
                a = struct.unpack("f", struct.pack("f", a))[0]
            assert same(e, a), f"{name} row {row}: expected {str(e)[:80]!r}, found {str(a)[:80]!r}"
            cells += 1
    print(f"{cells} cells of {len(columns)} columns are as they left")


if __name__ == "__main__":
    if sys.argv[1] == "compare":
        compare(sys.argv[2])
    else:
        print(json.dumps(lines(sys.argv[2])))
