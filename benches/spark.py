"""make bench-spark: a data frame to .hyper, beside Spark's own Parquet writer with hyperd's loader, and hyperleaup; and the
results of a cluster through Spark Connect, streamed and staged.

All of the first table runs in one Spark session, the contestants take turns, each file is counted by hyperd. Seconds are
medians. hyperleaup 0.1.2 runs in its Parquet mode with the only settings under which it takes these columns: nulls allowed,
timestamps with time zone; and with a stub for a module it imports and does not declare.

Writes benches/results/spark.json and .md. Runs in a Python with PySpark, hyperleaup and Lakeport's wheel.
"""

import argparse
import glob
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import types
from pathlib import Path

QUERY = (
    "select id, id*2 as b, cast(id as double)/3 as d, concat('row-', id) as s, date_add(date'2020-01-01', int(id%1000)) as dt, "
    "timestamp_seconds(1600000000+id) as ts from range(0,{rows},1,4)"
)
# What Lakeport's pages recommend beside Spark's default of 10,000.
LARGE_BATCHES = 100_000


def stubbed():
    """The module that hyperleaup imports and does not depend on."""
    for name in ("databricks", "databricks.sdk", "databricks.sdk.runtime"):
        module = sys.modules[name] = types.ModuleType(name)
        module.__all__ = []


def hyperd():
    from tableauhyperapi import HyperProcess, Telemetry

    return HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""})


def load(files, to):
    """hyperd's own load of Parquet files, its start included, as it is in the other contestants."""
    from tableauhyperapi import Connection, CreateMode, escape_string_literal

    with hyperd() as process, Connection(process.endpoint, str(to), CreateMode.CREATE_AND_REPLACE) as connection:
        names = ", ".join(escape_string_literal(f) for f in files)
        connection.execute_command('create schema "Extract"')
        connection.execute_command(f'create table "Extract"."Extract" as select * from external(array[{names}], format => \'parquet\')')


def count(file):
    from tableauhyperapi import Connection

    with hyperd() as process, Connection(process.endpoint, str(file)) as connection:
        return connection.execute_scalar_query('select count(*) from "Extract"."Extract"')


def seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def frames(folder, rows, runs):
    """The contestants from within Spark: name to seconds of each run."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").config("spark.driver.memory", "4g")
    spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    df = spark.sql(QUERY.format(rows=rows))

    def lakeport(batch):
        spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", batch)
        writer = df.write.format("lakeport").mode("overwrite").option("stage", str(folder / "stage"))
        writer.option("to", str(folder / "lakeport.hyper")).save()
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
        return folder / "lakeport.hyper"

    def parquet():
        df.write.mode("overwrite").parquet(str(folder / "parquet"))

    def loaded():
        load(sorted(glob.glob(str(folder / "parquet/*.parquet"))), folder / "loaded.hyper")
        return folder / "loaded.hyper"

    def hyperleaup():
        from hyperleaup import HyperFile
        from hyperleaup.hyper_config import HyperFileConfig

        file = HyperFile("bench", df=df, config=HyperFileConfig(timestamp_with_timezone=True, allow_nulls=True))
        return Path(file.path)

    stubbed()
    contestants = {
        "df.write.parquet": parquet,
        "hyperd's load of those files": loaded,
        "lakeport": lambda: lakeport(10_000),
        f"lakeport, batches of {LARGE_BATCHES:,}": lambda: lakeport(LARGE_BATCHES),
        "hyperleaup": hyperleaup,
    }
    taken = {name: [] for name in contestants}
    for run in range(runs + 1):
        for name, work in contestants.items():
            made = None

            def timed():
                nonlocal made
                made = work()

            spent = seconds(timed)
            if made is not None and count(made) != rows:
                sys.exit(f"{name} lost rows: {count(made)} of {rows}")
            print(f"{'warming up' if run == 0 else f'run {run}'}: {name} {spent:.1f} s", flush=True)
            # The first round warms the JVM up, for all of them.
            if run > 0:
                taken[name].append(spent)
    spark.stop()
    return taken


def measured(command, **more):
    """Wall seconds, and the peak resident MiB of Lakeport's own process as its kernel tells it (VmHWM): what the system tells a
    parent would count hyperd in."""
    began = time.perf_counter()
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, **more)
    wall = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{command[:3]} failed:\n{done.stderr}")
    return wall, json.loads(done.stdout)["peak_memory"]["lakeport"] / 2**20


def results_of_a_cluster(folder, lakeport, sizes, runs):
    """Through Spark Connect to .hyper: (rows, hand-off) to seconds and peak of each run."""
    import pyspark

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    settings = {
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": port,
        "spark.ui.enabled": "false",
        "spark.driver.maxResultSize": "0",
        "spark.sql.warehouse.dir": folder / "warehouse",
    }
    command = [f"{pyspark.__path__[0]}/bin/spark-submit", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    command += ["--master", "local[2]", "--driver-memory", "4g"]
    for name, value in settings.items():
        command += ["--conf", f"{name}={value}"]
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
    server = subprocess.Popen([*command, "spark-internal"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    sys.exit("the Spark Connect server does not start")
                time.sleep(0.3)
        (folder / "lakeport.toml").write_text(f'[env.cluster]\ntype = "spark"\nurl = "sc://127.0.0.1:{port}/"\nstage = "handed"\n')
        taken = {}
        for run in range(runs + 1):
            for rows in sizes:
                for handoff in ("stream", "stage"):
                    job = {"from": "cluster:", "sql": QUERY.format(rows=rows), "to": "connect.hyper", "handoff": handoff}
                    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in job.items())
                    (folder / "lakeport.local.toml").write_text(f"[job.bench]\n{text}")
                    spent = measured([lakeport, "run", "bench"], cwd=folder, env=environment)
                    if count(folder / "connect.hyper") != rows:
                        sys.exit(f"{handoff} lost rows")
                    print(f"{'warming up' if run == 0 else f'run {run}'}: {rows:,} rows by {handoff} {spent[0]:.1f} s, {spent[1]:.0f} MiB", flush=True)
                    if run > 0:
                        taken.setdefault((rows, handoff), []).append(spent)
        return taken
    finally:
        server.terminate()
        server.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lakeport", required=True)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--results", default=str(Path(__file__).parent / "results"))
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    os.environ["PYSPARK_PYTHON"] = sys.executable
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        os.chdir(folder)
        sizes = [options.rows // 5, options.rows // 5 * 2, options.rows]
        cluster = results_of_a_cluster(folder, options.lakeport, sizes, options.runs)
        taken = frames(folder, options.rows, options.runs)
        shutil.rmtree(folder / "parquet")
    middle = {name: statistics.median(runs) for name, runs in taken.items()}
    yardstick = middle["df.write.parquet"] + middle["hyperd's load of those files"]
    title = f"{options.rows:,} rows × 6 columns, `local[2]`, {options.runs} runs in one session after one that warms up, {os.cpu_count()} cores"
    lines = ["# Spark", "", title + ("; " + options.note if options.note else ""), "", "## A data frame to .hyper", ""]
    lines += ["| | seconds | of Parquet + load |", "|---|---|---|"]
    for name, spent in middle.items():
        lines.append(f"| {name} | {spent:.1f} | {spent / yardstick:.2f} × |")
    lines.append(f"| df.write.parquet + hyperd's load | {yardstick:.1f} | 1 |")
    ours = f"lakeport, batches of {LARGE_BATCHES:,}"
    ratio, default = middle[ours] / yardstick, middle["lakeport"] / yardstick
    lines += ["", f"`df.write.format(\"lakeport\")` takes {default:.2f} × the time of `df.write.parquet` and hyperd's load of those files ({ratio:.2f} × with batches of {LARGE_BATCHES:,}; target 1.3), verified by fingerprint; hyperleaup takes {middle['hyperleaup'] / middle['lakeport']:.2f} × as long as Lakeport."]
    lines += ["", "## The result of a cluster to .hyper, through Spark Connect", "", "| rows | stream | stage | peak, stream | peak, stage |", "|---|---|---|---|---|"]
    connect = []
    for rows in sizes:
        wall = {h: statistics.median(s for s, _ in cluster[rows, h]) for h in ("stream", "stage")}
        peak = {h: max(p for _, p in cluster[rows, h]) for h in ("stream", "stage")}
        connect.append({"rows": rows, "seconds": {h: round(s, 2) for h, s in wall.items()}, "peak_mib": {h: round(p) for h, p in peak.items()}})
        lines.append(f"| {rows:,} | {wall['stream']:.1f} s | {wall['stage']:.1f} s | {peak['stream']:.0f} MiB | {peak['stage']:.0f} MiB |")
    lines += ["", "Peaks are of Lakeport's own process, hyperd and the server not counted."]
    print("\n".join(lines))
    results = Path(options.results)
    results.mkdir(exist_ok=True)
    record = {"rows": options.rows, "runs": options.runs, "note": options.note, "seconds": {n: [round(s, 2) for s in t] for n, t in taken.items()}}
    record |= {"ratio": round(ratio, 3), "ratio_default_batches": round(default, 3), "connect": connect}
    (results / "spark.json").write_text(json.dumps(record, indent=2) + "\n")
    (results / "spark.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
