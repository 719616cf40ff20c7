"""Runs redis-py's own tests of its locks, sync and asyncio, on our locks. Started in the directory of its source package."""

import sys

import pytest
from support import Server

server = Server()
try:
    status = pytest.main(
        ["-q", "-p", "upstream_view", "-p", "no:cacheprovider", "-W", "ignore", "-o", "asyncio_mode=auto"]
        + ["-o", "asyncio_default_fixture_loop_scope=function", "-m", "not onlycluster"]
        + ["--redis-url", f"redis://127.0.0.1:{server.port}/0", "tests/test_lock.py", "tests/test_asyncio/test_lock.py"]
    )
finally:
    server.stop()
sys.exit(status)
