"""make bench: TPC-H lineitem to .hyper, Lakeport beside its peers in one run.

    limit     hyperd's own CREATE TABLE AS SELECT … FROM external(…), the hardware's limit
    direct    lakeport convert, hyperd loads the files
    streamed  lakeport convert --route streamed
    sql       lakeport convert --sql …, against hyperd running the same SQL
    pantab    pantab.frame_to_hyper from a Parquet batch reader
    inserter  the row inserter of hyperdb-api, the vendor's Rust client

Each figure is the median of the runs; the peers take turns, so that a machine that slows down slows all of them. Lakeport
is measured as a whole process, with --verify none (what the peers do) and with its default fingerprint. Memory is the largest
of the runs: Lakeport's own VmHWM, and RssAnon of the hyperd it watches. A run that was cut off goes on where it was.
Writes benches/results/hyper.json and .md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
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
    """Wall seconds and CPU seconds of the whole tree, resident peak of its largest process in bytes, and what was printed."""
    with tempfile.TemporaryFile("w+") as printed:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=printed, stderr=subprocess.STDOUT if "--json" not in command else None)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(0)
        stdout = printed.read()
    if process.returncode:
        sys.exit(f"{command[:3]} failed:\n{stdout}")
    return {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": used.ru_maxrss * 1024, "stdout": stdout}


def generated(folder, scale):
    """The Parquet file of a scale, made once."""
    source = folder / "lineitem.parquet"
    if not source.exists():
        # Whole before it has its name, so that a run cut off here is no trap for the next.
        making = folder / "making"
        making.mkdir(parents=True, exist_ok=True)
        found = [Path(sys.executable).with_name("tpchgen-cli"), *(Path(p) / "tpchgen-cli" for p in os.environ["PATH"].split(":"))]
        generator = next((g for g in found if g.exists()), None) or sys.exit("tpchgen-cli (PyPI) is not installed beside this interpreter")
        subprocess.run([generator, "parquet", "-s", scale, "-T", "lineitem", "--output-dir", making], check=True, stdout=subprocess.DEVNULL)
        (making / "lineitem.parquet").rename(source)
    return str(source)


def contenders(options, source, out):
    lakeport = [options.lakeport, "convert", source, out, "--json"]
    python = sys.executable
    return {
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


def run(options, scale, journal, done):
    """All turns of one scale; a turn that the journal has is not run again."""
    folder = Path(options.data) / f"sf{scale}"
    source, out = generated(folder, scale), str(folder / "out.hyper")
    # The first turn warms the page cache and does not count.
    for turn in range(options.runs + 1):
        for name, command in contenders(options, source, out).items():
            if (scale, turn, name) in done and turn:
                continue
            if not turn and all((scale, t, name) in done for t in range(1, options.runs + 1)):
                continue
            Path(out).unlink(missing_ok=True)
            figures = measured(command)
            stdout = figures.pop("stdout")
            if command[0] == options.lakeport:
                peak = json.loads(stdout)["peak_memory"]
                figures |= {"lakeport": peak["lakeport"], "hyperd": peak["hyperd"]}
            figures["file"] = os.path.getsize(out)
            print(f"SF{scale} turn {turn} {name}: {figures['wall']:.2f} s", file=sys.stderr, flush=True)
            if turn:
                done[scale, turn, name] = figures
                with open(journal, "a") as lines:
                    lines.write(json.dumps({"scale": scale, "turn": turn, "name": name, **figures}) + "\n")
    Path(out).unlink(missing_ok=True)


def summary(done, scale, runs):
    names = list(dict.fromkeys(name for s, _, name in done if s == scale))
    of = lambda name, key: [done[scale, turn, name].get(key) for turn in range(1, runs + 1)]
    rows = {}
    for name in names:
        against = of("limit, sql" if name == "sql" else "limit", "wall")
        wall = of(name, "wall")
        rows[name] = {
            "wall": round(statistics.median(wall), 2),
            "walls": [round(w, 2) for w in wall],
            "cpu": round(statistics.median(of(name, "cpu")), 2),
            # Of pairs of one turn, so that a machine that slows down slows both.
            "ratio": round(statistics.median(w / l for w, l in zip(wall, against)), 2),
            # Of whichever process of the tree was largest, pages of mapped files included.
            "tree_mib": max(of(name, "peak")) >> 20,
            "file_mib": max(of(name, "file")) >> 20,
        }
        if of(name, "hyperd")[0] is not None:
            rows[name] |= {"lakeport_mib": max(of(name, "lakeport")) >> 20, "hyperd_mib": max(of(name, "hyperd")) >> 20}
    faster = statistics.median(p / d for p, d in zip(of("pantab", "wall"), of("direct", "wall")))
    rows["pantab"]["direct_is_faster_by"] = round(faster, 2)
    return rows


def table(results):
    lines = ["| scale | | wall s | all runs | cpu s | × the limit | lakeport MiB | hyperd MiB | largest process, with mapped files, MiB |", "|---|---|---|---|---|---|---|---|---|"]
    for scale, rows in results["scales"].items():
        for name, r in rows.items():
            walls = " ".join(str(w) for w in r["walls"])
            lines.append(f"| SF{scale} | {name} | {r['wall']} | {walls} | {r['cpu']} | {r['ratio']} | {r.get('lakeport_mib', '')} | {r.get('hyperd_mib', '')} | {r['tree_mib']} |")
        lines.append(f"| SF{scale} | direct is faster than pantab by | {rows['pantab']['direct_is_faster_by']} × | | | | | | |")
    scales = list(results["scales"])
    if len(scales) > 1:
        small, large = results["scales"][scales[0]], results["scales"][scales[-1]]
        for name in [n for n in small if "hyperd_mib" in small[n]]:
            grown = (large[name]["lakeport_mib"] / small[name]["lakeport_mib"] - 1) * 100
            lines.append(f"| SF{scales[0]} → SF{scales[-1]} | {name}: Lakeport's peak grows by | {grown:+.0f} % | | | | | | |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lakeport", required=True)
    parser.add_argument("--inserter", required=True)
    parser.add_argument("--scales", default="1,4")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--data", default=os.path.expanduser("~/.cache/lakeport/tpch"))
    parser.add_argument("--results", default=str(Path(__file__).parent / "results"))
    parser.add_argument("--fresh", action="store_true", help="forget what an earlier, unfinished run has measured")
    options = parser.parse_args()
    Path(options.data).mkdir(parents=True, exist_ok=True)
    # What was measured of this very binary is taken up again after a run that was cut off.
    stat = os.stat(options.lakeport)
    journal = Path(options.data) / f"hyper-{stat.st_size}-{stat.st_mtime_ns}.jsonl"
    if options.fresh:
        journal.unlink(missing_ok=True)
    entries = [json.loads(line) for line in open(journal)] if journal.exists() else []
    done = {(e.pop("scale"), e.pop("turn"), e.pop("name")): e for e in entries}
    results = {"cores": os.cpu_count(), "runs": options.runs, "scales": {}}
    for scale in options.scales.split(","):
        run(options, scale, journal, done)
        results["scales"][scale] = summary(done, scale, options.runs)
    print(table(results))
    folder = Path(options.results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hyper.json").write_text(json.dumps(results, indent=2) + "\n")
    (folder / "hyper.md").write_text(table(results) + "\n")
    # Finished: the next run measures anew.
    journal.unlink()


if __name__ == "__main__":
    main()
