# shellcheck shell=bash
# For the scripts that start a server: functions only, nothing runs when this is read.

# The first port from $1 upwards on which nobody listens.
free_port_from() {
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
    done
    echo "$port"
}

# Starts a server with the module on port $1 and directory $2, on loopback and with every write on disk before its reply,
# as a child whose process id is then in server_pid. Further arguments are options of the server. Its output goes where the
# caller's goes.
start_server() {
    "$SERVER_BIN" --port "$1" --dir "$2" --bind 127.0.0.1 --daemonize no \
        --save "" --appendonly yes --appendfsync always --loadmodule "$MODULE_PATH" "${@:3}" &
    server_pid=$!
    until redis-cli -p "$1" PING 2>/dev/null | grep -q PONG; do
        kill -0 "$server_pid" 2>/dev/null || return 1
        sleep 0.05
    done
}
