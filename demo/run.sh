#!/usr/bin/env bash
# The demo: makes the lake, starts the sandbox, plans and runs the jobs of lakeport.toml, and leaves everything to look at.
set -euo pipefail
cd "$(dirname "$0")/.."
export LAKEPORT_DEMO_TOKEN=demo
data=.lakeport/sandbox
pid_file=.lakeport/sandbox.pid

stop() {
  if [ -f "$pid_file" ] && kill -0 "$(cat "$pid_file")" 2>/dev/null; then
    kill "$(cat "$pid_file")"
    for _ in $(seq 100); do kill -0 "$(cat "$pid_file")" 2>/dev/null || break; sleep 0.1; done
  fi
  rm -f "$pid_file"
}

stop
[ "${1:-}" = stop ] && exit 0

say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }

"$LAKEPORT_PYTHON" demo/make_lake.py demo-lake
say lakeport check --install-hyperd lake
"$LAKEPORT" check --install-hyperd lake

rm -rf "$data"
mkdir -p .lakeport
setsid "$LAKEPORT" sandbox --port 8850 --data "$data" >.lakeport/sandbox.log 2>&1 </dev/null &
echo $! >"$pid_file"
for _ in $(seq 100); do
  grep -q '^sandbox' .lakeport/sandbox.log 2>/dev/null && break
  kill -0 "$(cat "$pid_file")" 2>/dev/null || { cat .lakeport/sandbox.log >&2; exit 1; }
  sleep 0.1
done

say lakeport ls lake
"$LAKEPORT" ls lake
say lakeport plan flights
"$LAKEPORT" plan flights
say lakeport run --all
"$LAKEPORT" run --all
say lakeport ls sandbox
"$LAKEPORT" ls sandbox

cat <<END

The data sources, their columns and rows: http://127.0.0.1:8850/
The file:    demo-lake/out/planes.hyper   (opens in Tableau Desktop; lakeport describe demo-lake/out/planes.hyper)
The reports: .lakeport/runs/              ($LAKEPORT report)
make demo-stop ends the sandbox.
END
