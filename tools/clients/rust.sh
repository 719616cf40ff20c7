# The tests of clients/rust: the scenarios, redis-rs in its default settings, and the program of its README. Read by
# tools/clients.sh.

bring_rust() {
    (cd clients/rust && CARGO_TARGET_DIR=$root/rust cargo test --quiet --locked --no-run)
}

run_rust() {
    (cd clients/rust && CARGO_TARGET_DIR=$root/rust timeout -k 10 400 cargo test --locked -- --nocapture --test-threads=2 "${TESTS:-}")
}

count_rust() {
    awk '/^test result:/ { passed += $4; failed += $6 }
        / scenarios played, / { print }
        END { if (passed) print passed " passed"; if (failed) print failed " failed" }'
}
