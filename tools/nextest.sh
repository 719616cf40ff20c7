#!/usr/bin/env bash
# Runs tests, each in a process of its own and within the time that .config/nextest.toml allows: a test that hangs is ended with
# its servers and named, and the others go on.
# usage: tools/nextest.sh --locked --test integration [NAME ...]    the words of `cargo nextest run`
set -euo pipefail
cd "$(dirname "$0")/.."
dir=target/nextest

source tools/pinned.sh
bring nextest "$dir"

# The runner keeps to itself what a test says that passes.
SKIPPED=$(mktemp)
export SKIPPED
trap 'rm -f "$SKIPPED"' EXIT
status=0
PATH=$PWD/$dir/bin:$PATH ${NEXTEST_BY:-cargo nextest run} "$@" || status=$?
sort "$SKIPPED"
exit "$status"
