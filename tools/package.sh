#!/usr/bin/env bash
# Makes packages in target/package, a .tar.gz, a .deb and an .rpm: the module with settings, documentation, monitoring/ and the commands as
# JSON, and the program redis-lock with man pages and completions; beside them the module's debug symbols, and checksums. What
# is built here is linked for an old glibc. With "test" it installs the .deb in an empty Debian 12, has Debian's server take a lock with it, installs
# it again and removes it; in an empty Debian 11, which has an older glibc, a server brought from elsewhere does the same; the
# .rpm is installed into an empty folder; and the Dockerfiles are checked.
# usage: MODULE_PATH=target/release/libredis_lock.so SERVER_BIN=redis-server NEWER_SERVER=redis-server tools/package.sh [test]
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/server.sh
source tools/toolchain.sh

say() { echo "package: $*"; }

version=$(sed -n '/^\[package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
machine=$(uname -m)
architecture=$(dpkg --print-architecture 2>/dev/null || echo "$machine")
out=$PWD/target/package
program=$(dirname "$(dirname "$MODULE_PATH")")/cli/release/redis-lock
name=redis-lock-$version-linux-$machine
package=redis-lock_${version}_$architecture.deb
rpm=redis-lock-$version-1.$machine.rpm
# The oldest system of which a library linked here is still understood: Debian 10, RHEL 8, Ubuntu 20.04.
oldest_glibc=2.28

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

# Links once more, by a linker that has every glibc: what is linked with the machine's own asks for one as new.
link_for_old_systems() {
    [ -x target/zig/bin/python ] || from_pypi "$PWD/target/zig" ziglang==0.15.2
    printf '#!/bin/sh\nexec "%s" -m ziglang cc -target "%s" "$@"\n' \
        "$PWD/target/zig/bin/python" "$machine-linux-gnu.$oldest_glibc" >target/zig/linker
    chmod +x target/zig/linker
    local link=(-C linker="$PWD/target/zig/linker" -C link-arg=-Wl,--build-id=sha1)
    cargo rustc --release --locked --package redis-lock --lib -- "${link[@]}"
    cargo rustc --release --locked --manifest-path cli/Cargo.toml --target-dir "$(dirname "$(dirname "$program")")" --bin redis-lock -- "${link[@]}"
    new_enough "$oldest_glibc" "$(needed_libc)" || { say "glibc $(needed_libc) is needed" >&2; exit 1; }
}

# The man pages and completions that the program writes itself.
pages_and_completions() {
    local shared=$1/usr/share
    mkdir -p "$shared"/{man/man1,bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
    "$program" man "$shared/man/man1"
    gzip -9n "$shared"/man/man1/*
    "$program" completions bash >"$shared/bash-completion/completions/redis-lock"
    "$program" completions zsh >"$shared/zsh/vendor-completions/_redis-lock"
    "$program" completions fish >"$shared/fish/vendor_completions.d/redis-lock.fish"
}

build() {
    link_for_old_systems
    local tree=$out/tree size
    rm -rf "$out"
    mkdir -p "$tree/usr/lib/redis/modules" "$tree/etc/redis" "$tree/usr/share/doc/redis-lock" "$tree/DEBIAN"
    objcopy --only-keep-debug "$MODULE_PATH" "$out/$name.debug"
    objcopy --strip-unneeded --add-gnu-debuglink="$out/$name.debug" "$MODULE_PATH" "$tree/usr/lib/redis/modules/libredis_lock.so"
    # The server loads only what may be executed.
    chmod 755 "$tree/usr/lib/redis/modules/libredis_lock.so"
    install -D -m 755 "$program" "$tree/usr/bin/redis-lock"
    pages_and_completions "$tree"
    install -m 644 packaging/redis-lock.conf "$tree/etc/redis/"
    install -m 644 README.md CHANGELOG.md redis.conf.example packaging/ramp.yml "$tree/usr/share/doc/redis-lock/"
    install -m 644 LICENSE "$tree/usr/share/doc/redis-lock/copyright"
    mkdir -p "$tree/usr/share/redis-lock"
    cp -r --no-preserve=mode monitoring "$tree/usr/share/redis-lock/"
    rm -r "$tree"/usr/share/redis-lock/monitoring/{*.py,requirements.txt,rules/tests.yml}
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
Depends: libc6 (>= $(needed_libc))
Recommends: redis-server | valkey-server
Section: database
Priority: optional
Description: distributed locks inside the Redis or Valkey server
 A module that adds LOCK.ACQUIRE, LOCK.RELEASE and their family. Owner, lease,
 queue and fence are checked in one step in the server. With redis-lock, a
 program that runs commands under a lock and shows who holds what.
CONTROL
    dpkg-deb --root-owner-group --build "$tree" "$out/$package" >/dev/null
    rm -rf "$tree/DEBIAN"
    mv "$tree/usr/share/zsh/vendor-completions" "$tree/usr/share/zsh/site-functions" # where others than Debian look
    rpmbuild -bb --quiet --define "version $version" --define "tree $tree" --define "_rpmdir $out" \
        --define "_topdir $out/rpm" --define '_rpmfilename %{name}-%{version}-%{release}.%{arch}.rpm' packaging/redis-lock.spec
    rm -rf "$tree" "$out/rpm"
    (cd "$out" && sha256sum "$name.tar.gz" "$name.debug" "$package" "$rpm" >SHA256SUMS)
    (cd "$out" && ls -l "$name.tar.gz" "$name.debug" "$package" "$rpm" | awk '{ print "    " $5, $9 }')
    say "made in target/package; glibc $(needed_libc) or newer is needed"
}

# The newest version of glibc that the library or the program has symbols of.
needed_libc() {
    { objdump -T "$MODULE_PATH" && objdump -T "$program"; } | grep -oE 'GLIBC_[0-9.]+' | sed 's/GLIBC_//' | sort -V | tail -n 1
}

there() { chroot "$empty" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive bash -c "$*"; }

# A lock from the server $1, with the settings $2, in the empty Debian.
takes_a_lock() {
    there "rm -rf /tmp/data; install -d /tmp/data; cd /tmp/data; $1 $2 --port 0 --unixsocket /tmp/s --daemonize no --dir /tmp/data --logfile '' & server=\$!
        for n in \$(seq 100); do redis-cli -s /tmp/s PING 2>/dev/null | grep -q PONG && break; sleep 0.1; done
        redis-cli -s /tmp/s LOCK.ACQUIRE door you; redis-cli -s /tmp/s LOCK.CHECK door you
        redis-lock run window --url unix:///tmp/s -- sh -c 'echo under fence \$LOCK_FENCE'; kill \$server; wait \$server" \
        >"$empty.log" 2>&1
    grep -qE '^[1-9][0-9]{15}$' "$empty.log" && grep -qE '^under fence [1-9][0-9]{15}$' "$empty.log" || { tail -n 20 "$empty.log"; say "$1 gave no lock, or not to the program" >&2; exit 1; }
}

# Makes the empty Debian $1 with the package $2 and with ours.
furnish() {
    debootstrap --variant=minbase --include="$2" "$1" "$empty" "$mirror" >"$empty.log" 2>&1 || return 1
    mount -t proc proc "$empty/proc"
    cp "$out/$package" "$empty/tmp"
    there "dpkg -i /tmp/$package" >/dev/null
}

on_bookworm() {
    furnish bookworm redis-server || { tail -n 20 "$empty.log"; exit 1; }
    there "cp /etc/redis/redis.conf /tmp/test.conf && echo 'include /etc/redis/redis-lock.conf' >>/tmp/test.conf"
    takes_a_lock redis-server /tmp/test.conf
    there "cd /usr/share/redis-lock/monitoring && ls redis-lock.lua prometheus.yml rules/redis-lock.yml rules/redis-lock-alerts.yml grafana/redis-lock.json" >/dev/null
    say "installed: Debian's server takes a lock with it"
    there "dpkg -i /tmp/$package" >/dev/null
    takes_a_lock redis-server /tmp/test.conf
    there "dpkg -r redis-lock" >/dev/null
    [ ! -e "$empty/usr/lib/redis/modules/libredis_lock.so" ] && [ ! -e "$empty/usr/bin/redis-lock" ] ||
        { say "the library or the program outlived its removal" >&2; exit 1; }
    there "dpkg -P redis-lock" >/dev/null
    [ ! -e "$empty/etc/redis/redis-lock.conf" ] || { say "the settings outlived the purge" >&2; exit 1; }
    say "installed over itself, removed and purged: nothing is left"
}

# Debian 11's own server is too old for the module, so one comes along.
on_bullseye() {
    furnish bullseye redis-tools || { say "not tested on Debian 11, of which this mirror has nothing"; return; }
    cp "$NEWER_SERVER" "$empty/tmp/newer-server"
    takes_a_lock /tmp/newer-server "--include /etc/redis/redis-lock.conf"
    say "on Debian 11, whose glibc is $(there 'getconf GNU_LIBC_VERSION'), $("$NEWER_SERVER" --version | cut -d' ' -f1-3) takes a lock with it"
}

# Runs a test in an empty Debian, with mounts and processes of its own.
in_empty() {
    local mirror empty
    mirror=$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "bookworm" { print $2; exit }' || true)
    if [ "$(id -u)" -ne 0 ] || [ -z "$mirror" ] || ! unshare --mount --pid --fork true 2>/dev/null; then
        say "not tested: an empty Debian needs root, mounts and an apt that knows a mirror of Debian 12"
        return
    fi
    command -v debootstrap >/dev/null || tools/setup.sh fresh
    empty=$(mktemp -d "$PWD/target/package.XXXXXX")
    chmod 755 "$empty"
    status=0
    unshare --mount --pid --fork --kill-child --mount-proc "$BASH" tools/package.sh "$1" "$empty" "$mirror" || status=$?
    rm -rf --one-file-system "$empty" "$empty.log"
    return "$status"
}

# Fedora and its kin are not to be had here; rpm itself is, and puts the files into a folder.
test_rpm() {
    local root
    [ "$(id -u)" -eq 0 ] || { say "the .rpm is not tested: rpm --root needs root"; return; }
    root=$(mktemp -d)
    rpm --force-debian --root "$root" --nodeps -i "$out/$rpm"
    cmp "$root/usr/lib/redis/modules/libredis_lock.so" <(tar -xzOf "$out/$name.tar.gz" "$name/usr/lib/redis/modules/libredis_lock.so")
    rpm --root "$root" --nodeps -V redis-lock
    rpm --force-debian --root "$root" -e redis-lock
    [ -z "$(find "$root" -type f -path '*redis*')" ] || { say "files outlived the .rpm's removal" >&2; exit 1; }
    rm -rf "$root"
    say "the .rpm is installed into a folder, verified and removed: nothing is left"
}

# What there is no Docker for here: the linter of the editors reads the Dockerfiles.
test_dockerfiles() {
    local node
    node=$(find_node 20 "$PWD/target/snippets/node")
    PATH=$node:$PATH npm install --silent --no-audit --no-fund --prefix target/docker dockerfile-utils@0.16.3 >/dev/null
    "$node/node" - "$PWD/target/docker/node_modules/dockerfile-utils" packaging/docker/*.Dockerfile <<'NODE'
const { validate } = require(process.argv[2]);
const { readFileSync } = require("fs");
const found = process.argv.slice(3).flatMap((file) =>
    validate(readFileSync(file, "utf8")).map((fault) => `${file}:${fault.range.start.line + 1}: ${fault.message}`));
found.forEach((fault) => console.error(fault));
process.exit(found.length ? 1 : 0);
NODE
    say "the Dockerfiles are well-formed; no Docker has built them"
}

case ${1:-} in
on_*) empty=$2 mirror=$3 && "$1" ;;
test)
    build
    in_empty on_bookworm
    in_empty on_bullseye
    test_rpm
    test_dockerfiles
    ;;
*) build ;;
esac
