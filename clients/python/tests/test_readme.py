"""Every Python block of the README runs, one after the other in one program, as a reader would paste them."""

import pathlib
import re

import redis
import redis.asyncio

README = pathlib.Path(__file__).resolve().parents[1] / "README.md"


def test_readme(server, monkeypatch, capsys):
    for cls in (redis.Redis, redis.asyncio.Redis):
        plain = cls.__init__
        monkeypatch.setattr(cls, "__init__", lambda self, *a, plain=plain, **k: plain(self, *a, **{"port": server.port, **k}))
    names = {}
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert len(blocks) == 4
    for block in blocks[:2] + [blocks[3], blocks[2]]:  # the one for tasks has another r
        exec(block, names)
    assert "mine, under fence 1" in capsys.readouterr().out
