#!/usr/bin/env bash
# Puts monitoring/ to the test on each of these servers, with Prometheus and redis_exporter from Debian's packages. They are
# unpacked to target/monitoring and not installed, so no service starts.
# usage: MODULE_PATH=module.so tools/monitoring.sh SERVER_BIN...
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/target/monitoring
programs=$root/usr/bin

if [ ! -x "$programs/promtool" ] || [ ! -x "$programs/prometheus-redis-exporter" ]; then
    command -v apt-get >/dev/null || { echo "monitoring: skipped, as there is no apt-get to fetch Prometheus with"; exit; }
    rm -rf "$root"
    mkdir -p "$root"
    (cd "$root" && { apt-get download prometheus prometheus-redis-exporter >/dev/null 2>&1 ||
        { [ "$(id -u)" -eq 0 ] && apt-get update -qq && apt-get download prometheus prometheus-redis-exporter >/dev/null 2>&1; }; }) ||
        { echo "monitoring: skipped, as apt-get could not fetch the packages prometheus and prometheus-redis-exporter"; exit; }
    for package in "$root"/*.deb; do dpkg -x "$package" "$root"; done
    rm -f "$root"/*.deb
fi

"$programs/promtool" check config monitoring/prometheus.yml
"$programs/promtool" test rules monitoring/rules/tests.yml
for server in "$@"; do
    "$server" --version | head -n 1
    [[ $server == /* ]] || server=$PWD/$server
    SERVER_BIN=$server PROGRAMS=$programs python3 monitoring/test.py
done
