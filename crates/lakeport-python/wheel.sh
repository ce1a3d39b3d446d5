#!/usr/bin/env bash
# wheel.sh PROFILE OUT: builds the wheel, with the command in it, from the workspace's own build (PROFILE is dev or release).
#
# maturin asks Cargo for the module alone, which would turn on other features of the dependencies and compile them again;
# so this script also stands in for the Cargo it calls, and answers with the build of the whole workspace.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

if [ "${1-}" = rustc ]; then
    # These make pyo3 look at a Python that the limited API has no need of, and compile it again.
    unset PYO3_CONFIG_FILE PYO3_PYTHON PYO3_NO_PYTHON PYO3_ENVIRONMENT_SIGNATURE
    exec "$WHEEL_CARGO" build --workspace --locked --profile "$WHEEL_PROFILE" --message-format json-render-diagnostics
elif [ -n "${WHEEL_CARGO-}" ]; then
    exec "$WHEEL_CARGO" "$@"
fi

profile=$1 out=$2 maturin=${MATURIN-maturin}
cd "$here"
cargo=$(command -v "${CARGO-cargo}")
"$cargo" build --workspace --locked --profile "$profile"
target=$("$cargo" metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')
mkdir -p lakeport.data/scripts
strip -o lakeport.data/scripts/lakeport "$target/${profile/#dev/debug}/lakeport"
WHEEL_CARGO=$cargo WHEEL_PROFILE=$profile CARGO=$here/wheel.sh \
    "$maturin" build --profile "$profile" --locked --compatibility linux --out "$out" ${WHEEL_ARGS-}
rm -r lakeport.data
