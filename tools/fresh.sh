#!/usr/bin/env bash
# Types the commands of README.md, as they stand there, on an empty Debian 12: a new clone, nothing built, nothing installed but
# what README asks for first. Says how long the first lock took. Needs root, and a Debian whose apt knows a mirror of Debian 12;
# says why when it cannot run. The empty Debian has mounts and processes of its own, which end with it, and is then removed.
# usage: tools/fresh.sh
#   FRESH=test    types `make test` too, which takes as long as it takes; FRESH=snippets types that part of it alone
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/server.sh

say() { echo "fresh: $*"; }

not_run() {
    say "not run, as $*"
    exit 0
}

fail() {
    say "$*" >&2
    exit 1
}

# What README asks for before its first command, beside cargo.
first=git,make,sudo,ca-certificates

# From where apt on this machine has its Debian 12.
mirror_of_bookworm() {
    apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "bookworm" { print $2; exit }'
}

# Prints the commands of the fenced blocks of README.md with the tag $1, one a line.
blocks() {
    awk -v tag="$1" '/^```/ { inside = !inside && $0 == "```" tag; next } inside' README.md
}

# Outside: makes the directory, and takes it away whatever happens inside.
outside() {
    local mirror empty
    [ "$(id -u)" -eq 0 ] || not_run "only root can make an empty Debian"
    command -v apt-get >/dev/null || not_run "this machine has no apt, which knows a mirror of Debian 12"
    command -v debootstrap >/dev/null || tools/setup.sh fresh
    mirror=$(mirror_of_bookworm)
    [ -n "$mirror" ] || not_run "apt on this machine knows no mirror of Debian 12 (bookworm)"
    unshare --mount --pid --fork true 2>/dev/null || not_run "this machine allows no mounts of its own (unshare --mount --pid)"
    mkdir -p target
    empty=$(mktemp -d "$PWD/target/fresh.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf --one-file-system '$empty'" EXIT
    chmod 755 "$empty"
    unshare --mount --pid --fork --kill-child --mount-proc "$BASH" tools/fresh.sh inside "$empty" "$mirror"
}

# Inside: what is mounted and started from here on ends with this process, the first of its own.
inside() {
    empty=$1
    local mirror=$2
    say "an empty Debian 12"
    debootstrap --variant=minbase --include="$first" bookworm "$empty" "$mirror" >"$empty.log" 2>&1 ||
        { tail -n 20 "$empty.log"; rm -f "$empty.log"; not_run "debootstrap failed"; }
    rm -f "$empty.log"
    furnish
    local line
    while read -r line <&3; do
        case $line in
        "make run"*) first_lock "$line" ;;
        "make test"*) [ -z "${FRESH:-}" ] || type_in "make $FRESH" ;;
        *) type_in "$line" ;;
        esac
    done 3< <(blocks sh)
    installed
    say "README holds on an empty Debian 12; the first lock took $first_lock_s s, all of it $SECONDS s"
}

# The machine's Rust and its way to the registries, a person who may use sudo, and a new clone.
furnish() {
    mount -t proc proc "$empty/proc"
    mkdir "$empty/opt/rust"
    mount --bind "$(rustc --print sysroot)" "$empty/opt/rust"
    mount -o remount,bind,ro "$empty/opt/rust"
    # Not by mounting, since the packages that get installed write there.
    cp -a /etc/apt/. "$empty/etc/apt"
    cp /etc/resolv.conf /etc/hosts "$empty/etc"
    cp "${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}" "$empty/opt/authorities.crt"
    chroot "$empty" useradd --create-home --shell /bin/bash you
    echo 'you ALL=(ALL) NOPASSWD: ALL' >"$empty/etc/sudoers.d/you"
    local settings=${CARGO_HOME:-$HOME/.cargo}/config.toml
    mkdir "$empty/home/you/.cargo"
    [ ! -f "$settings" ] || cp "$settings" "$empty/home/you/.cargo"
    git clone --quiet --no-hardlinks "$PWD" "$empty/home/you/redis-lock"
    chroot "$empty" chown -R you: /home/you
}

# Runs the rest of the line there, with this machine's way to the registries and nothing else of its environment.
there() {
    local user=$1 name ways=()
    shift
    for name in $(compgen -e | grep -E '^(CARGO_(HTTP|NET|SOURCE|REGISTR)|PIP_|GOPROXY|npm_config_)|_(proxy|PROXY)$'); do
        ways+=("$name=${!name}")
    done
    for name in SSL_CERT_FILE CURL_CA_BUNDLE CARGO_HTTP_CAINFO PIP_CERT NODE_EXTRA_CA_CERTS; do
        ways+=("$name=/opt/authorities.crt")
    done
    chroot --userspec="$user:$user" "$empty" env -i "${ways[@]}" HOME="/home/$user" USER="$user" LANG=C.UTF-8 \
        PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin bash -c "$*"
}

type_in() {
    local begun=$SECONDS log=$empty/typed.log
    echo "you\$ $1"
    there you "cd ~/redis-lock && $1" </dev/null >"$log" 2>&1 ||
        { tail -n 40 "$log"; fail "README's command failed: $1"; }
    tail -n 2 "$log" | sed 's/^/    /'
    say "took $((SECONDS - begun)) s"
}

# Types a command that stays in the foreground, then what it tells to paste into redis-cli, and ends it by Ctrl-C.
first_lock() {
    local begun=$SECONDS log=$empty/run.log job client line reply
    echo "you\$ $1"
    set -m # a job of its own, so that Ctrl-C means this one alone
    there you "cd ~/redis-lock && exec $1" </dev/null >"$log" 2>&1 &
    job=$!
    set +m
    until client=$(grep -o 'redis-cli -p [0-9]*' "$log"); do
        kill -0 "$job" 2>/dev/null || { tail -n 40 "$log"; fail "README's command failed: $1"; }
        sleep 0.1
    done
    first_lock_s=
    while read -r line <&4; do
        reply=$(there you "$client --no-raw $line")
        echo "you\$ $client $line"
        sed 's/^/    /' <<<"$reply"
        [ -n "$first_lock_s" ] || [[ $reply != "(integer) "[1-9]* ]] || first_lock_s=$((SECONDS - begun))
    done 4< <(grep '^LOCK\.' "$log")
    [ -n "$first_lock_s" ] || fail "there was no lock"
    kill -INT -- "-$job"
    wait "$job" || true
    ! grep -lsa '[r]edis_lock.so' /proc/[0-9]*/cmdline >/dev/null || fail "the server outlived Ctrl-C"
    say "the first lock took $first_lock_s s"
}

# What the Install block promises: Debian's own server, with README's line in its configuration, has the module.
installed() {
    local conf=/etc/redis/redis.conf port
    printf '#!/bin/sh\nexit 101\n' >"$empty/usr/sbin/policy-rc.d" # installs a server, but starts none
    chmod 755 "$empty/usr/sbin/policy-rc.d"
    there root "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server" </dev/null >"$empty/typed.log" 2>&1 ||
        { tail -n 20 "$empty/typed.log"; fail "Debian's redis-server could not be installed"; }
    blocks text | grep '^loadmodule ' >>"$empty$conf" || fail "README has no loadmodule line"
    port=$(free_port_from 6379)
    there redis "exec redis-server $conf --port $port --daemonize no" </dev/null >"$empty/typed.log" 2>&1 &
    local server=$!
    until there you "redis-cli -p $port PING" 2>/dev/null | grep -q PONG; do
        kill -0 "$server" 2>/dev/null || { cat "$empty"/var/log/redis/*.log; fail "the server did not start with README's line"; }
        sleep 0.1
    done
    there you "redis-cli -p $port LOCK.ACQUIRE door you" | grep -qE '^[1-9][0-9]*$' || fail "the installed module gave no lock"
    kill "$server"
    say "Debian's server has the module by README's line in $conf"
}

if [ "${1:-}" = inside ]; then
    inside "$2" "$3"
else
    outside
fi
