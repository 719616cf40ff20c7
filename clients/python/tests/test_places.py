"""The same locks in a cluster, for a user with few rights, and over TLS."""

import asyncio
import pathlib
import subprocess

import pytest
import redis
import redis.asyncio
import redis.cluster
from support import Server, free_port, wait_until

import fencelock
import fencelock.asyncio

RIGHTS = "on >secret resetkeys ~lock:* resetchannels -@all +ping +lock.acquire +lock.release +lock.renew +lock.check"


@pytest.fixture(scope="module")
def cluster():
    server = Server("--cluster-enabled", "yes")
    server.cmd("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    wait_until("the cluster is there", lambda: "ok" in str(server.cmd("CLUSTER", "INFO")).split("cluster_state")[1][:5], 10)
    yield server
    server.stop()


def test_cluster(cluster):
    client = redis.cluster.RedisCluster(host="127.0.0.1", port=cluster.port)
    with fencelock.Lock(client, "k", timeout=4.5, renew=True) as lock:
        assert not fencelock.Lock(client, "k").acquire(blocking_timeout=1.5)
        assert lock.owned() and not lock.lost.is_set()
    with fencelock.MultiLock(client, ["{k}:a", "{k}:b"]), fencelock.Semaphore(client, "{k}:c", 2):
        assert not cluster.idle("{k}:a")
    assert cluster.idle("k", "{k}:a", "{k}:b", "{k}:c")
    client.close()


def test_cluster_with_tasks(cluster):
    async def main():
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.port)
        async with fencelock.asyncio.Lock(client, "k", timeout=4.5, renew=True) as lock:
            assert not await fencelock.asyncio.Lock(client, "k").acquire(blocking_timeout=1.5)
            assert await lock.owned() and not lock.lost.is_set()
        await client.aclose()

    asyncio.run(main())
    assert cluster.idle("k")


def use(server, **options):
    client = redis.Redis(username="app", password="secret", **options)
    server.cmd("LOCK.ACQUIRE", "lock:k", "other", "PX", 300)
    with fencelock.Lock(client, "lock:k", timeout=4.5, renew=True) as lock:
        wait_until("it was renewed", lambda: server.calls("lock.renew") >= 2)
        assert lock.owned()
    assert server.idle("lock:k")
    with pytest.raises(redis.exceptions.NoPermissionError):
        fencelock.Lock(client, "elsewhere").acquire()
    client.close()


def test_a_user_with_few_rights(server):
    server.cmd("ACL", "SETUSER", "app", *RIGHTS.split())
    server.client.config_resetstat()
    use(server, port=server.port)
    server.cmd("ACL", "DELUSER", "app")


def test_tls(tmp_path):
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, capture_output=True, cwd=tmp_path)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", "key", "-out", "crt")
    files = {name: str(pathlib.Path(tmp_path) / name) for name in ("key", "crt")}
    port = free_port()
    options = ["--tls-port", port, "--tls-cert-file", files["crt"], "--tls-key-file", files["key"]]
    try:
        server = Server(*map(str, options), "--tls-ca-cert-file", files["crt"], "--tls-auth-clients", "no")
    except AssertionError:
        pytest.skip("this server was built without TLS")
    server.cmd("ACL", "SETUSER", "app", *RIGHTS.split())
    try:
        use(server, host="localhost", port=port, ssl=True, ssl_ca_certs=files["crt"], ssl_check_hostname=False)
    finally:
        server.stop()
