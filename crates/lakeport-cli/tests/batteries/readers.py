"""Reads a file of any format that Lakeport writes, by a reader Lakeport did not write; ends with an error where there is none.

    readers.py FILE   {"names": […] or null, "rows": [[…], …]} as JSON: values as text, NULL as null, rows by their first value
                      where it is a number
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import formats


def hyper(path):
    from tableauhyperapi import Connection, HyperProcess, Telemetry

    with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as process:
        with Connection(process.endpoint, path) as connection:
            (table,) = connection.catalog.get_table_names("Extract")
            names = [c.name.unescaped for c in connection.catalog.get_table_definition(table).columns]
            return names, connection.execute_list_query(f"select * from {table}")


def excel(path):
    import openpyxl

    names, *rows = openpyxl.load_workbook(path, read_only=True).worksheets[0].iter_rows(values_only=True)
    return list(names), rows


def alteryx(path):
    from yxdb.yxdb_reader import YxdbReader

    reader = YxdbReader(path=path)
    names, rows = [f.name for f in reader.list_fields()], []
    while reader.next():
        rows.append([reader.read_index(i) for i in range(len(names))])
    reader.close()
    return names, rows


def lines(path):
    return None, [[line] for line in formats.lines(path)]


def ndjson(path):
    rows = [json.loads(line) for line in formats.lines(path)]
    return (list(rows[0]) if rows else None), [list(row.values()) for row in rows]


def csv(path):
    columns = formats.read(path)
    return list(columns), list(zip(*columns.values()))


def avro(path):
    import fastavro

    with open(path, "rb") as file:
        reader = fastavro.reader(file)
        rows = list(reader)
    names = [f["name"] for f in reader.writer_schema["fields"]]
    return names, [[row[n] for n in names] for row in rows]


def arrow(path):
    import pyarrow.orc
    import pyarrow.parquet

    table = (pyarrow.orc.read_table if path.endswith(".orc") else pyarrow.parquet.read_table)(path)
    return table.column_names, list(zip(*(column.to_pylist() for column in table.columns)))


def delta(path):
    import judge_delta

    table = judge_delta.by_delta_rs(path)
    return table.column_names, list(zip(*(column.to_pylist() for column in table.columns)))


def tde(path):
    import judge_tde

    columns = judge_tde.read(path)
    return list(columns), list(zip(*(values for _, values in columns.values())))


READERS = {
    ".hyper": hyper,
    ".xlsx": excel,
    ".yxdb": alteryx,
    ".txt": lines,
    ".ndjson": ndjson,
    ".csv": csv,
    ".avro": avro,
    ".orc": arrow,
    ".parquet": arrow,
    ".delta": delta,
    ".tde": tde,
}

path = sys.argv[1]
if Path(path).suffix not in READERS:
    sys.exit(f"no reader of {Path(path).suffix} files stands in batteries/readers.py: a format needs one that Lakeport did not write")
names, rows = READERS[Path(path).suffix](path)
rows = [[None if value is None else str(value) for value in row] for row in rows]
if rows and rows[0] and rows[0][0] and rows[0][0].isdigit():
    rows.sort(key=lambda row: int(row[0]))
print(json.dumps({"names": names, "rows": rows}))
