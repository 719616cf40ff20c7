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

# Starts a server with the module on port $1, or the next one if somebody else takes it meanwhile, and in directory $2, on
# loopback and with every write on disk before its reply: a child whose port and process id are then in server_port and
# server_pid. Further arguments are options of the server. Its output goes where the caller's goes.
start_server() {
    server_port=$1
    while true; do
        "$SERVER_BIN" --port "$server_port" --dir "$2" --bind 127.0.0.1 --daemonize no \
            --save "" --appendonly yes --appendfsync always --loadmodule "$MODULE_PATH" "${@:3}" &
        server_pid=$!
        until serves "$server_port" "$server_pid"; do
            if ! kill -0 "$server_pid" 2>/dev/null; then
                local next
                next=$(free_port_from "$server_port")
                [ "$next" != "$server_port" ] || return 1 # the port is free, so that was not the reason
                server_port=$next
                continue 2
            fi
            sleep 0.05
        done
        return 0
    done
}

# True if the process $2 serves on port $1, and has loaded its data.
serves() {
    redis-cli -p "$1" INFO 2>/dev/null | awk -F '[:\r]' -v pid="$2" '
        $1 == "process_id" && $2 == pid || $1 == "loading" && $2 == 0 { met++ } END { exit met != 2 }'
}
