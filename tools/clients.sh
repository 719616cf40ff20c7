#!/usr/bin/env bash
# Runs the tests of the client libraries in clients/, each on one server after the other, and ends with one line for each.
# What they need is brought to target/clients; nothing of it is committed, other people's tests neither.
# usage: MODULE_PATH=module.so CLIENT=python|…|all tools/clients.sh SERVER_BIN...
#   TESTS=name    only tests and scenarios whose name contains this
#   BRIEF=1       each library in a short form
#
# tools/clients/LANGUAGE.sh says how, with three functions: bring_LANGUAGE brings to $root/LANGUAGE what the tests need,
# run_LANGUAGE runs them on $SERVER_BIN, and with `play LANGUAGE` the scenarios, and count_LANGUAGE reads the output of the
# tests and prints "12 passed", "1 failed" and such, a line each. The scenarios are counted here.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/toolchain.sh

root=$PWD/target/clients
summary=
failed=0
logs=()
mkdir -p "$root"

# "redis-7.0.15" or "valkey-9.1.2"
name_of() {
    "$1" --version | sed -nE 's/^(Redis|Valkey) server v=([^ ]+).*/\L\1\E-\2/p'
}

# play LANGUAGE WAY[,WAY...] DRIVER...: the scenarios, for ten minutes at most.
play() {
    timeout -k 10 600 python3 clients/conformance/play.py "$@"
}

count_scenarios() {
    grep -E '^[0-9]+ scenarios passed' || true
}

all=$(find tools/clients -name '*.sh' -printf '%f\n' | sed 's/\.sh$//' | sort)
for client in $([ "${CLIENT:-all}" = all ] && echo "$all" || echo "$CLIENT"); do
    source "tools/clients/$client.sh"
    "bring_$client"
    for server in "$@"; do
        name=$client-$(name_of "$server")
        log=$root/$name.log
        logs+=("$log" /dev/null) # of two files grep says which one
        echo "== $name"
        start=$SECONDS
        [[ $server == /* ]] || server=$PWD/$server
        SERVER_BIN=$server "run_$client" 2>&1 | tee "$log" || failed=1
        summary+="$name: $({ "count_$client" <"$log"; count_scenarios <"$log"; } | paste -sd ';' || true) ($((SECONDS - start)) s)"$'\n'
    done
done
echo
if [ "$failed" = 1 ]; then
    # Once more at the end, which is all that some people see of a log.
    grep -E '^failed: |^ *--- FAIL|^\[ERROR\] .*(Test|:[0-9])|^ *✖ |^FAILED |\.\.\. FAILED|panicked at' "${logs[@]}" |
        sed "s|^$root/||" | sort -u | sed -n 1,60p || true
fi
printf '%s' "$summary"
exit "$failed"
