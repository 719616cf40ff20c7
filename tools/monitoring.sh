#!/usr/bin/env bash
# Puts monitoring/ to the test on each of these servers, or draws the picture of docs/monitoring.md on one, with Prometheus and
# redis_exporter from Debian's packages. They are unpacked to target/monitoring and not installed, so no service starts.
# usage: MODULE_PATH=module.so tools/monitoring.sh test SERVER_BIN...
#        MODULE_PATH=module.so tools/monitoring.sh picture SERVER_BIN
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

export PROGRAMS=$programs PYTHONDONTWRITEBYTECODE=1

run_test() {
    "$programs/promtool" check config monitoring/prometheus.yml
    "$programs/promtool" test rules monitoring/rules/tests.yml
    for server in "$@"; do
        "$server" --version | head -n 1
        SERVER_BIN=$(realpath -s "$server") python3 monitoring/test.py
    done
}

run_picture() {
    local wanted=monitoring/requirements.txt python=$root/python
    if ! cmp -s "$wanted" "$python/made"; then
        rm -rf "$python"
        python3 -m venv "$python"
        "$python/bin/python" -m pip install --quiet -r "$wanted"
        cp "$wanted" "$python/made"
    fi
    SERVER_BIN=$(realpath -s "$1") "$python/bin/python" monitoring/story.py docs/monitoring.png
}

"run_$1" "${@:2}"
