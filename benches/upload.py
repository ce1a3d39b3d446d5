"""make bench-upload: large .hyper files to the sandbox, `lakeport publish` beside the official Python client, in one run.

At each size the clients take turns; seconds are medians, memory is the largest peak of each client process (not of the
sandbox). Beyond --peer-up-to the official client is left out: it says nothing new there and takes its time.
Writes benches/results/upload.json and .md.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

# What is wanted.
PEAK_MIB = 60
LEAST_RATIO = 1.0

MAKE = """
import sys
from tableauhyperapi import *
with HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as h:
    with Connection(h.endpoint, sys.argv[1], CreateMode.CREATE_AND_REPLACE) as c:
        c.execute_command('create schema "Extract"')
        c.execute_command(f'create table "Extract"."Extract" as select random() as a from generate_series(1, {sys.argv[2]})')
"""

OFFICIAL = """
import sys
import tableauserverclient as TSC
server = TSC.Server(sys.argv[1], use_server_version=True)
with server.auth.sign_in(TSC.PersonalAccessTokenAuth("demo", "demo", "")):
    project = next(p for p in TSC.Pager(server.projects) if p.name == "default")
    item = TSC.DatasourceItem(project.id, name="official")
    job = server.datasources.publish(item, sys.argv[2], TSC.Server.PublishMode.Overwrite, as_job=True)
    server.jobs.wait_for_job(job)
"""


def measured(command, **more):
    """Wall seconds and peak resident MiB of one process."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **more)
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{command[:3]} failed:\n{text.decode()}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def one_size(options, gib: float, folder: Path) -> dict:
    """Publishes one file several times with each client; the sandbox is a fresh one."""
    peer = gib <= options.peer_up_to
    names = ["lakeport"] + ["official client"] * peer
    # The file, what is there, what arrives, and the copy hyperd opens.
    needed, free = int(gib * 2**30 * (1 + 3 * len(names))), shutil.disk_usage(folder).free
    if free < needed:
        sys.exit(f"{gib:g} GiB take {needed / 2**30:.0f} GiB of disk, {folder} has {free / 2**30:.0f}; set TMPDIR, or --sizes")
    file = folder / "large.hyper"
    subprocess.run([sys.executable, "-c", MAKE, file, str(int(gib * 2**30 / 8))], check=True)
    command = [options.lakeport, "sandbox", "--port", "0", "--revisions", "1", "--data", folder / "sandbox", "--json"]
    sandbox = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    text = ""
    while not text.endswith("\n}\n"):
        line = sandbox.stdout.readline()
        if not line:
            sys.exit("the sandbox did not start")
        text += line
    url = json.loads(text)["url"]
    (folder / "lakeport.toml").write_text(
        f'[env.tab]\ntype = "tableau"\nurl = "{url}"\nproject = "default"\ntoken_name = "demo"\ntoken_secret = {{ env = "TOKEN" }}\n'
        "job_timeout = 7200\n"
    )
    environment = {**os.environ, "TOKEN": "demo", "XDG_STATE_HOME": str(folder / "state")}
    commands = {
        "lakeport": ([options.lakeport, "publish", file, "tab:lakeport", "--verify", "none"], {"cwd": folder, "env": environment}),
        "official client": ([sys.executable, "-c", OFFICIAL, url, file], {}),
    }
    results = {name: [] for name in names}
    try:
        for _ in range(options.runs if peer else 1):
            for name in names:
                command, more = commands[name]
                results[name].append(measured(command, **more))
    finally:
        sandbox.terminate()
        sandbox.wait()
    record = {"bytes": file.stat().st_size, "clients": {}}
    file.unlink()
    shutil.rmtree(folder / "sandbox")
    for name, runs in results.items():
        wall, peak = statistics.median(r[0] for r in runs), max(r[1] for r in runs)
        record["clients"][name] = {"wall": round(wall, 2), "peak_mib": round(peak), "runs": len(runs)}
    if peer:
        turns = zip(results["lakeport"], results["official client"])
        record["ratio"] = round(statistics.median(o[0] / l[0] for l, o in turns), 2)
    return record


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lakeport", required=True)
    parser.add_argument("--sizes", default="1,8", help="GiB, with commas")
    parser.add_argument("--peer-up-to", type=float, default=1, help="GiB up to which the official client takes part")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    records = []
    for gib in map(float, options.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            records.append(one_size(options, gib, Path(folder)))
    lines = ["# Upload", "", f"Written by `make bench-upload` on {os.cpu_count()} cores: one file of random doubles to the sandbox.", ""]
    lines += ["| size | client | runs | seconds | MiB/s | peak MiB |", "|---|---|---|---|---|---|"]
    kept = True
    for record in records:
        for name, client in record["clients"].items():
            rate = record["bytes"] / 2**20 / client["wall"]
            lines.append(
                f"| {record['bytes'] / 2**30:.2f} GiB | {name} | {client['runs']} | {client['wall']:.1f} | {rate:.0f} | {client['peak_mib']} |"
            )
        kept &= record["clients"]["lakeport"]["peak_mib"] < PEAK_MIB and record.get("ratio", LEAST_RATIO) >= LEAST_RATIO
    lines.append("")
    for record in records:
        if "ratio" in record:
            lines.append(f"At {record['bytes'] / 2**30:.2f} GiB Lakeport's throughput is {record['ratio']:.2f} × the official client's.")
    lines.append(f"Wanted: at least {LEAST_RATIO:g} ×, and a peak below {PEAK_MIB} MiB at every size: {'kept' if kept else '**missed**'}.")
    print("\n".join(lines))
    options.results.mkdir(exist_ok=True)
    (options.results / "upload.json").write_text(json.dumps(records, indent=2) + "\n")
    (options.results / "upload.md").write_text("\n".join(lines) + "\n")


main()
