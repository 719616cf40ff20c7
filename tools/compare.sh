#!/usr/bin/env bash
# Brings what the comparison needs and the machine does not have: servers from Debian's packages, clients in Python, Java
# and Go from their registries, all but Debian's packages under DIR. What cannot be had is said, and then not measured.
# usage: source tools/compare.sh DIR    sets ETCD_BIN and COMPARE_{PYTHON,JAVA,GO}
source tools/toolchain.sh
compare_dir=$(realpath -m "$1")
clients=$PWD/compare/clients
mkdir -p "$compare_dir"

say() {
    echo "compare: $*" >&2
}

compare_missing() {
    command -v mariadbd >/dev/null || echo mariadb-server-core
    # What makes the directory of a new server asks it for its settings.
    command -v my_print_defaults >/dev/null || echo mariadb-client
    command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || echo postgresql
    [ -e /usr/share/java/zookeeper.jar ] || echo zookeeper
    python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    command -v javac >/dev/null || echo default-jdk-headless
    command -v mvn >/dev/null || echo maven
}

compare_debian() {
    local packages run=()
    read -r -a packages <<<"$(compare_missing | tr '\n' ' ')"
    [ "${#packages[@]}" -gt 0 ] || return 0
    say "installing ${packages[*]}"
    [ "$(id -u)" -eq 0 ] || run=(sudo -n)
    "${run[@]}" apt-get update -qq </dev/null &&
        "${run[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${packages[@]}" </dev/null >/dev/null ||
        say "could not install ${packages[*]}"
}

# The package would start a service; the program alone is wanted.
compare_etcd() {
    [ -x "$compare_dir/etcd/usr/bin/etcd" ] && return
    (cd "$compare_dir" && apt-get download -qq etcd-server 2>/dev/null && dpkg -x etcd-server_*.deb etcd) ||
        say "no etcd"
}

# True if FILE is there and none of the others is newer.
current() {
    local file=$1 other
    [ -e "$file" ] || return
    for other in "${@:2}"; do
        [ ! "$other" -nt "$file" ] || return
    done
}

compare_python() {
    current "$compare_dir/python/made" "$clients/requirements.txt" && return
    python3 -m venv "$compare_dir/python" &&
        "$compare_dir/python/bin/python" -m pip install --quiet -r "$clients/requirements.txt" &&
        touch "$compare_dir/python/made" || { say "no clients in Python" && rm -rf "$compare_dir/python"; }
}

compare_java() {
    current "$compare_dir/java/classpath" "$clients/java/pom.xml" "$clients"/java/src/main/java/*.java && return
    mkdir -p "$compare_dir/java"
    mvn -q -B -f "$clients/java/pom.xml" dependency:build-classpath \
        -Dmdep.outputFile="$compare_dir/java/jars" -DincludeScope=runtime &&
        javac -cp "$(<"$compare_dir/java/jars")" -d "$compare_dir/java" "$clients"/java/src/main/java/*.java &&
        echo "$compare_dir/java:$(<"$compare_dir/java/jars")" >"$compare_dir/java/classpath" ||
        { say "no clients in Java" && rm -rf "$compare_dir/java"; }
}

compare_go() {
    current "$compare_dir/go-locks" "$clients"/go/*.go "$clients/go/go.mod" && return
    (go=$(find_go "$(sed -n 's/^go //p' "$clients/go/go.mod")" "$compare_dir/go") &&
        cd "$clients/go" && "$go" build -o "$compare_dir/go-locks" .) ||
        { say "no client in Go" && rm -f "$compare_dir/go-locks"; }
}

compare_debian
compare_etcd
compare_python
compare_java
compare_go
export ETCD_BIN=$compare_dir/etcd/usr/bin/etcd
[ ! -x "$compare_dir/python/bin/python" ] || export COMPARE_PYTHON=$compare_dir/python/bin/python
[ ! -e "$compare_dir/java/classpath" ] || COMPARE_JAVA=$(<"$compare_dir/java/classpath")
[ -z "${COMPARE_JAVA:-}" ] || export COMPARE_JAVA
[ ! -x "$compare_dir/go-locks" ] || export COMPARE_GO=$compare_dir/go-locks
