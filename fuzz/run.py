"""make fuzz: every fuzz target for a while, one on each core; the closing lines go to benches/results/fuzz.md."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).resolve().parent
RESULT = HERE.parent / "benches/results/fuzz.md"
HEAD = """# Fuzzing

Written by `make fuzz`: libFuzzer on the release build with debug assertions and overflow checks, one process per target, inputs of at
most 64 KiB. A row is replaced when its target runs again; a crash fails the run and leaves its input in `fuzz/artifacts/`.

| target | seconds | runs | edges covered | inputs kept | peak MiB | ended with |
|---|---|---|---|---|---|---|
"""


def fuzz(target: str, seconds: int, cache: Path) -> dict:
    corpus = cache / "fuzz-corpus" / target
    corpus.mkdir(parents=True, exist_ok=True)
    command = [
        "cargo", "fuzz", "run", "--fuzz-dir", str(HERE), "--sanitizer", "none", target, str(corpus), str(HERE / "seeds" / target), "--",
        f"-max_total_time={seconds}", "-max_len=65536", "-timeout=25", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=1",
    ]
    print(f"fuzzing {target} for {seconds} s", flush=True)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=HERE)
    lines, edges = [], "?"
    for line in process.stdout:
        lines = [*lines[-400:], line.rstrip()]
        if found := re.search(r"cov: (\d+)", line):
            edges = found[1]
    code = process.wait()
    text = "\n".join(lines)

    def last(pattern: str) -> str:
        found = re.findall(pattern, text)
        return found[-1] if found else "?"

    if code:
        print("\n".join(lines[-60:]), file=sys.stderr)
    return {
        "seconds": last(r"in (\d+) second"),
        "runs": last(r"stat::number_of_executed_units:\s*(\d+)"),
        "edges": edges,
        "kept": str(len(list(corpus.iterdir()))),
        "peak": last(r"stat::peak_rss_mb:\s*(\d+)"),
        "end": last(r"(Done \d+ runs in \d+ second\(s\))") if code == 0 else f"**failed** ({last(r'SUMMARY: (.*)')})",
        "code": code,
    }


def main() -> int:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lakeport"
    seconds = int(os.environ.get("LAKEPORT_FUZZ_SECONDS") or 600)
    known = [b["name"] for b in tomllib.loads((HERE / "Cargo.toml").read_text())["bin"]]
    wanted = (os.environ.get("LAKEPORT_FUZZ_TARGETS") or " ".join(known)).split()
    if unknown := set(wanted) - set(known):
        sys.exit(f"there are no targets {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    # The versions of the workspace; what is missing there is added.
    shutil.copy(HERE.parent / "Cargo.lock", HERE / "Cargo.lock")
    rows = {}
    if RESULT.is_file():
        rows = {m[1]: m[0] for m in re.finditer(r"^\| ([a-z_0-9]+) \|.*$", RESULT.read_text(), re.M) if m[1] != "target"}
    failed = 0
    for target in wanted:
        shutil.rmtree(HERE / "artifacts" / target, ignore_errors=True)
    # Built before any of them counts its seconds.
    subprocess.run(["cargo", "fuzz", "build", "--fuzz-dir", str(HERE), "--sanitizer", "none"], check=True, cwd=HERE)
    pool = ThreadPoolExecutor(os.cpu_count())
    runs = {pool.submit(fuzz, target, seconds, cache): target for target in wanted}
    for run in as_completed(runs):
        target, r = runs[run], run.result()
        failed |= r["code"]
        rows[target] = f"| {target} | {r['seconds']} | {r['runs']} | {r['edges']} | {r['kept']} | {r['peak']} | {r['end']} |"
        print(rows[target], flush=True)
        RESULT.write_text(HEAD + "\n".join(rows[t] for t in known if t in rows) + "\n")
    return 1 if failed else 0


sys.exit(main())
