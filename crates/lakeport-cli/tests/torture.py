"""The value battery: every type and edge, written by pyarrow, read back from .hyper by tableauhyperapi and pantab.

    torture.py make DIR            all.parquet (every type), plain.parquet (what hyperd's own loader takes)
    torture.py compare FILE TABLE  compares each cell of the .hyper with what the table TABLE must have become

The expected values are Python's own, made here; Lakeport has no part in them.
"""

import datetime as dt
import decimal
import json
import math
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

D = decimal.Decimal
decimal.getcontext().prec = 80
UTC = dt.timezone.utc
EPOCH = dt.datetime(1970, 1, 1)
TEXTS = ["", "a\x00b", "naïve 😀 ﬀ", "x" * 3_000_000, "'\"\\,\n\r\t", None, " ", "NULL"]
BYTES = [b"", b"\x00\xff", b"x" * 1_000_000, None, b"abc", b"\\x00", b"'", b"\x80"]
MICROS = [0, -1, 1, -62135596800000000, 253402300799999999, None, 1577934245123456, 951782399000000]
DAYS = [0, -1, 1, -719162, 2932896, None, 11016, 18262]
FLOATS = [1.5, math.nan, math.inf, -math.inf, None, 5e-324, 1.7976931348623157e308, -0.1]
HALF = [1.5, math.nan, math.inf, -math.inf, None, 6e-8, 65504.0, -0.25]
SINGLE = [1.5, math.nan, math.inf, -math.inf, None, 1e-45, 3.4028234663852886e38, 0.1]
BIG = D("9" * 38)


def instant(micros):
    return None if micros is None else EPOCH + dt.timedelta(microseconds=micros)


def ints(bits, signed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return [low, high, 0, 1, None, high - 1, low + 1, 7]


def decimals(precision, scale):
    unit = D(1).scaleb(-scale)
    high = (D(10) ** precision - 1) * unit
    return [high, -high, D(0), unit, -unit, None, unit * 10, high - unit]


def timestamps(unit, zone=None):
    """Values of the unit that every target holds; the expected ones are microseconds."""
    per = {"s": 1_000_000, "ms": 1_000, "us": 1}[unit]
    micros = [None if m is None else m // per * per for m in MICROS]
    raw = [None if m is None else m // per for m in micros]
    return pa.array(raw, pa.timestamp(unit, zone)), [instant(m) for m in micros]


def columns():
    """name -> (array, expected values, in the direct table too)"""
    c = {}
    for bits in (8, 16, 32, 64):
        for signed in (True, False):
            values = ints(bits, signed)
            kind = ("" if signed else "u") + f"int{bits}"
            c[kind] = (pa.array(values, getattr(pa, kind)()), values, kind != "uint64")
    c["bool"] = (pa.array([True, False, None, True, False, None, True, True]), [True, False, None, True, False, None, True, True], True)
    c["float16"] = (pa.array(HALF, pa.float16()), pa.array(HALF, pa.float16()).to_pylist(), False)
    c["float32"] = (pa.array(SINGLE, pa.float32()), pa.array(SINGLE, pa.float32()).to_pylist(), True)
    c["float64"] = (pa.array(FLOATS, pa.float64()), FLOATS, True)
    for precision, scale in ((9, 2), (18, 18), (19, 0), (38, 0), (38, 10), (38, 38)):
        values = decimals(precision, scale)
        c[f"decimal128_{precision}_{scale}"] = (pa.array(values, pa.decimal128(precision, scale)), values, True)
    values = decimals(38, 4)
    c["decimal256_76_4"] = (pa.array(values, pa.decimal256(76, 4)), values, False)
    for name, kind in (("utf8", pa.string()), ("large_utf8", pa.large_string()), ("utf8_view", pa.string_view())):
        c[name] = (pa.array(TEXTS, kind), TEXTS, True)
    few = ["a", "b", None, "a", "", "b", "a", "ü"]
    c["dictionary"] = (pa.array(few).dictionary_encode(), few, False)
    for name, kind in (("binary", pa.binary()), ("large_binary", pa.large_binary()), ("binary_view", pa.binary_view())):
        c[name] = (pa.array(BYTES, kind), BYTES, True)
    fixed = [b"1234", b"\x00\x00\x00\x00", None, b"\xff\xff\xff\xff", b"abcd", None, b"    ", b"zzzz"]
    c["fixed_binary"] = (pa.array(fixed, pa.binary(4)), fixed, False)
    dates = [None if d is None else dt.date(1970, 1, 1) + dt.timedelta(days=d) for d in DAYS]
    c["date32"] = (pa.array(DAYS, pa.date32()), dates, True)
    c["date64"] = (pa.array([None if d is None else d * 86_400_000 for d in DAYS], pa.date64()), dates, False)
    for unit in ("s", "ms", "us"):
        array, expected = timestamps(unit)
        c[f"timestamp_{unit}"] = (array, expected, unit != "s")
        array, expected = timestamps(unit, "Europe/Berlin" if unit == "us" else "UTC")
        c[f"timestamptz_{unit}"] = (array, [v and v.replace(tzinfo=UTC) for v in expected], unit != "s")
    nanos = [0, -1_000, 1_000, 1_577_934_245_123_456_000, None, 951_782_399_000_000_000, None, 1_000_000]
    whole = [None if n is None else instant(n // 1000) for n in nanos]
    c["timestamp_ns"] = (pa.array(nanos, pa.timestamp("ns")), whole, False)
    c["timestamptz_ns"] = (pa.array(nanos, pa.timestamp("ns", "UTC")), [v and v.replace(tzinfo=UTC) for v in whole], False)
    seconds = [0, 86_399, 1, None, 43_200, 3_600, 59, 60]
    clock = lambda us: None if us is None else (dt.datetime(2000, 1, 1) + dt.timedelta(microseconds=us)).time()
    for name, kind, per in (
        ("time32_s", pa.time32("s"), 1),
        ("time32_ms", pa.time32("ms"), 1_000),
        ("time64_us", pa.time64("us"), 1_000_000),
        ("time64_ns", pa.time64("ns"), 1_000_000_000),
    ):
        c[name] = (pa.array([None if s is None else s * per for s in seconds], kind), [clock(s and s * 1_000_000) for s in seconds], False)
    micros = [1, 86_399_999_999, None, 123_456, 0, 999_999, 5, 7]
    c["time64_us_fine"] = (pa.array(micros, pa.time64("us")), [clock(m) for m in micros], False)
    for unit in ("s", "ms", "us", "ns"):
        c[f"duration_{unit}"] = (pa.array([0, -1, 2**62, None, 5, 6, 7, 8], pa.duration(unit)), [0, -1, 2**62, None, 5, 6, 7, 8], False)
    c["null"] = (pa.nulls(8), [None] * 8, False)
    lists = [[1, None], [], None, [2**31 - 1], [0], None, [3], [4]]
    c["list_json"] = (pa.array(lists, pa.list_(pa.int32())), [None if v is None else json.dumps(v, separators=(",", ":")) for v in lists], False)
    maps = [[("k", 1)], [], None, [("a", None)], [("é", 2)], None, [("x", 3)], [("y", 4)]]
    c["map_json"] = (
        pa.array(maps, pa.map_(pa.string(), pa.int64())),
        [None if v is None else json.dumps(dict(v), separators=(",", ":"), ensure_ascii=False) for v in maps],
        False,
    )
    structs = [{"a": 1, "b": "x"}, None, {"a": None, "b": ""}, {"a": 2, "b": None}, {"a": 3, "b": "é"}, None, {"a": 4, "b": "y"}, {"a": 5, "b": "z"}]
    struct = pa.array(structs, pa.struct([("a", pa.int32()), ("b", pa.string())]))
    c["struct_json"] = (struct, [None if v is None else json.dumps(v, separators=(",", ":"), ensure_ascii=False) for v in structs], False)
    c["struct_flat"] = (struct, None, False)
    c['a "quoted" name, 200 characters ' + "n" * 168] = (pa.array(range(8), pa.int32()), list(range(8)), True)
    return c


def expected(table):
    out = {}
    for name, (array, values, direct) in columns().items():
        if table == "plain" and not direct:
            continue
        if name == "struct_flat":
            out["struct_flat.a"] = [v and v["a"] for v in array.to_pylist()]
            out["struct_flat.b"] = [None if v is None else v["b"] for v in array.to_pylist()]
        else:
            out[name] = values
    return out


def make(root):
    root.mkdir(parents=True, exist_ok=True)
    every = columns()
    fields = [pa.field(name, array.type, nullable=array.null_count > 0) for name, (array, _, _) in every.items()]
    # The row group's statistics and pages are pyarrow's defaults: what real files look like.
    pq.write_table(pa.Table.from_arrays([a for a, _, _ in every.values()], schema=pa.schema(fields)), root / "all.parquet", store_schema=True)
    plain = {n: v for n, v in every.items() if v[2]}
    fields = [pa.field(name, array.type, nullable=array.null_count > 0) for name, (array, _, _) in plain.items()]
    pq.write_table(pa.Table.from_arrays([a for a, _, _ in plain.values()], schema=pa.schema(fields)), root / "plain.parquet", store_schema=True)


def normal(value):
    """A value as tableauhyperapi or pantab hands it out, in plain Python."""
    kind = type(value).__name__
    if kind == "Date":
        return dt.date(value.year, value.month, value.day)
    if kind == "Timestamp" and hasattr(value, "tzinfo"):
        at = dt.datetime(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
        return at.replace(tzinfo=UTC) if value.tzinfo is not None else at
    return value


def same(left, right):
    if left is None or right is None:
        return left is None and right is None
    if isinstance(left, float) or isinstance(right, float):
        if math.isnan(left):
            return isinstance(right, float) and math.isnan(right)
        return float(left) == float(right)
    if isinstance(left, dt.datetime) and isinstance(right, dt.datetime) and (left.tzinfo is None) != (right.tzinfo is None):
        return False
    if isinstance(left, bool) != isinstance(right, bool):
        return False
    return left == right


def by_tableauhyperapi(path):
    from tableauhyperapi import Connection, HyperProcess, Telemetry

    with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as hyper:
        with Connection(hyper.endpoint, str(path)) as connection:
            (table,) = connection.catalog.get_table_names("Extract")
            definition = connection.catalog.get_table_definition(table)
            names = [c.name.unescaped for c in definition.columns]
            nullable = {c.name.unescaped: c.nullability.value for c in definition.columns}
            rows = connection.execute_list_query(f"select * from {table}")
    return {name: [normal(row[i]) for row in rows] for i, name in enumerate(names)}, nullable


def by_pantab(path):
    import pantab

    frames = pantab.frames_from_hyper(str(path), return_type="pyarrow")
    ((_, table),) = frames.items()
    return {name: [normal(v) for v in table.column(name).to_pylist()] for name in table.column_names}


def compare(path, table):
    want = expected(table)
    got, nullable = by_tableauhyperapi(path)
    readers = {"tableauhyperapi": got, "pantab": by_pantab(path)}
    failures, cells = [], 0
    for reader, columns_read in readers.items():
        if list(columns_read) != list(want):
            failures.append(f"{reader}: columns {list(columns_read)} instead of {list(want)}")
            continue
        # Rows carry their number, because no reader promises an order.
        number = next(n for n in want if n.startswith("a \"quoted\""))
        order = {row: at for at, row in enumerate(columns_read[number])}
        for name, values in want.items():
            for row, value in enumerate(values):
                cells += 1
                read = columns_read[name][order[row]]
                # pandas-flavoured readers hand instants out in their own zone class.
                if isinstance(read, dt.datetime) and read.tzinfo is not None:
                    read = read.astimezone(UTC)
                if not same(value, read):
                    failures.append(f"{reader}: {name}[{row}]: {str(value)[:60]!r} became {str(read)[:60]!r}")
    for failure in failures:
        print(failure)
    print(f"{cells} cells compared, {len(failures)} differ")
    sys.exit(1 if failures or cells < 2 * 8 * len(want) else 0)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(Path(sys.argv[2]))
    else:
        compare(Path(sys.argv[2]), sys.argv[3])
