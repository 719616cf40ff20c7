#!/usr/bin/env bash
# Runs the tests of the client libraries in clients/, each on one server after the other, and ends with one line for each.
# What they need is brought to target/clients; nothing of it is committed, redis-py's own tests neither.
# usage: MODULE_PATH=module.so CLIENT=python|all tools/clients.sh SERVER_BIN...
#   TESTS=name    only tests whose name contains this
#   BRIEF=1       each library with one client package only
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/target/clients
summary=
failed=0

# "redis-7.0.15" or "valkey-9.1.2"
name_of() {
    "$1" --version | sed -nE 's/^(Redis|Valkey) server v=([^ ]+).*/\L\1\E-\2/p'
}

bring_python() {
    local wanted=clients/python/tests/requirements.txt version
    cmp -s "$wanted" "$root/python/made" && return
    rm -rf "$root/python"
    python3 -m venv "$root/python"
    "$root/python/bin/python" -m pip install --quiet -r "$wanted"
    version=$(sed -n 's/^redis==//p' "$wanted")
    "$root/python/bin/python" -m pip download --quiet --no-deps --no-binary redis "redis==$version" --dest "$root/python"
    tar -xzf "$root/python/redis-$version.tar.gz" -C "$root/python" --one-top-level=upstream --strip-components=1
    cp "$wanted" "$root/python/made"
}

# Its own tests, the scenarios of clients/conformance, and the lock tests of redis-py.
run_python() {
    local python=$root/python/bin/python status=0
    export PYTHONPATH=$PWD/clients/python/src:$PWD/clients/python/tests PYTHONDONTWRITEBYTECODE=1
    (cd clients/python && "$python" -m pytest -q -p no:cacheprovider --timeout 60 \
        -k "${TESTS:-test} ${BRIEF:+and not valkey}") || status=1
    [ -z "${TESTS:-}" ] || return "$status"
    (cd "$root/python/upstream" && "$python" "$OLDPWD/clients/python/tests/upstream.py") || status=1
    return "$status"
}

for client in $([ "${CLIENT:-all}" = all ] && echo python || echo "$CLIENT"); do
    "bring_$client"
    for server in "$@"; do
        name=$client-$(name_of "$server")
        log=$root/$name.log
        echo "== $name"
        start=$SECONDS
        [[ $server == /* ]] || server=$PWD/$server
        SERVER_BIN=$server "run_$client" 2>&1 | tee "$log" || failed=1
        summary+="$name: $(grep -E '^[0-9]+ (passed|failed)' "$log" | sed 's/ in .*//; s/,.*warnings\?//' | paste -sd ';') "
        summary+="($((SECONDS - start)) s)"$'\n'
    done
done
printf '\n%s' "$summary"
exit "$failed"
