#!/usr/bin/env bash
# Shows the locks at work on a server of its own, and ends with an error when one of them does not do what the text says.
# Asks nothing and leaves nothing behind.
# usage: SERVER_BIN=redis-server MODULE_PATH=module.so tools/demo.sh
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/server.sh

dir=$(mktemp -d)
port=$(free_port_from 7390)
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -rf "$dir"' EXIT

bold='' plain=''
[ ! -t 1 ] || bold=$'\e[1m' plain=$'\e[0m'

title() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
tell() { printf '  %s\n' "$*"; }
ask() { redis-cli --no-raw -p "$port" "$@"; }

# Types a command for $1, prints it with its reply, and checks that the reply matches the pattern $2.
show() {
    local who=$1 expected=$2 reply
    shift 2
    reply=$(ask "$@")
    printf '  %-6s> %s\n' "$who" "$*"
    sed 's/^/          /' <<<"$reply"
    check "$reply" "$expected"
}

# The same for a command that waits: prints it at once and returns when the server has queued it as number $2.
show_waiting() {
    local who=$1 number=$2
    shift 2
    printf '  %-6s> %s\n          (waits)\n' "$who" "$*"
    ask "$@" >"$dir/$who" &
    until [ "$(waiting "$2")" = "$number" ]; do sleep 0.01; done
}

# Prints what the waiting client $1 was told in the end.
show_granted() {
    until [ -s "$dir/$1" ]; do sleep 0.01; done
    printf '  %-6s< %s\n' "$1" "$(grep -v '^(.*s)$' "$dir/$1")"
    check "$(cat "$dir/$1")" '(integer) [1-9]*'
}

check() {
    # shellcheck disable=SC2053
    [[ $1 == $2 ]] || { echo "demo: expected $2 but the reply is: $1" >&2; exit 1; }
}

waiting() { redis-cli -p "$port" LOCK.INFO "$1" | grep -A1 '^waiting$' | tail -n 1; }
fence() { redis-cli -p "$port" LOCK.ACQUIRE "$1" "$2"; }

start_server "$port" "$dir" >>"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
port=$server_port
tell "A server of its own on port $port, with the lock module."

title "Contention: one holder at a time"
tell "Alice takes the door for 30 seconds and gets a fence, a number that only grows. Bob is refused."
show alice '(integer) [1-9]*' LOCK.ACQUIRE door alice PX 30000
show bob '(nil)' LOCK.ACQUIRE door bob PX 30000
tell "Bob cannot release what is not his. Alice may ask again: same holder, same fence."
show bob '(integer) 0' LOCK.RELEASE door bob
show alice '(integer) [1-9]*' LOCK.ACQUIRE door alice PX 30000

title "Hand-off: first come, first served"
tell "Bob and Carol wait in the server; nobody polls. Each release hands the lock to the next in line."
show_waiting bob 1 LOCK.ACQUIRE door bob BLOCK 10000
show_waiting carol 2 LOCK.ACQUIRE door carol BLOCK 10000
show alice '(integer) 1' LOCK.RELEASE door alice
show_granted bob
tell "Carol still waits:"
show dave '*"carol"*' LOCK.WAITERS door
show bob '(integer) 1' LOCK.RELEASE door bob
show_granted carol
show carol '(integer) 1' LOCK.RELEASE door carol

title "Expiry: a holder that goes silent loses the lock"
tell "Erin takes a lease of 400 ms and never comes back. Frank waits, and has it as soon as the lease is over."
show erin '(integer) [1-9]*' LOCK.ACQUIRE till erin PX 400
show_waiting frank 1 LOCK.ACQUIRE till frank BLOCK 10000
show_granted frank
tell "Erin is told: 0 is not the holder."
show erin '(integer) 0' LOCK.CHECK till erin

title "Fence: a late writer can be told from the present holder"
tell "Three holders, one after the other. Whatever keeps the largest number it has seen can refuse the older ones."
last=0
for who in alice bob carol; do
    now=$(fence ledger "$who")
    tell "$who holds with fence $now"
    [ "$now" -gt "$last" ] || { echo "demo: the fence did not grow" >&2; exit 1; }
    last=$now
    ask LOCK.RELEASE ledger "$who" >/dev/null
done

title "Restart: a lock survives the server"
show grace '(integer) [1-9]*' LOCK.ACQUIRE report grace PX 60000
tell "The server is killed with SIGKILL and started again on its append-only file."
{ kill -KILL "$server_pid" && wait "$server_pid"; } 2>/dev/null || true
start_server "$port" "$dir" >>"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
port=$server_port
tell "Grace still holds it, with what is left of her lease in ms. Heidi is still refused."
show grace '(integer) [1-9]*' LOCK.CHECK report grace
show heidi '(nil)' LOCK.ACQUIRE report heidi
show grace '(integer) 1' LOCK.RELEASE report grace
tell "The fence goes on growing:"
now=$(fence ledger heidi)
tell "heidi holds with fence $now"
[ "$now" -gt "$last" ] || { echo "demo: the fence did not grow" >&2; exit 1; }

title "Done in $SECONDS s. Next: make run"
