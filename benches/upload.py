"""make bench-upload: one large .hyper to the sandbox, `lakeport publish` beside the official Python client, in one run.

The clients take turns; seconds are medians, memory is the largest peak of each client process (not of the sandbox).
Writes benches/results/upload.json and .md.
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lakeport", required=True)
    parser.add_argument("--gib", type=float, default=1)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        file = folder / "large.hyper"
        rows = int(options.gib * 2**30 / 8)
        subprocess.run([sys.executable, "-c", MAKE, file, str(rows)], check=True)
        sandbox = subprocess.Popen([options.lakeport, "sandbox", "--port", "0", "--revisions", "1", "--data", folder / "sandbox", "--json"], stdout=subprocess.PIPE, text=True)
        text = ""
        while not text.endswith("\n}\n"):
            text += sandbox.stdout.readline()
        url = json.loads(text)["url"]
        (folder / "lakeport.toml").write_text(f'[env.tab]\ntype = "tableau"\nurl = "{url}"\nproject = "default"\ntoken_name = "demo"\ntoken_secret = {{ env = "TOKEN" }}\n')
        environment = {**os.environ, "TOKEN": "demo", "XDG_STATE_HOME": str(folder / "state")}
        results = {"lakeport": [], "official client": []}
        try:
            for _ in range(options.runs):
                results["lakeport"].append(measured([options.lakeport, "publish", file, "tab:lakeport", "--verify", "none"], cwd=folder, env=environment))
                results["official client"].append(measured([sys.executable, "-c", OFFICIAL, url, file]))
        finally:
            sandbox.terminate()
            sandbox.wait()
        size = file.stat().st_size
    lines = [f"{size / 2**30:.2f} GiB to the sandbox, {options.runs} runs, {os.cpu_count()} cores", "", "| client | seconds | MiB/s | peak MiB |", "|---|---|---|---|"]
    record = {"bytes": size, "runs": options.runs, "clients": {}}
    for name, runs in results.items():
        wall, peak = statistics.median(r[0] for r in runs), max(r[1] for r in runs)
        lines.append(f"| {name} | {wall:.1f} | {size / 2**20 / wall:.0f} | {peak:.0f} |")
        record["clients"][name] = {"wall": round(wall, 2), "peak_mib": round(peak)}
    ratio = statistics.median(o[0] / l[0] for l, o in zip(results["lakeport"], results["official client"]))
    lines += ["", f"lakeport's throughput is {ratio:.2f} × the official client's"]
    print("\n".join(lines))
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / "upload.json").write_text(json.dumps({**record, "ratio": round(ratio, 2)}, indent=2) + "\n")
    (folder / "upload.md").write_text("\n".join(lines) + "\n")


main()
