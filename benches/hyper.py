"""make bench: TPC-H lineitem to .hyper, Lakeport beside its peers in one run.

    limit     hyperd's own CREATE TABLE AS SELECT … FROM external(…), the hardware's limit
    direct    lakeport convert, hyperd loads the files
    streamed  lakeport convert --route streamed
    sql       lakeport convert --sql …, against hyperd running the same SQL
    pantab    pantab.frame_to_hyper from a Parquet batch reader
    inserter  the row inserter of hyperdb-api, the vendor's Rust client

Each figure is the median of the runs; the peers take turns, so that a machine that slows down slows all of them. Lakeport
is measured as a whole process, with --verify none (what the peers do) and with its default fingerprint.
Writes benches/results/hyper.json and .md.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

SQL = """select l_orderkey, l_partkey, l_quantity * l_extendedprice as volume, upper(l_shipmode) as mode, l_shipdate
from src where l_discount > 0.02"""

LIMIT = """
import sys
from tableauhyperapi import *
source, target, sql = sys.argv[1:4]
with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": "", "default_database_version": "3"}) as h:
    with Connection(h.endpoint, target, CreateMode.CREATE_AND_REPLACE) as c:
        c.execute_command('create schema "Extract"')
        src = f"external('{source}', format => 'parquet')"
        c.execute_command('create table "Extract"."Extract" as ' + (sql.replace("src", src) if sql else f"select * from {src}"))
"""

PANTAB = """
import sys
import pantab, pyarrow.parquet as pq, pyarrow as pa
source, target = sys.argv[1:3]
file = pq.ParquetFile(source)
# pantab takes no string views, which is what the file's own Arrow schema asks for.
schema = pa.schema([pa.field(f.name, pa.string() if f.type == pa.string_view() else f.type) for f in file.schema_arrow])
reader = pa.RecordBatchReader.from_batches(schema, (b.cast(schema) for b in file.iter_batches(65536)))
pantab.frame_to_hyper(reader, target, table="Extract", process_params={"default_database_version": "3"})
"""


def measured(command):
    """Wall seconds, CPU seconds of the whole tree, and the largest process's peak memory."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wall = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{command[:3]} failed:\n{done.stdout}{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, done.stdout


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lakeport", required=True)
    parser.add_argument("--inserter", required=True)
    parser.add_argument("--scales", default="1,4")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data", default=os.path.expanduser("~/.cache/lakeport/tpch"))
    options = parser.parse_args()
    python = sys.executable
    results = {"cores": os.cpu_count(), "runs": options.runs, "scales": {}}
    for scale in options.scales.split(","):
        folder = Path(options.data) / f"sf{scale}"
        source = folder / "lineitem.parquet"
        if not source.exists():
            folder.mkdir(parents=True, exist_ok=True)
            generator = Path(python).with_name("tpchgen-cli")
            subprocess.run([generator, "parquet", "-s", scale, "-T", "lineitem", "--output-dir", folder], check=True, stdout=subprocess.DEVNULL)
        source, out = str(source), str(folder / "out.hyper")
        lakeport = [options.lakeport, "convert", source, out, "--json"]
        contenders = {
            "limit": [python, "-c", LIMIT, source, out, ""],
            "direct": [*lakeport, "--verify", "none"],
            "direct, verified": lakeport,
            "streamed": [*lakeport, "--route", "streamed", "--verify", "none"],
            "streamed, verified": [*lakeport, "--route", "streamed"],
            "limit, sql": [python, "-c", LIMIT, source, out, SQL],
            "sql": [*lakeport, "--sql", SQL, "--verify", "none"],
            "pantab": [python, "-c", PANTAB, source, out],
            "row inserter": [options.inserter, source, out],
        }
        times = {name: [] for name in contenders}
        memory = {}
        for turn in range(options.runs + 1):
            for name, command in contenders.items():
                if os.path.exists(out):
                    os.remove(out)
                wall, cpu, text = measured(command)
                # The first turn warms the page cache.
                if turn:
                    times[name].append((wall, cpu))
                if command[0] == options.lakeport:
                    peak = json.loads(text)["peak_memory"]
                    known = memory.setdefault(name, {"lakeport": 0, "hyperd": 0})
                    memory[name] = {k: max(known[k], peak[k]) for k in known}
        rows = {}
        for name, pairs in times.items():
            wall = statistics.median(p[0] for p in pairs)
            against = times["limit, sql" if name == "sql" else "limit"]
            ratio = statistics.median(p[0] / l[0] for p, l in zip(pairs, against))
            cpu = statistics.median(p[1] for p in pairs)
            rows[name] = {"wall": round(wall, 2), "cpu": round(cpu, 2), "ratio": round(ratio, 2), **{f"{k}_mib": v >> 20 for k, v in memory.get(name, {}).items()}}
        faster = statistics.median(p[0] / d[0] for p, d in zip(times["pantab"], times["direct"]))
        rows["pantab"]["direct_is_faster_by"] = round(faster, 2)
        results["scales"][scale] = rows

    lines = ["| scale | | wall s | cpu s | × the limit | lakeport MiB | hyperd MiB |", "|---|---|---|---|---|---|---|"]
    for scale, rows in results["scales"].items():
        for name, r in rows.items():
            lines.append(f"| SF{scale} | {name} | {r['wall']} | {r['cpu']} | {r['ratio']} | {r.get('lakeport_mib', '')} | {r.get('hyperd_mib', '')} |")
        lines.append(f"| SF{scale} | direct is faster than pantab by | {rows['pantab']['direct_is_faster_by']} × | | | | |")
    table = "\n".join(lines)
    print(table)
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "hyper.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "hyper.md").write_text(table + "\n")


main()
