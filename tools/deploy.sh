#!/usr/bin/env bash
# Brings a deployment of examples/deploy up on loopback, says what it guarantees and what to type, and ends it at Ctrl-C. Its
# data are in a directory of its own and go with it.
# usage: SERVER_BIN=redis-server MODULE_PATH=module.so tools/deploy.sh node|sentinel|cluster
#        MODULE_PATH=module.so tools/deploy.sh test SERVER_BIN...   brings each up, types what it says, and ends it
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/server.sh

pids=()
replied() { grep -q "$1" <<<"$(redis-cli "${@:2}" 2>&1)"; }

fail() {
    echo "deploy: $*" >&2
    [ -z "${dir:-}" ] || tail -n 20 "$dir"/*/log >&2 2>/dev/null || true
    exit 1
}

# Waits until the command that follows $1 is true.
until_true() {
    local what=$1 end=$((SECONDS + 60))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "waited in vain for: $what"
        sleep 0.1
    done
}

# Starts a server from a copy of examples/deploy/$1 with a port, a directory and a module of its own, and the lines $2 added;
# further arguments are the server's. Servers write to their configuration, so each has a copy.
start() {
    local from=examples/deploy/$1 added=$2 data
    port=$(free_port_from "$next_port")
    next_port=$((port + 1))
    data=$dir/$port
    mkdir "$data"
    sed -e "s|^port .*|port $port|" -e "s|^dir .*|dir $data|" -e "s|^loadmodule .*|loadmodule $MODULE_PATH|" "$from" >"$data/conf"
    echo "$added" >>"$data/conf"
    "$SERVER_BIN" "$data/conf" "${@:3}" >>"$data/log" 2>&1 &
    pids+=($!)
    until_true "the server on port $port" replied PONG -p "$port" PING
}

# The comment at the head of a configuration.
promise() { sed -n "/^# Guaranteed/,/^$/s/^# \?//p" "examples/deploy/$1"; echo; }

node() {
    start node.conf ""
    promise node.conf
    cat <<TEXT
Take a lock, kill the server, which is started again by this script, and see that it is still held, with
what is left of its lease in ms:

    redis-cli -p $port LOCK.ACQUIRE invoice:42 alice PX 60000
    kill -KILL \$(redis-cli -p $port INFO server | sed -n 's/^process_id:\([0-9]*\).*/\1/p')
    redis-cli -p $port LOCK.CHECK invoice:42 alice
    redis-cli -p $port LOCK.RELEASE invoice:42 alice
TEXT
    # Like a service manager: what ends is started again.
    while echo "ready" >"$dir/ready"; do
        wait "${pids[0]}" || true
        sleep 0.2 # one that cannot start is not tried all the time
        "$SERVER_BIN" "$dir/$port/conf" >>"$dir/$port/log" 2>&1 &
        pids=($!)
    done
}

sentinel() {
    start replicated.conf ""
    local primary=$port watch
    for _ in 1 2; do start replicated.conf "replicaof 127.0.0.1 $primary"; done
    until_true "two replicas" eval "[ \"\$(redis-cli -p $primary INFO replication | grep -c state=online)\" = 2 ]"
    for _ in 1 2 3; do
        sed "s/ 6379 2\$/ $primary 2/" examples/deploy/sentinel.conf >"$dir/sentinel.conf"
        start ../../"$(realpath --relative-to=. "$dir")"/sentinel.conf "" --sentinel
        watch=$port
    done
    until_true "Sentinels that agree" knows_all "$watch"
    promise replicated.conf
    cat <<TEXT
Clients ask a Sentinel, on ports $((watch - 2)) to $watch, where the primary of "locks" is: now on port $primary. Take a lock, and tell
Sentinel to move the primary elsewhere:

    redis-cli -p $primary LOCK.ACQUIRE invoice:42 alice PX 30000
    redis-cli -p $watch SENTINEL FAILOVER locks

Ask where it is now, until the port is another; the lock is held there. Nothing was lost, so end the recovery window. A
release is refused with NOREPLICAS until a replica follows the new primary:

    redis-cli -p $watch SENTINEL GET-MASTER-ADDR-BY-NAME locks
    primary=\$(redis-cli -p $watch SENTINEL GET-MASTER-ADDR-BY-NAME locks | tail -n 1)
    redis-cli -p \$primary LOCK.CHECK invoice:42 alice
    redis-cli -p \$primary LOCK.RECOVERY END
    redis-cli -p \$primary LOCK.RELEASE invoice:42 alice
TEXT
    echo "ready" >"$dir/ready"
    wait
}

# True when the Sentinel knows two replicas and two other Sentinels, and may fail over.
knows_all() {
    local seen
    seen=$(redis-cli -p "$1" SENTINEL MASTER locks | paste -d' ' - -)
    grep -q '^num-slaves 2$' <<<"$seen" && grep -q '^num-other-sentinels 2$' <<<"$seen" && replied '^OK' -p "$1" SENTINEL CKQUORUM locks
}

cluster() {
    local nodes=() holder replica
    for _ in 1 2 3 4 5 6; do
        start cluster.conf ""
        nodes+=("$port")
    done
    redis-cli --cluster create "${nodes[@]/#/127.0.0.1:}" --cluster-replicas 1 --cluster-yes >"$dir/$port/create" 2>&1 ||
        fail "$(tail -n 3 "$dir/$port/create")"
    for node in "${nodes[@]}"; do
        until_true "node $node" settled "$node"
    done
    holder=$(redis-cli -p "${nodes[0]}" CLUSTER NODES | awk '/myself/ { print $1 }')
    until_true "a replica of the first" eval \
        "redis-cli -p ${nodes[0]} CLUSTER NODES | grep 'slave $holder' | grep -q ' connected'"
    replica=$(redis-cli -p "${nodes[0]}" CLUSTER NODES | awk -v of="$holder" '$4 == of { split($2, at, /[:@]/); print at[2] }')
    promise cluster.conf
    cat <<TEXT
Clients come to any node, on ports ${nodes[*]}. Take a lock of the first one, and let its replica take over:

    redis-cli -c -p ${nodes[0]} LOCK.ACQUIRE invoice:4 alice PX 30000
    redis-cli -p $replica CLUSTER FAILOVER

Ask for its role until it is a primary ("master"); the lock is held there, and as nothing was lost it grants at once:

    redis-cli -p $replica ROLE
    redis-cli -c -p ${nodes[1]} LOCK.CHECK invoice:4 alice
    redis-cli -c -p ${nodes[1]} LOCK.RELEASE invoice:4 alice
TEXT
    echo "ready" >"$dir/ready"
    wait
}

# True when the node sees the whole cluster, and a replica has its primary's data.
settled() {
    replied cluster_state:ok -p "$1" CLUSTER INFO && replied cluster_known_nodes:6 -p "$1" CLUSTER INFO &&
        { replied role:master -p "$1" INFO replication && replied state=online -p "$1" INFO replication ||
            replied master_link_status:up -p "$1" INFO replication; }
}

# Ends what was started, by process id, and waits for it.
bring_down() {
    trap '' INT TERM
    local pid end=$((SECONDS + 30))
    for pid in "${pids[@]}"; do
        # A server that writes its first append-only file refuses to stop, and has to be asked again.
        while kill -TERM "$pid" 2>/dev/null; do
            [ "$SECONDS" -lt "$end" ] || kill -KILL "$pid" 2>/dev/null || true
            sleep 0.2
        done
    done
    wait
    rm -rf "$dir"
}

# Types what the deployment $1 says, line by line, and compares.
try() {
    local what=$1 out line reply acquired="" before="" at=${DEPLOY_DIR}/$1
    mkdir "$at"
    out=$at.out
    # A process group of its own, so that a Ctrl-C can be sent to all of it, as a terminal does.
    set -m
    TMPDIR=$at tools/deploy.sh "$what" >"$out" 2>&1 &
    up=$!
    set +m
    until_true "$what" eval "[ -e $at/*/ready ] || ! kill -0 $up"
    kill -0 "$up" 2>/dev/null || { cat "$out"; fail "$what did not come up"; }
    mapfile -t servers < <(pgrep -P "$up")
    while IFS= read -r line; do
        line=${line#    }
        case $line in
        primary=* | kill\ *) eval "$line"; continue ;;
        *GET-MASTER-ADDR*) until_true "another primary" eval "[ \"\$($line | tail -n 1)\" != '$before' ]"; continue ;;
        *ROLE) until_true "another primary" eval "$line | grep -q '^master'"; continue ;;
        *LOCK.CHECK*) until_true "the lock that was taken" eval "[ \"\$($line)\" -gt 0 ]"; continue ;;
        *RELEASE*) until_true "a release" eval "[ \"\$($line)\" = 1 ]"; continue ;;
        *) reply=$(eval "$line") ;;
        esac
        case $line in
        *LOCK.ACQUIRE*) [[ $reply == [1-9]* ]] || fail "$line: $reply"; acquired=yes before=$(awk '{ for (i = 1; i < NF; i++) if ($i == "-p") print $(i + 1) }' <<<"$line") ;;
        *FAILOVER*) [ "$reply" = OK ] || fail "$line: $reply" ;;
        *RECOVERY*) [[ $reply == [1-9]* ]] || fail "$line: $reply: there was no window" ;;
        esac
    done < <(grep -E '^    ' "$out")
    [ -n "$acquired" ] || fail "$what says nothing to type"
    mapfile -t -O "${#servers[@]}" servers < <(pgrep -P "$up")
    kill -INT -- "-$up"
    until_true "$what to end" eval "! kill -0 $up"
    wait "$up" || true
    for pid in "${servers[@]}"; do
        ! kill -0 "$pid" 2>/dev/null || fail "$what left process $pid behind"
    done
    [ -z "$(ls "$at")" ] || fail "$what left files behind: $(ls "$at")"
    echo "deploy: $what: up, locked, moved, still locked, down ($(basename "$(dirname "$SERVER_BIN")"))"
}

case ${1:-} in
node | sentinel | cluster)
    dir=$(mktemp -d)
    next_port=${PORT:-7400}
    trap bring_down EXIT
    trap 'exit 0' INT TERM
    "$1"
    ;;
test)
    DEPLOY_DIR=$(mktemp -d) up=""
    trap '[ -z "$up" ] || kill "$up" 2>/dev/null; wait; rm -rf "$DEPLOY_DIR"' EXIT
    for server in "${@:2}"; do
        export SERVER_BIN=$(realpath --no-symlinks "$server")
        for what in node sentinel cluster; do
            try "$what"
            up=""
        done
        rm -rf "${DEPLOY_DIR:?}"/*
    done
    ;;
*)
    sed -n 's/^# usage: /usage: /p' "$0" >&2
    exit 2
    ;;
esac
