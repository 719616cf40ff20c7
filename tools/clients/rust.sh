# The tests of clients/rust: its own, the scenarios, a cluster and Sentinel, and the programs of its README. Read by
# tools/clients.sh.

bring_rust() {
    (cd clients/rust && CARGO_TARGET_DIR=$root/rust cargo test --quiet --locked --all-features --no-run)
}

run_rust() {
    local status=0
    export CARGO_TARGET_DIR=$root/rust
    (cd clients/rust && cargo build --quiet --locked --all-features --example driver) || return
    play rust tokio "$root/rust/debug/examples/driver" || status=1
    (cd clients/rust && timeout -k 10 400 cargo test --locked --all-features --no-fail-fast -- --nocapture --test-threads=2 "${TESTS:-}") ||
        status=1
    return "$status"
}

count_rust() {
    awk '/^test result:/ { passed += $4; failed += $6 }
        END { if (passed) print passed " passed"; if (failed) print failed " failed" }'
}
