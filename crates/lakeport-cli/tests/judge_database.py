"""The judges of databases: psycopg and Python's own sqlite3.

    judge_database.py compare URI TABLE   every column of the torture table, in what the dialect's docs page says it becomes
    judge_database.py rows URI SQL        the rows of a query, as JSON
    judge_database.py count URI TABLE     how many rows a table, given as SQL names it, holds; null where there is none
    judge_database.py do URI SQL          runs a statement
    judge_database.py hold URI SQL        runs a statement in a transaction that stays open until the input ends
    judge_database.py watch URI TABLE     counts rows again and again until its input ends; prints the distinct counts
"""

import datetime as dt
import decimal
import json
import sys

import formats


def connect(uri):
    if uri.startswith("postgresql"):
        import psycopg

        return psycopg.connect(uri, autocommit=True)
    import sqlite3

    return sqlite3.connect(uri)


def compare(uri, table):
    postgres = uri.startswith("postgresql")
    cursor = connect(uri).cursor()
    cursor.execute(f'select * from "{table}"')
    names = [d[0] for d in cursor.description]
    # Rows carry their number, because no database promises an order; PostgreSQL's names have 63 bytes.
    number = next(i for i, n in enumerate(names) if n.startswith('a "quoted"'))
    rows = sorted(cursor.fetchall(), key=lambda r: r[number])
    cells = 0
    columns = [(n[:63] if postgres else n, v) for n, v in formats.expected_columns(nested=False)]
    columns = [(n, v) for n, v in columns if n in names]
    assert [n for n, _ in columns] == names, (names, [n for n, _ in columns])
    for at, (name, values) in enumerate(columns):
        for row, expected in enumerate(values):
            found = rows[row][at]
            if isinstance(expected, bool) and found is not None:
                found = bool(found)
            elif expected is not None and found is not None and not isinstance(found, type(expected)):
                found = formats.as_type(found, expected)
            if isinstance(expected, dt.datetime) and expected.tzinfo and found is not None:
                found = found.astimezone(dt.timezone.utc)
            if name in ("float16", "float32") and isinstance(found, float):
                import struct

                found = struct.unpack("f", struct.pack("f", found))[0]
            if isinstance(found, memoryview):
                found = bytes(found)
            assert formats.same(expected, found), f"{name} row {row}: expected {str(expected)[:80]!r}, found {str(found)[:80]!r}"
            cells += 1
    print(f"{cells} cells of {len(columns)} columns are as they left")


def rows(uri, sql):
    cursor = connect(uri).cursor()
    cursor.execute(sql)
    plain = lambda v: v if isinstance(v, (int, str, float, type(None))) else str(v)
    print(json.dumps([[plain(v) for v in row] for row in cursor.fetchall()]))


def count(uri, table):
    cursor = connect(uri).cursor()
    try:
        cursor.execute(f"select count(*) from {table}")
    except Exception as e:
        assert "no such table" in str(e) or "does not exist" in str(e), e
        return print("null")
    print(cursor.fetchone()[0])


def do(uri, sql):
    connection = connect(uri)
    connection.execute(sql)
    connection.commit()


def hold(uri, sql):
    connection = connect(uri)
    # psycopg's connection above commits each statement, Python's sqlite3 none.
    connection.execute("begin") if uri.startswith("postgresql") else None
    connection.execute(sql)
    print("held", flush=True)
    sys.stdin.read()


def watch(uri, table):
    import threading

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    cursor, counts = connect(uri).cursor(), set()
    while not ended.is_set():
        cursor.execute(f'select count(*), min(v), max(v) from "{table}"')
        counts.add(tuple(cursor.fetchone()))
    print(json.dumps(sorted(counts)))


if __name__ == "__main__":
    {"compare": compare, "rows": rows, "count": count, "do": do, "hold": hold, "watch": watch}[sys.argv[1]](*sys.argv[2:])
