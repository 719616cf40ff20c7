import threading

import pytest
from support import Proxy, Server, wait_until

from fencelock import _threads, asyncio

_threads.LINGER = asyncio.LINGER = 0.2  # or each test would end with a second of waiting


@pytest.fixture(scope="session")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def running_proxy(server):
    proxy = Proxy(server.port)
    yield proxy
    proxy.stop()


@pytest.fixture
def proxy(running_proxy):
    yield running_proxy
    try:
        running_proxy.tell("struck")  # or the test has shown nothing
    finally:
        running_proxy.tell("heal")


@pytest.fixture(autouse=True)
def clean(server):
    """Each test begins on an empty server, and leaves no thread behind."""
    server.reset()
    yield
    wait_until("no thread of ours is left", lambda: not [t for t in threading.enumerate() if "fencelock" in t.name], 30)
