#!/usr/bin/env bash
# Runs the tests of the pure core, src/primitive and src/command, under Miri, which interprets them and stops at undefined
# behaviour, of the crates that hold our data too. Miri is some hundred times as slow as the processor: random tests have few
# cases, and each test has the time that profile.miri of .config/nextest.toml gives it. What it does until then must be sound.
# usage: tools/miri.sh [NAME ...]    only tests whose name contains one of these
set -euo pipefail
cd "$(dirname "$0")/.."
command -v rustup >/dev/null || { echo "miri: rustup is needed, which brings a nightly Rust with Miri" >&2; exit 1; }
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
rustup +nightly component add miri rust-src

# Regression files and pages are read; some tests leak the words of their requests.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-ignore-leaks"
export LOCK_MODEL_RUNS=1 PROPTEST_CASES=2
NEXTEST_BY="cargo +nightly miri nextest run" tools/nextest.sh --locked --profile miri --package redis-lock --lib \
    --target-dir "${CARGO_TARGET_DIR:-target}/miri" -E 'test(/^(primitive|command)::/)' "$@"
