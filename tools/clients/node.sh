# The tests of clients/node: its own, the scenarios, and the programs of its README. Read by tools/clients.sh.

bring_node() {
    local home=$root/node
    node=$(find_node 20.19 "$root/node-bin")
    mkdir -p "$home"
    cmp -s clients/node/package-lock.json "$home/node_modules/made" && return
    cp clients/node/{package.json,package-lock.json,.npmrc} "$home"
    (cd "$home" && PATH=$node:$PATH npm ci --silent --no-audit --no-fund)
    cp clients/node/package-lock.json "$home/node_modules/made"
}

run_node() {
    local home=$root/node status=0 ways="ioredis 5,node-redis 5"
    [ -n "${BRIEF:-}" ] || ways+=",ioredis 6,node-redis 6"
    export PROXY=$PWD/clients/conformance/proxy.py
    rm -rf "$home"/{src,tests,dist,build}
    cp -r clients/node/{src,tests,README.md,package.json,tsconfig.json,tsconfig.tests.json} "$home"
    (
        cd "$home" &&
            "$node/node" tests/readme.mjs &&
            "$node/node" node_modules/typescript/bin/tsc -p tsconfig.json &&
            "$node/node" node_modules/typescript/bin/tsc -p tsconfig.tests.json
    ) || return
    # Both at the same time: all they do is wait.
    play node "$ways" "$node/node" --expose-gc --enable-source-maps "$home/build/tests/driver.js" >"$home/played" &
    (cd "$home" && timeout -k 10 400 "$node/node" --expose-gc --enable-source-maps --test --test-timeout=360000 \
        --test-reporter=spec --test-concurrency=2 ${TESTS:+--test-name-pattern="$TESTS"} build/tests/) || status=1
    wait "$!" || status=1
    cat "$home/played"
    return "$status"
}

count_node() {
    sed -nE 's/^. pass ([0-9]+)$/\1 passed/p; s/^. fail ([1-9][0-9]*)$/\1 failed/p; s/^. skipped ([1-9][0-9]*)$/\1 skipped/p'
}
