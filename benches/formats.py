"""make bench-formats: one table into every format, Lakeport beside the writers people use now, in one run.

A million rows of ten mixed columns (i64, i32, f64 with NULLs, three texts, date, timestamp, decimal(18,2), bool) lie in a
Parquet file. Each contender is a whole process that reads it and writes the target; contenders take turns, so that a machine
that slows down slows all of them. Seconds are medians of the turns, a ratio is the median of the ratios within a turn, memory
is the largest peak of the process. Lakeport runs with --verify none, which is what the peers do, and with its default, which
reads the finished file back.

`reading alone` is Lakeport looking at every column and writing one row: what the input itself costs.
PostgreSQL is Debian's, started here; psql gets the rows as a CSV file that was made before its clock runs.

Writes benches/results/formats.json and .md.
"""

import argparse
import json
import os
import pwd
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# What the table is made of; a seed, so that every run sees the same.
MAKE = """
import sys
import numpy as np, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
path, rows = sys.argv[1], int(sys.argv[2])
random = np.random.default_rng(20261125)
words = np.array("amber birch cedar delta ember fjord grove haven inlet jetty knoll ledge marsh north ocean pier quarry ridge shore tide".split())
people = np.array(["Zoë Müller", "Jürgen Weiß", "François Lefèvre", "José Núñez", "山田太郎", "王小明", "김철수", "Anna Smith", "John Brown", "Олег Иванов"])
regions = np.array(["north", "south", "east", "west", "Île-de-France", "Zürich", "関東", "centre"])
# The bytes of a decimal(19,0) are those of a decimal(18,2) of hundredths.
cents = pa.array(random.integers(-10**9, 10**9, rows)).cast(pa.decimal128(19, 0))
table = pa.table({
    "id": pa.array(np.arange(rows, dtype="i8") * 7 + 1_000_000),
    "quantity": pa.array(random.integers(-1000, 100_000, rows, dtype="i4")),
    "ratio": pa.array(random.normal(0, 1000, rows), mask=random.random(rows) < 0.05),
    "customer": pa.array(people[random.integers(0, len(people), rows)]),
    "region": pa.array(regions[random.integers(0, len(regions), rows)]),
    "comment": pc.binary_join_element_wise(*[pa.array(words[random.integers(0, len(words), rows)]) for _ in range(4)], " "),
    "day": pa.array(random.integers(10_000, 22_000, rows, dtype="i4")).cast(pa.date32()),
    "at": pa.array(random.integers(1_000_000_000, 1_900_000_000, rows) * 1_000_000).cast(pa.timestamp("us")),
    "amount": pa.Array.from_buffers(pa.decimal128(18, 2), rows, cents.buffers()),
    "open": pa.array(random.random(rows) < 0.5),
})
pq.write_table(table, path, row_group_size=131_072)
print(table.nbytes)
"""

BATCHES = "import sys, pyarrow as pa, pyarrow.parquet as pq\nsource, target = sys.argv[1:3]\nfile = pq.ParquetFile(source)\n"

PEERS = {
    "yxdb": {
        "sigilyx, whole table": """
import sys, pyarrow.parquet as pq, sigilyx
sigilyx.write_yxdb_arrow(sys.argv[2], pq.read_table(sys.argv[1]))
""",
        "sigilyx, in batches": BATCHES + """
import polars as pl, sigilyx
sigilyx.write_yxdb_batches(target, (pl.from_arrow(pa.Table.from_batches([b])) for b in file.iter_batches(50_000)))
""",
        # It knows no decimals: as doubles.
        "openyxdb": """
import sys, pyarrow as pa, pyarrow.parquet as pq, openyxdb
table = pq.read_table(sys.argv[1])
at = table.schema.get_field_index("amount")
openyxdb.from_pyarrow(table.set_column(at, "amount", table["amount"].cast(pa.float64())), sys.argv[2])
""",
    },
    "xlsx": {
        "XlsxWriter, constant memory": BATCHES + """
import xlsxwriter
book = xlsxwriter.Workbook(target, {"constant_memory": True})
sheet = book.add_worksheet("formats")
bold = book.add_format({"bold": True})
formats = {"day": book.add_format({"num_format": "yyyy-mm-dd"}), "at": book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss.000"}), "amount": book.add_format({"num_format": "0.00"})}
names = file.schema_arrow.names
for at, name in enumerate(names):
    sheet.write_string(0, at, name, bold)
sheet.freeze_panes(1, 0)
write = {"customer": sheet.write_string, "region": sheet.write_string, "comment": sheet.write_string, "day": sheet.write_datetime, "at": sheet.write_datetime, "open": sheet.write_boolean}
writers = [(at, write.get(name, sheet.write_number), formats.get(name)) for at, name in enumerate(names)]
row = 0
for batch in file.iter_batches(8192):
    for values in zip(*(c.to_pylist() for c in batch.columns)):
        row += 1
        for (at, put, form), value in zip(writers, values):
            if value is not None:
                put(row, at, value, form)
sheet.autofilter(0, 0, row, len(names) - 1)
book.close()
""",
    },
    "csv": {
        "pyarrow": BATCHES + """
import pyarrow.csv
with pyarrow.csv.CSVWriter(target, file.schema_arrow) as writer:
    for batch in file.iter_batches(65_536):
        writer.write_batch(batch)
""",
        "duckdb": """
import sys, duckdb
duckdb.sql(f"copy (select * from '{sys.argv[1]}') to '{sys.argv[2]}' (format csv, header)")
""",
    },
    "csv.gz": {
        "pyarrow": BATCHES + """
import pyarrow.csv
with pa.CompressedOutputStream(target, "gzip") as out, pyarrow.csv.CSVWriter(out, file.schema_arrow) as writer:
    for batch in file.iter_batches(65_536):
        writer.write_batch(batch)
""",
        "duckdb": """
import sys, duckdb
duckdb.sql(f"copy (select * from '{sys.argv[1]}') to '{sys.argv[2]}' (format csv, header, compression gzip)")
""",
    },
    "ndjson": {
        "duckdb": """
import sys, duckdb
duckdb.sql(f"copy (select * from '{sys.argv[1]}') to '{sys.argv[2]}' (format json)")
""",
    },
    "parquet": {
        "pyarrow": BATCHES + """
with pq.ParquetWriter(target, file.schema_arrow, compression="COMPRESSION") as writer:
    for batch in file.iter_batches(65_536):
        writer.write_batch(batch, row_group_size=1_048_576)
""",
        "duckdb": """
import sys, duckdb
duckdb.sql(f"copy (select * from '{sys.argv[1]}') to '{sys.argv[2]}' (format parquet, compression COMPRESSION)")
""",
    },
    "avro": {
        "fastavro": BATCHES + """
import fastavro
def optional(kind): return ["null", kind]
kinds = {"id": "long", "quantity": "int", "ratio": "double", "day": {"type": "int", "logicalType": "date"},
         "at": {"type": "long", "logicalType": "timestamp-micros"}, "open": "boolean",
         "amount": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}}
names = file.schema_arrow.names
schema = {"type": "record", "name": "formats", "fields": [{"name": n, "type": optional(kinds.get(n, "string"))} for n in names]}
def rows():
    for batch in file.iter_batches(8192):
        for values in zip(*(c.to_pylist() for c in batch.columns)):
            yield dict(zip(names, values))
with open(target, "wb") as out:
    fastavro.writer(out, schema, rows(), codec="deflate")
""",
    },
    "orc": {
        "pyarrow": BATCHES + """
from pyarrow import orc
with orc.ORCWriter(target, compression="uncompressed") as writer:
    for batch in file.iter_batches(65_536):
        writer.write(pa.Table.from_batches([batch]))
""",
    },
}

# What the issue asks for: peer, how many times faster.
TARGETS = {("yxdb", "sigilyx, whole table"): 3, ("yxdb", "sigilyx, in batches"): 3, ("yxdb", "openyxdb"): 5, ("xlsx", "XlsxWriter, constant memory"): 5}

LOOK = "select count(id), sum(quantity), max(ratio), max(customer), max(region), max(comment), max(day), max(at), sum(amount), bool_or(open) from src"

TABLE = 'create table "T" (id bigint, quantity integer, ratio double precision, customer text, region text, comment text, day date, at timestamp, amount numeric, open boolean)'


def measured(command, **more):
    """Wall seconds, CPU seconds and peak resident MiB of one process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(map(str, command))[:300]} failed:\n{text.decode()}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


class Postgres:
    """Debian's PostgreSQL on a free port of loopback, with its own settings, ended with the block."""

    def __enter__(self):
        folder = Path(tempfile.mkdtemp(prefix="lakeport-bench-"))
        self.folder = folder
        # It refuses to run as root: then it runs as the user its package made.
        self.user = pwd.getpwnam("postgres") if os.getuid() == 0 else None
        if self.user:
            os.chown(folder, self.user.pw_uid, self.user.pw_gid)
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
        if not programs:
            sys.exit("PostgreSQL is not installed; run `make setup`")
        bin = programs[-1]
        who = {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []} if self.user else {}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": "/"}
        subprocess.run([bin / "initdb", "--auth=trust", "--username=lake", "--encoding=UTF8", "--locale=C", "-D", folder / "data"], check=True, **quiet, **who)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"port={port}", "-c", f"unix_socket_directories={folder}", "-c", "max_wal_size=4GB"]
        self.server = subprocess.Popen([bin / "postgres", "-D", folder / "data", *settings], **quiet, **who)
        self.uri = f"postgresql://lake@127.0.0.1:{port}/postgres"
        self.psql = [bin / "psql", "-q", "-v", "ON_ERROR_STOP=1", self.uri]
        until = time.monotonic() + 60
        while subprocess.run([*self.psql, "-c", "select 1"], capture_output=True).returncode:
            if time.monotonic() > until:
                sys.exit("PostgreSQL does not answer")
            time.sleep(0.2)
        return self

    def sql(self, text):
        return subprocess.run([*self.psql, "-Atc", text], check=True, capture_output=True, text=True).stdout.strip()

    def __exit__(self, *_):
        # "Fast shutdown", which also ends its workers.
        self.server.send_signal(2)
        self.server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Bench:
    def __init__(self, options, folder, source, arrow_bytes):
        self.options, self.folder, self.source, self.arrow = options, folder, source, arrow_bytes
        self.results = {}

    def take(self, group, contenders, runs, peer_of=None):
        """Runs the contenders of a group in turns; the first turn warms the page cache and is not counted."""
        samples = {name: [] for name in contenders}
        sizes = {}
        for turn in range(runs + 1):
            for name, (command, target, before, more) in contenders.items():
                before()
                wall, cpu, peak = measured(command, **more)
                if target:
                    sizes[name] = os.path.getsize(target)
                    os.remove(target)
                # A peer that takes minutes need not be warmed.
                if turn or wall > 30 and runs == 1:
                    samples[name].append((wall, cpu, peak))
                print(f"{group:11} turn {turn} {name:28} {wall:7.2f} s {cpu:7.2f} s cpu {peak:6.0f} MiB", file=sys.stderr, flush=True)
        rows = {}
        for name, taken in samples.items():
            wall = statistics.median(s[0] for s in taken)
            rows[name] = {
                "wall": round(wall, 2),
                "cpu": round(statistics.median(s[1] for s in taken), 2),
                "peak_mib": round(max(s[2] for s in taken)),
                "rows_per_second": round(self.options.rows / wall),
                "mb_per_second": round(self.arrow / wall / 1e6, 1),
                "file_mb": round(sizes[name] / 1e6, 1) if name in sizes else None,
                "ratio": round(statistics.median(s[0] / ours[0] for s, ours in zip(taken, samples["lakeport"])), 2),
            }
        self.results[group] = rows

    def files(self, group):
        env = {**os.environ, "LAKEPORT_PYTHON": sys.executable}
        plain = lambda command, target: (command, target, lambda: None, {"cwd": self.folder, "env": env})
        out = str(self.folder / f"out.{group}")
        lakeport = [self.options.lakeport, "convert", self.source, out, "--json", "--memory", "256MiB"]
        contenders = {"lakeport": plain([*lakeport, "--verify", "none"], out), "lakeport, verified": plain(lakeport, out)}
        for name, script in PEERS[group].items():
            # Parquet as Lakeport writes it by default.
            contenders[name] = plain([sys.executable, "-c", script.replace("COMPRESSION", "zstd"), self.source, out], out)
        self.take(group, contenders, self.options.runs)

    def reading(self):
        out = str(self.folder / "one.csv")
        command = [self.options.lakeport, "convert", self.source, out, "--sql", LOOK, "--json", "--verify", "none"]
        self.take("reading alone", {"lakeport": (command, out, lambda: None, {"cwd": self.folder})}, 1)

    def database(self):
        with Postgres() as server:
            csv = self.folder / "rows.csv"
            write = PEERS["csv"]["pyarrow"]
            subprocess.run([sys.executable, "-c", write, self.source, csv], check=True)
            (self.folder / "lakeport.toml").write_text(f'[env.db]\ntype = "database"\ndriver = "postgresql"\nuri = "{server.uri}"\n')
            env = {**os.environ, "LAKEPORT_PYTHON": sys.executable}
            drop = lambda: server.sql('drop table if exists "T"; checkpoint')
            lakeport = [self.options.lakeport, "run", "--from", self.source, "--to", "db:T", "--json"]
            copy = [*server.psql, "-c", "begin", "-c", TABLE, "-c", rf"""\copy "T" from '{csv}' (format csv, header)""", "-c", "commit"]
            where = {"cwd": self.folder, "env": env}
            self.take(
                "postgresql",
                {
                    "lakeport": ([*lakeport, "--verify", "none"], None, drop, where),
                    "lakeport, verified": (lakeport, None, drop, where),
                    "psql, COPY of a CSV file": (copy, None, drop, where),
                },
                self.options.runs,
            )
            arrived = server.sql('select count(*) from "T"')
            if arrived != str(self.options.rows):
                sys.exit(f"{arrived} rows arrived in PostgreSQL")


def table(results):
    lines = [
        "| format | | wall s | cpu s | rows/s | MB/s | file MB | peak MiB | Lakeport is faster by | asked |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for group, rows in results["formats"].items():
        for name, r in rows.items():
            asked = TARGETS.get((group, name))
            if group == "postgresql" and name.startswith("psql"):
                asked = "at least 0.77 × (1.3 × its time)"
            elif asked:
                asked = f"{asked} ×"
            size = "" if r["file_mb"] is None else r["file_mb"]
            faster = "" if name == "lakeport" else f"{r['ratio']} ×"
            cells = [group, name, r["wall"], r["cpu"], f"{r['rows_per_second']:,}", r["mb_per_second"], size, r["peak_mib"], faster, asked or ""]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lakeport", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--formats", default="yxdb,xlsx,csv,csv.gz,ndjson,parquet,avro,orc,postgresql")
    parser.add_argument("--results", default=str(Path(__file__).parent / "results"))
    options = parser.parse_args()
    options.lakeport = os.path.abspath(options.lakeport)
    with tempfile.TemporaryDirectory(prefix="lakeport-formats-") as folder:
        folder = Path(folder)
        source = str(folder / "formats.parquet")
        made = subprocess.run([sys.executable, "-c", MAKE, source, str(options.rows)], check=True, capture_output=True, text=True)
        bench = Bench(options, folder, source, int(made.stdout))
        bench.reading()
        for group in options.formats.split(","):
            bench.database() if group == "postgresql" else bench.files(group)
        parquet = os.path.getsize(source)
    results = {
        "rows": options.rows,
        "arrow_bytes": bench.arrow,
        "parquet_bytes": parquet,
        "cores": os.cpu_count(),
        "runs": options.runs,
        "load": [round(l, 1) for l in os.getloadavg()],
        "formats": bench.results,
    }
    lines = table(results)
    alone = bench.results["reading alone"]["lakeport"]["peak_mib"]
    lines += [
        "",
        f"{options.rows:,} rows × 10 columns, {bench.arrow / 1e6:.0f} MB as Arrow (what MB/s counts), {parquet / 1e6:.0f} MB as Parquet; "
        f"{options.runs} turns on {os.cpu_count()} cores, load {results['load'][0]} at the end.",
    ]
    if "yxdb" in bench.results:
        above = bench.results["yxdb"]["lakeport"]["peak_mib"] - alone
        lines.append(f".yxdb takes {above} MiB above reading the input alone ({alone} MiB); asked: 64 MiB.")
    if "xlsx" in bench.results:
        lines.append(f".xlsx peaks at {bench.results['xlsx']['lakeport']['peak_mib']} MiB; asked: under 100 MiB.")
    text = "\n".join(lines) + "\n"
    print(text)
    folder = Path(options.results)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "formats.json").write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    (folder / "formats.md").write_text(text)


main()
