#!/usr/bin/env bash
# Runs every fenced block of Python, Go, JavaScript and SQL in README.md and docs/ against a server with the module, each on a
# server of its own, and ends with one line. A comment before the block, <!-- run: NAME -->, names the driver in
# tests/snippets/LANGUAGE that puts it to the test; a block without one, and a driver without a block, is an error. A comment
# <!-- same: PAGE --> says that the block stands word for word in that page of clients/, whose own tests run it. Brings the
# clients to target/snippets; a language that cannot be had is said and counted as skipped.
# usage: SERVER_BIN=redis-server MODULE_PATH=module.so tools/snippets.sh
#   SNIPPETS=go    only blocks whose language and name, as in go/readme, contain this
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/server.sh
source tools/toolchain.sh

drivers=$PWD/tests/snippets
root=$PWD/target/snippets
passed=0 failed=0 skipped=0

# Prints LANGUAGE, NAME, FILE and LINE of each block, and writes the block to $root/blocks/LANGUAGE/NAME.
extract() {
    rm -rf "$root/blocks"
    mkdir -p "$root"/blocks/{python,go,node,java,rust,sql}
    find README.md docs -name '*.md' -print0 | sort -z | xargs -0 awk -v blocks="$root/blocks" '
        BEGIN {
            language["python"] = language["py"] = "python"
            language["go"] = "go"
            language["js"] = language["javascript"] = language["mjs"] = language["ts"] = language["node"] = "node"
            language["java"] = "java"
            language["rust"] = "rust"
            language["sql"] = "sql"
        }
        /^ *<!-- (run: [a-z_]+|same: clients\/[a-z]+\/README.md) -->$/ { name = $3; gsub("/", ":", name); next }
        /^ *```/ && !inside {
            inside = 1; out = ""; tag = $1; sub(/^```/, "", tag)
            if (tag in language) {
                print language[tag], (name == "" ? "-" : name), FILENAME, FNR
                out = blocks "/" language[tag] "/" (name == "" ? "-" : name)
            }
            next
        }
        /^ *```$/ { inside = 0; name = ""; if (out != "") close(out); next }
        inside && out != "" { print > out }
        !inside && NF { name = "" }'
}

say() { echo "snippets: $*"; }

bring_python() {
    local venv=$root/python
    if ! cmp -s "$drivers/python/requirements.txt" "$venv/made"; then
        rm -rf "$venv" "$root/package"
        python3 -m venv "$venv" && "$venv/bin/python" -m pip install --quiet -r "$drivers/python/requirements.txt" &&
            cp "$drivers/python/requirements.txt" "$venv/made" || return
    fi
    # The package of this project, from a copy, as building one leaves files beside it.
    ! diff -rq clients/python "$root/package" >/dev/null 2>&1 || return 0
    rm -rf "$root/package" && cp -r clients/python "$root/package.new" &&
        "$venv/bin/python" -m pip install --quiet --no-deps --force-reinstall "$root/package.new" &&
        rm -rf "$root/package.new" && cp -r clients/python "$root/package"
}

bring_sql() {
    bring_python # whose library has a database
}

bring_go() {
    go=$(find_go "$(sed -n 's/^go //p' "$drivers/go/go.mod")" "$root/go-bin")
}

bring_node() {
    local modules=$root/node/node_modules
    node=$(find_node "$(sed -n 's/.*"node": ">=\(.*\)"/\1/p' "$drivers/node/package.json")" "$root/node-bin") || return
    cmp -s "$drivers/node/package-lock.json" "$modules/made" && return
    mkdir -p "$root/node"
    cp "$drivers"/node/package*.json "$root/node"
    (cd "$root/node" && PATH=$node:$PATH npm ci --silent --no-audit --no-fund) &&
        cp "$drivers/node/package-lock.json" "$modules/made"
}

# Each runs the block $2 with the driver $1 in the new directory $3.
run_python() {
    cp "$2" "$3/locks.py"
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$3 "$root/python/bin/python" "$drivers/python/$1.py"
}

run_sql() {
    PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$drivers/python "$root/python/bin/python" "$drivers/sql/$1.py" "$2"
}

run_go() {
    cp "$2" "$3/locks.go"
    cp "$drivers"/go/{go.mod,go.sum,trials_test.go,"$1_test.go"} "$3"
    # The library of this project is there for all; trials_test.go is left out for the block that only calls it.
    (cd "$3" && "$go" mod edit -require fencelock@v0.0.0 -replace "fencelock=$OLDPWD/clients/go" &&
        "$go" test -count=1 -v -tags "$1" .)
}

run_node() {
    cp "$2" "$3/locks.mjs"
    cp "$drivers"/node/{trials,"$1"}.mjs "$3"
    ln -s "$root/node/node_modules" "$3/node_modules"
    (cd "$3" && "$node/node" --test --test-force-exit "$1.mjs")
}

# True if the text of file $1 stands in file $2, word for word, however far its lines are indented.
in_page() {
    [[ $(sed 's/^ *//' "$2") == *"$(sed 's/^ *//' "$1")"* ]]
}

# Runs a block with a server and a cluster of one node, both new.
try_block() {
    local language=$1 name=$2 dir=$3 result=0
    mkdir -p "$dir"/{server,cluster,block}
    start_server "$(free_port_from 21400)" "$dir/server" >"$dir/server.log" 2>&1 || return
    LOCK_PORT=$server_port LOCK_PID=$server_pid
    start_server "$(free_port_from $((LOCK_PORT + 1)))" "$dir/cluster" --cluster-enabled yes >"$dir/cluster.log" 2>&1 || return
    LOCK_CLUSTER_PORT=$server_port
    redis-cli -p "$LOCK_CLUSTER_PORT" CLUSTER ADDSLOTSRANGE 0 16383 >/dev/null
    until redis-cli -p "$LOCK_CLUSTER_PORT" CLUSTER INFO | grep -q cluster_state:ok; do sleep 0.05; done
    export LOCK_PORT LOCK_PID LOCK_CLUSTER_PORT
    "run_$language" "$name" "$root/blocks/$language/$name" "$dir/block" </dev/null || result=1
    kill -CONT "$LOCK_PID" 2>/dev/null || result=1
    kill "$LOCK_PID" "$server_pid" 2>/dev/null || true
    wait "$LOCK_PID" "$server_pid" 2>/dev/null || true
    return "$result"
}

work=$(mktemp -d)
trap 'kill -CONT $(jobs -p) 2>/dev/null || true; kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
found=$(extract)

for driver in "$drivers"/{python,sql}/*.py "$drivers"/go/*_test.go "$drivers"/node/*.mjs; do
    language=$(basename "$(dirname "$driver")") name=$(basename "$driver" | sed -E 's/(_test)?\.[a-z]+$//')
    [ "$name" = trials ] || grep -q "^$language $name " <<<"$found" ||
        { say "$language/$name has no block in README.md or docs/" && failed=$((failed + 1)); }
done

while read -r language name file line <&3; do
    [[ $language/$name == *${SNIPPETS:-}* ]] || continue
    if [[ $name == clients:* ]]; then
        if in_page "$root/blocks/$language/$name" "${name//://}"; then
            say "$file:$line: $language stands in ${name//://}, whose tests run it"
            passed=$((passed + 1))
        else
            say "$file:$line: this block of $language does not stand in ${name//://}"
            failed=$((failed + 1))
        fi
        continue
    fi
    if [ "$name" = - ] || ! compgen -G "$drivers/$language/$name[._]*" >/dev/null; then
        say "$file:$line: no driver for this block of $language; see CONTRIBUTING.md"
        failed=$((failed + 1))
    elif ! "bring_$language" >"$work/bring.log" 2>&1; then
        say "$file:$line: not run, as this machine has no $language and it could not be brought:"
        tail -n 5 "$work/bring.log"
        skipped=$((skipped + 1))
    else
        start=$SECONDS
        log=$root/$language-$name.log
        if try_block "$language" "$name" "$work/$language-$name" >"$log" 2>&1; then
            say "$file:$line: $language/$name holds ($((SECONDS - start)) s)"
            passed=$((passed + 1))
        else
            cat "$log"
            say "$file:$line: $language/$name does not hold; its log is $log"
            failed=$((failed + 1))
        fi
    fi
done 3<<<"$found"

echo "snippets: $passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
