#!/usr/bin/env bash
# Checks and tests the program redis-lock of cli/ on one server after the other, and ends with a line for each.
# usage: MODULE_PATH=module.so tools/cli.sh test SERVER_BIN...     TESTS=name    only tests whose name contains this
#        MODULE_PATH=module.so tools/cli.sh bench SERVER_BIN...    says what `run` adds to a command, and what a list of locks and a picture of top take
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/server.sh

# A package of its own, so that its many dependencies touch neither the module nor the tests.
own=(--locked --manifest-path cli/Cargo.toml --target-dir "${CLI_TARGET:-$PWD/target/cli}")
what=$1
shift

if [ "$what" = bench ]; then
    cargo build --release "${own[@]}" --bins --example cost
    # As a debug build, which takes some times as long, for that is there already.
    cargo test --quiet "${own[@]}" --bins ten_thousand_locks -- --nocapture | grep '^top'
    work=$(mktemp -d)
    trap 'kill "$server_pid" 2>/dev/null || true; rm -rf "$work"' EXIT
    for server in "$@"; do
        SERVER_BIN=$server start_server "$(free_port_from 21800)" "$work" --enable-debug-command yes >"$work/log" 2>&1
        "$server" --version | head -n 1
        REDIS_URL=redis://127.0.0.1:$server_port cargo run --quiet --release "${own[@]}" --example cost
        kill "$server_pid" && wait "$server_pid" || true
        rm -rf "${work:?}"/*
    done
    exit
fi

cargo fmt --manifest-path cli/Cargo.toml --check
cargo clippy --quiet "${own[@]}" --all-targets -- -D warnings
cargo test --quiet "${own[@]}" --bins
failed=0
for server in "$@"; do
    [[ $server == /* ]] || server=$PWD/$server
    "$server" --version | head -n 1
    SERVER_BIN=$server tools/nextest.sh "${own[@]}" --config-file .config/nextest.toml --test integration \
        --test-threads 4 ${TESTS:+"$TESTS"} || failed=1
done
exit "$failed"
