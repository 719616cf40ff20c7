#!/usr/bin/env bash
# Looks at licences, versions and sources of everything that our packages are built of, by deny.toml. What is compiled for
# the comparison alone reaches nobody, so that it has crates in several versions does not matter.
# usage: tools/deny.sh [CHECK ...]    without a check: licenses bans sources. `advisories` needs github.com.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=target/deny

source tools/pinned.sh
bring deny "$dir"

checks=("$@")
[ $# -gt 0 ] || checks=(licenses bans sources)
for package in . cli clients/rust deployments compare; do
    wanted=()
    for check in "${checks[@]}"; do
        [ "$package $check" = "compare bans" ] || wanted+=("$check")
    done
    [ "${#wanted[@]}" -gt 0 ] || continue
    echo "deny: $package: ${wanted[*]}"
    "$dir/bin/cargo-deny" --log-level error --locked --manifest-path "$package/Cargo.toml" \
        --config deny.toml check "${wanted[@]}"
done
