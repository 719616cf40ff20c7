# The tests of clients/rust: its own, the scenarios, a cluster and Sentinel, and the programs of its README. Read by
# tools/clients.sh.

bring_rust() {
    (cd clients/rust && CARGO_TARGET_DIR=$root/rust cargo test --quiet --locked --all-features --no-run)
}

run_rust() {
    (cd clients/rust && CARGO_TARGET_DIR=$root/rust timeout -k 10 400 cargo test --locked --all-features --no-fail-fast -- --nocapture --test-threads=2 "${TESTS:-}")
}

count_rust() {
    awk '/^test result:/ { passed += $4; failed += $6 }
        / scenarios played, / { print }
        END { if (passed) print passed " passed"; if (failed) print failed " failed" }'
}
