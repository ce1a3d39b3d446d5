"""The value battery of the Spark engine: values made by Spark's own SQL, read back from .hyper by tableauhyperapi.

    judge_spark.py sql WHICH           the query, one line
    judge_spark.py wishes WHICH        what is asked for, COLUMN=WISH
    judge_spark.py compare FILE WHICH
    judge_spark.py table make FILE WHICH     what Spark can read of the torture table of the main job
    judge_spark.py table compare FILE WHICH
    judge_spark.py jobs PORT USER      what the server's own pages say of a user's jobs

The expected values are Python's own. WHICH is `stream` or `stage`, the hand-offs of the engine, `sail` for a stream
from Sail, or `frame`: what Spark hands to a data source.
"""

import collections
import datetime as dt
import decimal
import json
import math
import sys
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
import torture

D = decimal.Decimal
UTC = dt.timezone.utc
# name, wish, whether it can be staged, then per row the SQL expression and what must arrive.
COLUMNS = [
    ("n", None, True, [("1", 1), ("2", 2), ("3", 3)]),
    ("tiny", None, True, [("cast(-128 as tinyint)", -128), ("cast(127 as tinyint)", 127), ("null", None)]),
    ("small", None, True, [("cast(-32768 as smallint)", -32768), ("null", None), ("cast(32767 as smallint)", 32767)]),
    ("whole", None, True, [("cast(-2147483648 as int)", -(2**31)), ("2147483647", 2**31 - 1), ("null", None)]),
    ("big", None, True, [("cast('-9223372036854775808' as bigint)", -(2**63)), ("null", None), ("9223372036854775807L", 2**63 - 1)]),
    ("single", None, True, [("cast(0.1 as float)", 0.10000000149011612), ("cast('NaN' as float)", math.nan), ("null", None)]),
    ("dbl", None, True, [("cast('Infinity' as double)", math.inf), ("4.9e-324D", 5e-324), ("null", None)]),
    ("d38", None, True, [("cast('9999999999999999999999999999.9999999999' as decimal(38,10))", D("9" * 28 + "." + "9" * 10)), ("null", None), ("cast(-0.0000000001 as decimal(38,10))", D("-0.0000000001"))]),
    ("d5", None, True, [("cast(-123.45 as decimal(5,2))", D("-123.45")), ("null", None), ("cast(0 as decimal(5,2))", D(0))]),
    ("yes", None, True, [("true", True), ("false", False), ("null", None)]),
    ("t", None, True, [("''", ""), ("'naïve 😀 \\'quoted\\''", "naïve 😀 'quoted'"), ("null", None)]),
    ("long", None, True, [("repeat('x', 3000000)", "x" * 3_000_000), ("null", None), ("'y'", "y")]),
    ("v", None, True, [("cast('abc' as varchar(5))", "abc"), ("null", None), ("cast('' as varchar(5))", "")]),
    ("raw", None, True, [("X'00ff'", b"\x00\xff"), ("X''", b""), ("null", None)]),
    ("day", None, True, [("date'0001-01-01'", dt.date(1, 1, 1)), ("date'9999-12-31'", dt.date(9999, 12, 31)), ("null", None)]),
    ("ltz", None, True, [("timestamp'1969-12-31 23:59:59.999999Z'", dt.datetime(1969, 12, 31, 23, 59, 59, 999999, UTC)), ("timestamp'2024-06-30 12:00:00+02:00'", dt.datetime(2024, 6, 30, 10, tzinfo=UTC)), ("null", None)]),
    ("ntz", None, True, [("timestamp_ntz'0001-01-01 00:00:00'", dt.datetime(1, 1, 1)), ("timestamp_ntz'9999-12-31 23:59:59.999999'", dt.datetime(9999, 12, 31, 23, 59, 59, 999999)), ("null", None)]),
    ("list", "json", True, [("array(1, null, 3)", "[1,null,3]"), ("array()", "[]"), ("null", None)]),
    ("map", "json", True, [("map('k', 1)", '{"k":1}'), ("null", None), ("map('é', null)", '{"é":null}')]),
    ("struct", "json", True, [("named_struct('a', 1, 'b', 'x')", '{"a":1,"b":"x"}'), ("null", None), ("named_struct('a', 2, 'b', cast(null as string))", '{"a":2,"b":null}')]),
    ("months", None, False, [("interval '1-2' year to month", "P1Y2M"), ("null", None), ("interval '-3' month", "P-3M")]),
    ("span", None, False, [("interval '1 02:03:04.5' day to second", 93_784_500_000), ("null", None), ("interval '-1' second", -1_000_000)]),
    ("nothing", None, False, [("null", None), ("null", None), ("null", None)]),
]
# What only a data source is handed, and more of the ends of its types.
FRAME = [
    ("clock", None, False, [("to_time('23:59:59.999999')", dt.time(23, 59, 59, 999999)), ("null", None), ("to_time('00:00:00')", dt.time(0))]),
    ("d38max", None, False, [("cast(repeat('9', 38) as decimal(38,0))", D("9" * 38)), ("cast('-' || repeat('9', 38) as decimal(38,0))", D("-" + "9" * 38)), ("null", None)]),
    ("first", None, False, [("timestamp'0001-01-01 00:00:00Z'", dt.datetime(1, 1, 1, tzinfo=UTC)), ("null", None), ("timestamp'9999-12-31 23:59:59.999999Z'", dt.datetime(9999, 12, 31, 23, 59, 59, 999999, UTC))]),
    ("least", None, False, [("cast('-Infinity' as double)", -math.inf), ("null", None), ("-1.7976931348623157e308D", -1.7976931348623157e308)]),
    ("nul", None, False, [("decode(X'610062', 'utf-8')", "a\0b"), ("null", None), ("decode(X'f09f9880', 'utf-8')", "😀")]),
    ("days", "json", False, [("array(date'2024-02-29', null)", '["2024-02-29",null]'), ("null", None), ("array(cast(null as date))", "[null]")]),
    ("deep", "json", False, [("array(named_struct('k', map('a', array(1.5D))))", '[{"k":{"a":[1.5]}}]'), ("null", None), ("array(named_struct('k', cast(null as map<string,array<double>>)))", '[{"k":null}]')]),
]
NESTED = [c[0] for c in COLUMNS + FRAME if c[1] == "json"]

# What passes through Spark Connect behind a setting, or as what the wish says.
CONNECT = [
    ("at", None, True, [("to_time('23:59:59.999999')", dt.time(23, 59, 59, 999999)), ("to_time('00:00')", dt.time(0)), ("cast(null as time)", None)]),
    ("variant", "json", True, [("parse_json('{\"b\": [1, {}, null], \"é\": \"😀\"}')", '{"b":[1,{},null],"é":"😀"}'), ("cast(null as variant)", None), ("parse_json('1')", "1")]),
    ("point", "binary", True, [("st_geomfromwkb(X'0101000000000000000000F03F0000000000000040')", bytes.fromhex("0101000000000000000000F03F0000000000000040")), ("null", None), ("null", None)]),
    ("wkb", "binary", True, [("st_geogfromwkb(X'0101000000000000000000F03F0000000000000040')", bytes.fromhex("0101000000000000000000F03F0000000000000040")), ("null", None), ("null", None)]),
    ("folded", None, True, [("'Äb' collate UNICODE_CI", "Äb"), ("'' collate UNICODE_CI", ""), ("cast(null as string collate UNICODE_CI)", None)]),
    ("calendar", None, False, [("make_interval(1, 2, 3, 4, 5, 6, 7.5)", "P1Y2M25DT18367.5S"), ("make_interval()", "PT0S"), ("cast(null as interval)", None)]),
]
# Arrow types of the torture table that are none of Spark's, by the reason.
NOT_IN_SPARK = {
    "float16": "no half-precision numbers",
    "decimal256_76_4": "decimals of at most 38 digits",
    "time32_s": "no TIME of milliseconds in Parquet",
    "time32_ms": "no TIME of milliseconds in Parquet",
    "timestamp_ns": "no timestamps of nanoseconds in Parquet",
    "timestamptz_ns": "no timestamps of nanoseconds in Parquet",
}

# What Sail 0.7 cannot do, by the reason.
NOT_IN_SAIL = {
    "map": "its schema denies the NULLs that its union of maps has",
    "folded": "knows no collations",
    "time64_ns": "has no TIME of nanoseconds",
    **dict.fromkeys(["uint8", "uint16", "uint32", "uint64"], "announces numbers without a sign as numbers with one, of the same width"),
}


def columns(which):
    if which == "frame":
        return [c for c in COLUMNS if c[0] != "months"] + FRAME
    every = COLUMNS + CONNECT
    every = [c for c in every if which != "sail" or c[0] not in NOT_IN_SAIL]
    return [c for c in every if c[2] or which in ("stream", "sail")]


def sql(which):
    rows = []
    for row in range(3):
        parts = [f"{values[row][0]} as `{name}`" for name, _, _, values in columns(which)]
        rows.append("select " + ", ".join(parts))
    return " union all ".join(rows)


def compare(path, which):
    got, _ = torture.by_tableauhyperapi(path)
    assert list(got) == [c[0] for c in columns(which)], list(got)
    order = {n: at for at, n in enumerate(got["n"])}
    assert sorted(order) == [1, 2, 3], got["n"]
    cells = 0
    for name, _, _, values in columns(which):
        for row, (_, want) in enumerate(values):
            read = got[name][order[row + 1]]
            if isinstance(read, dt.datetime) and read.tzinfo is not None:
                read = read.astimezone(UTC)
            assert torture.same(want, read), f"{name}[{row}]: {str(want)[:60]!r} became {str(read)[:60]!r}"
            cells += 1
    print(f"{cells} cells are as they left")


def jobs(port, user):
    def ask(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/applications{path}") as answer:
            return json.load(answer)

    (application,) = ask("")
    mine = [j for j in ask(f"/{application['id']}/jobs") if any(f"_User_{user}_Session_" in t for t in j["jobTags"])]
    states = collections.Counter(j["status"] for j in mine)
    found = [f"{state}: {n}" for state, n in sorted(states.items())]
    print(", ".join([*found, f"tasks at work: {sum(j['numActiveTasks'] for j in mine)}"]))


def table(make, path, which):
    left_out = {*NOT_IN_SPARK, *(NOT_IN_SAIL if which == "sail" else ())}
    every = {n: c for n, c in torture.columns().items() if n not in left_out}
    if make:
        fields = [pa.field(name, array.type, nullable=array.null_count > 0) for name, (array, _, _) in every.items()]
        pq.write_table(pa.Table.from_arrays([a for a, _, _ in every.values()], schema=pa.schema(fields)), path, store_schema=False)
        return
    want = {n: v for n, v in torture.expected("all").items() if n not in left_out}
    got, _ = torture.by_tableauhyperapi(path)
    assert list(got) == list(want), list(got)
    number = next(n for n in want if n.startswith('a "quoted"'))
    order = {row: at for at, row in enumerate(got[number])}
    cells = 0
    for name, values in want.items():
        for row, value in enumerate(values):
            read = got[name][order[row]]
            if isinstance(read, dt.datetime) and read.tzinfo is not None:
                read = read.astimezone(UTC)
            assert torture.same(value, read), f"{name}[{row}]: {str(value)[:60]!r} became {str(read)[:60]!r}"
            cells += 1
    assert cells == 8 * len(want)
    print(f"{cells} cells of {len(want)} columns are as they left")


if __name__ == "__main__":
    if sys.argv[1] == "table":
        table(sys.argv[2] == "make", sys.argv[3], sys.argv[4])
    elif sys.argv[1] == "wishes":
        print(" ".join(f"{name}={wish}" for name, wish, _, _ in columns(sys.argv[2]) if wish))
    elif sys.argv[1] == "jobs":
        jobs(sys.argv[2], sys.argv[3])
    elif sys.argv[1] == "sql":
        print(sql(sys.argv[2]))
    else:
        compare(sys.argv[2], sys.argv[3])
