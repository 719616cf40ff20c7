# The tests of clients/python: its own, the scenarios, and the lock tests of redis-py. Read by tools/clients.sh.

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

run_python() {
    local python=$root/python/bin/python status=0 ways=threads-redis,tasks-redis
    [ -n "${BRIEF:-}" ] || ways+=,threads-valkey,tasks-valkey
    export PYTHONPATH=$PWD/clients/python/src:$PWD/clients/python/tests PYTHONDONTWRITEBYTECODE=1
    "$python" -m pyflakes clients/python clients/conformance || status=1 # a name that nobody defined
    play python "$ways" "$python" clients/python/tests/driver.py || status=1
    [[ ${TESTS:-} == *" "* ]] || run_pytest || status=1 # a name of words is that of a scenario
    [ -z "${TESTS:-}" ] || return "$status"
    (cd "$root/python/upstream" && "$python" "$OLDPWD/clients/python/tests/upstream.py") || status=1
    [ -n "${BRIEF:-}" ] || "$python" clients/python/tests/overhead.py || status=1
    return "$status"
}

run_pytest() {
    local status=0
    (cd clients/python && "$python" -m pytest -q -rs -p no:cacheprovider --timeout 60 -k "${TESTS:-test} ${BRIEF:+and not valkey}") ||
        status=$?
    [ "$status" = 0 ] || { [ "$status" = 5 ] && [ -n "${TESTS:-}" ]; } # none has this name
}

count_python() {
    grep -E '^([0-9]+ (passed|failed)|processor time)' | sed 's/ in .*//; s/,.*warnings\?//'
}
