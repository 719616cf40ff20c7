#!/usr/bin/env bash
# A server with the module in the foreground, on loopback, until Ctrl-C. Its data stay in target/run, so that locks are
# still held after a restart.
# usage: SERVER_BIN=redis-server MODULE_PATH=module.so tools/run.sh PORT
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/server.sh

port=$(free_port_from "$1")
dir=$PWD/target/run/$port
mkdir -p "$dir"

trap 'kill "$server_pid" 2>/dev/null || true; wait "$server_pid" || true' EXIT
trap 'exit 0' INT TERM
start_server "$port" "$dir" || exit 1
port=$server_port
cat <<TEXT

Ready on 127.0.0.1:$port; Ctrl-C ends it. In another terminal, type redis-cli -p $port and paste these lines:

LOCK.ACQUIRE door alice PX 60000
LOCK.ACQUIRE door bob WITHINFO
LOCK.RELEASE door alice

TEXT
wait "$server_pid"
