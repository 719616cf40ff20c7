#!/usr/bin/env bash
# Makes packages of the module in target/package: the library without debug symbols, these in a file beside it, a .tar.gz and
# a .deb with both settings and documentation, the commands as JSON, and checksums. With "test" it installs the .deb in an
# empty Debian 12, has Debian's server take a lock with it, installs it again and removes it.
# usage: MODULE_PATH=module.so SERVER_BIN=redis-server tools/package.sh [test]
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/server.sh

say() { echo "package: $*"; }

version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
machine=$(uname -m)
architecture=$(dpkg --print-architecture 2>/dev/null || echo "$machine")
out=$PWD/target/package
name=redis-lock-$version-linux-$machine
package=redis-lock_${version}_$architecture.deb

# A server tells its commands as JSON; only a newer redis-cli can ask for them so.
commands_json() {
    local port dir
    dir=$(mktemp -d)
    port=$(free_port_from 26379)
    start_server "$port" "$dir" >/dev/null
    python3 - "$server_port" <<'PYTHON'
import json, socket, sys

connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
lines = connection.makefile("rb")

def read():
    line = lines.readline()[:-2]
    kind, rest = line[:1], line[1:]
    if kind == b"$":
        return None if rest == b"-1" else lines.read(int(rest) + 2)[:-2].decode()
    if kind in b"*%":
        count = int(rest) * (2 if kind == b"%" else 1)
        items = [read() for _ in range(count)]
        return dict(zip(items[::2], items[1::2])) if kind == b"%" else items
    if kind == b"~":
        return [read() for _ in range(int(rest))]
    return int(rest) if kind == b":" else rest.decode()

def ask(*words):
    request = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in map(str.encode, words))
    connection.sendall(b"*%d\r\n" % len(words) + request)
    return read()

ask("HELLO", "3")
names = [name for name in ask("COMMAND", "LIST", "FILTERBY", "MODULE", "lock") if "._" not in name]
print(json.dumps({name.upper(): docs for name, docs in sorted(ask("COMMAND", "DOCS", *names).items())}, indent=2))
PYTHON
    kill "$server_pid"
    wait "$server_pid" || true
    rm -rf "$dir"
}

build() {
    local tree=$out/tree size
    rm -rf "$out"
    mkdir -p "$tree/usr/lib/redis/modules" "$tree/etc/redis" "$tree/usr/share/doc/redis-lock" "$tree/DEBIAN"
    objcopy --only-keep-debug "$MODULE_PATH" "$out/$name.debug"
    objcopy --strip-unneeded --add-gnu-debuglink="$out/$name.debug" "$MODULE_PATH" "$tree/usr/lib/redis/modules/libredis_lock.so"
    # The server loads only what may be executed.
    chmod 755 "$tree/usr/lib/redis/modules/libredis_lock.so"
    install -m 644 packaging/redis-lock.conf "$tree/etc/redis/"
    install -m 644 README.md CHANGELOG.md redis.conf.example packaging/ramp.yml "$tree/usr/share/doc/redis-lock/"
    install -m 644 LICENSE "$tree/usr/share/doc/redis-lock/copyright"
    commands_json >"$tree/usr/share/doc/redis-lock/commands.json"

    tar -C "$tree" --exclude=./DEBIAN --transform "s,^\.,$name," --owner=0 --group=0 -czf "$out/$name.tar.gz" .
    size=$(du -sk --exclude=DEBIAN "$tree" | cut -f1)
    echo /etc/redis/redis-lock.conf >"$tree/DEBIAN/conffiles"
    cat >"$tree/DEBIAN/control" <<CONTROL
Package: redis-lock
Version: $version
Architecture: $architecture
Maintainer: The redis-lock authors <redis-lock@localhost>
Installed-Size: $size
Depends: libc6 (>= $(needed_libc)), libgcc-s1
Recommends: redis-server | valkey-server
Section: database
Priority: optional
Description: distributed locks inside the Redis or Valkey server
 A module that adds LOCK.ACQUIRE, LOCK.RELEASE and their family. Owner, lease,
 queue and fence are checked in one step in the server.
CONTROL
    dpkg-deb --root-owner-group --build "$tree" "$out/$package" >/dev/null
    rm -rf "$tree"
    (cd "$out" && sha256sum "$name.tar.gz" "$name.debug" "$package" >SHA256SUMS)
    (cd "$out" && ls -l "$name.tar.gz" "$name.debug" "$package" | awk '{ print "    " $5, $9 }')
    say "made in target/package; the library needs glibc $(needed_libc) or newer"
}

# The newest version of glibc that the library has symbols of.
needed_libc() {
    objdump -T "$MODULE_PATH" | grep -oE 'GLIBC_[0-9.]+' | sed 's/GLIBC_//' | sort -V | tail -n 1
}

there() { chroot "$empty" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive bash -c "$*"; }

# A lock from Debian's own server, with the line that the package's file tells.
takes_a_lock() {
    there "install -d /tmp/data && cp /etc/redis/redis.conf /tmp/test.conf && echo 'include /etc/redis/redis-lock.conf' >>/tmp/test.conf"
    there "redis-server /tmp/test.conf --port 0 --unixsocket /tmp/s --daemonize no --dir /tmp/data --logfile '' & server=\$!
        for n in \$(seq 100); do redis-cli -s /tmp/s PING 2>/dev/null | grep -q PONG && break; sleep 0.1; done
        redis-cli -s /tmp/s LOCK.ACQUIRE door you; redis-cli -s /tmp/s LOCK.CHECK door you; kill \$server; wait \$server" \
        >"$empty.log" 2>&1
    grep -qE '^[1-9][0-9]{15}$' "$empty.log" || { tail -n 20 "$empty.log"; say "Debian's server gave no lock" >&2; exit 1; }
}

inside() {
    empty=$1
    debootstrap --variant=minbase --include=redis-server bookworm "$empty" "$2" >"$empty.log" 2>&1 ||
        { tail -n 20 "$empty.log"; exit 1; }
    mount -t proc proc "$empty/proc"
    cp "$out/$package" "$empty/tmp"
    there "dpkg -i /tmp/$package" >/dev/null
    takes_a_lock
    say "installed: Debian's server takes a lock with it"
    there "dpkg -i /tmp/$package" >/dev/null
    takes_a_lock
    there "dpkg -r redis-lock" >/dev/null
    [ ! -e "$empty/usr/lib/redis/modules/libredis_lock.so" ] || { say "the library outlived its removal" >&2; exit 1; }
    there "dpkg -P redis-lock" >/dev/null
    [ ! -e "$empty/etc/redis/redis-lock.conf" ] || { say "the settings outlived the purge" >&2; exit 1; }
    say "installed over itself, removed and purged: nothing is left"
}

test_package() {
    local mirror empty
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "bookworm" { print $2; exit }' || true)
    if [ "$(id -u)" -ne 0 ] || [ -z "$mirror" ] || ! unshare --mount --pid --fork true 2>/dev/null; then
        say "not tested, as an empty Debian 12 needs root, mounts and an apt that knows a mirror of it"
        return
    fi
    command -v debootstrap >/dev/null || tools/setup.sh fresh
    empty=$(mktemp -d "$PWD/target/package.XXXXXX")
    # shellcheck disable=SC2064
    trap "rm -rf --one-file-system '$empty' '$empty.log'" EXIT
    chmod 755 "$empty"
    unshare --mount --pid --fork --kill-child --mount-proc "$BASH" tools/package.sh inside "$empty" "$mirror"
}

case ${1:-} in
inside) inside "$2" "$3" ;;
test)
    build
    test_package
    ;;
*) build ;;
esac
