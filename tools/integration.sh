#!/usr/bin/env bash
# Runs the integration tests on one server after the other and ends with one line for each.
# usage: MODULE_PATH=module.so tools/integration.sh SERVER_BIN...
#   TESTS=name      only tests whose name contains this
#   TEST_THREADS=4  tests at a time; most of them wait more than they compute
set -euo pipefail
cd "$(dirname "$0")/.."

# "redis-7.0.15" or "valkey-9.1.2"
name_of() {
    "$1" --version | sed -nE 's/^(Redis|Valkey) server v=([^ ]+).*/\L\1\E-\2/p'
}

for server in "$@"; do
    echo "server to test: $(name_of "$server")"
done
tools/nextest.sh --locked --test integration --no-run

summary=
failed=0
for server in "$@"; do
    name=$(name_of "$server")
    log=target/integration-$name.log
    echo "== $name"
    start=$SECONDS
    SERVER_BIN=$server tools/nextest.sh --locked --test integration \
        --test-threads "${TEST_THREADS:-4}" ${TESTS:+"$TESTS"} 2>&1 | tee "$log" || failed=1
    counts=$(sed -nE 's/^ *Summary \[.*\] [0-9/]+ tests? run: (.*)/\1/p' "$log")
    summary+="$name: ${counts:-nothing was run}"$'\n'
    echo "== $name took $((SECONDS - start)) s"
done
printf '\n%s' "$summary"
exit "$failed"
