#!/usr/bin/env bash
# Runs the program of deployments/, which starts servers by itself, breaks them, and ends with 1 when an aim is missed.
# usage: MODULE_PATH=module.so tools/deployments.sh test SERVER_BIN...         checks and tests it, and plays each fault a few times
#        MODULE_PATH=module.so tools/deployments.sh run SERVER_BIN WORD...     plays one, such as `failovers --count 100`
set -euo pipefail
cd "$(dirname "$0")/.."

# A package of its own, so that what it needs touches neither the module nor the tests.
own=(--locked --manifest-path deployments/Cargo.toml --target-dir "${DEPLOYMENTS_TARGET:-$PWD/target/deployments}")
what=$1
shift

if [ "$what" = run ]; then
    server=$(realpath --no-symlinks "$1")
    SERVER_BIN=$server exec cargo run --quiet "${own[@]}" -- "${@:2}"
fi

cargo fmt --manifest-path deployments/Cargo.toml --check
cargo clippy --quiet "${own[@]}" --all-targets -- -D warnings
tools/nextest.sh "${own[@]}" --config-file .config/nextest.toml
cargo build --quiet "${own[@]}"
for server in "$@"; do
    server=$(realpath --no-symlinks "$server")
    "$server" --version | head -n 1
    # What is so on a machine however slow: times are printed, and not judged.
    for fault in "failovers --count 3 --without 2" "torn --count 2" "stopped --rounds 1" "partition --rounds 1" "handover --count 1" \
        "rolling --count 1" "sentinel --count 1" "cluster --count 1" "cluster-cut --rounds 1" "slots --count 6 --resharded 300"; do
        read -r -a words <<<"$fault"
        # None takes two minutes on a machine that does nothing else.
        SERVER_BIN=$server timeout -k 10 600 cargo run --quiet "${own[@]}" -- --only-promises "${words[@]}" || {
            echo "deployments: ${words[*]} failed with status $? (124: it was ended after ten minutes)" >&2
            exit 1
        }
    done
done
