#!/usr/bin/env bash
# Looks for what the build and the servers need and installs what is missing through apt, if it may; otherwise says in one
# line what to install. Installs nothing that is there already and starts no service.
# usage: tools/setup.sh [compare|matrix|snippets|bench|fresh|package|deployments]    with "compare" also what building the comparison needs, with
# "matrix" what fetching more servers needs, with "snippets" what brings clients too, with "bench" what counts instructions,
# with "fresh" what makes an empty Debian, with "package" what makes packages, with "deployments" what parts networks, where one may
set -euo pipefail
cd "$(dirname "$0")/.."
purpose=${1:-build}

fail() {
    echo "setup: $*" >&2
    exit 1
}

# Rust is the one thing that apt cannot be trusted with: Debian's own is too old.
check_rust() {
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
    found=$(cargo --version 2>/dev/null | awk '{ print $2 }' || true)
    [ "$(printf '%s\n%s\n' "$needed" "${found:-0}" | sort -V | head -n 1)" = "$needed" ] ||
        fail "cargo $needed or newer is needed, found ${found:-none}; install it with rustup"
}

has_libclang() {
    local dir
    for dir in "${LIBCLANG_PATH:-}" /usr/lib/llvm-*/lib /usr/lib64 /usr/lib/*-linux-gnu; do
        compgen -G "$dir/libclang*.so*" >/dev/null && return
    done
    return 1
}

# Prints the Debian packages that bring what is missing.
missing_packages() {
    command -v cc >/dev/null || echo gcc libc6-dev
    command -v clang >/dev/null || echo clang
    has_libclang || echo libclang-dev
    # The server program itself is part of redis-tools; the package redis-server adds a service that starts at once.
    find_server >/dev/null && command -v redis-cli >/dev/null || echo redis-tools
    # The client of etcd is made from the definitions of its protocol.
    [ "$purpose" != compare ] || command -v protoc >/dev/null || echo protobuf-compiler
    [[ " build compare fresh " == *" $purpose "* ]] || python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
    [[ " snippets package " != *" $purpose "* ]] || python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    [ "$purpose" != package ] || command -v objcopy >/dev/null || echo binutils
    [ "$purpose" != package ] || command -v rpmbuild >/dev/null || echo rpm
    [ "$purpose" != bench ] || command -v valgrind >/dev/null || echo valgrind
    [ "$purpose" != deployments ] || [ "$(id -u)" -ne 0 ] || command -v ip >/dev/null || echo iproute2
    [ "$purpose" != fresh ] || command -v debootstrap >/dev/null || echo debootstrap
}

# Debian's server program looks at the name it is called by: as redis-check-rdb it checks files, as redis-server it serves.
find_server() {
    command -v redis-server || command -v redis-check-rdb
}

install() {
    local run=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || fail "please install first: apt-get install $*"
        run=(sudo -n)
    fi
    command -v apt-get >/dev/null || fail "please install first (names as in Debian): $*"
    echo "setup: installing $*"
    "${run[@]}" apt-get update -qq </dev/null
    "${run[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

check_rust
read -r -a packages <<<"$(missing_packages | tr '\n' ' ')"
[ "${#packages[@]}" -eq 0 ] || install "${packages[@]}"

# All servers are then found in one place and by one name.
mkdir -p target/servers/debian
ln -sfn "$(find_server)" target/servers/debian/redis-server
