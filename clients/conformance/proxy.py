"""A hostile proxy between a client and its servers, for clients in any language. It needs Python alone.

usage: proxy.py [--sealed] SERVER_PORT...

All is on loopback. It prints the ports that it listens on, one for each server. Where a cluster or a sentinel says the port of
a server, the client hears that of the proxy before it, so it goes nowhere else. Then it obeys lines on its standard input and
answers each with "ok". What they say is true of all its ports:

    fault COMMAND KIND [N]   what befalls the next request with this name ("*": any), to whatever server; each is used once
    cut                      closes all connections
    refuse | accept          new connections are closed at once, or served again
    server PORT              closes all connections; new ones lead to the server at this port
    heal                     forgets all faults and moves; what hangs goes on, and what is half-open is closed
    struck                   is answered with the faults, cuts and refusals that have befallen nothing yet, instead of "ok"

KIND is one of

    drop        the server obeys, and the connection closes instead of the reply
    lose        the connection closes before the server has the request
    delay N     the reply comes N ms late
    hold N      the server has the request N ms late
    duplicate   the server gets the request twice, the client one reply
    half-open   nothing goes through this connection any more, in either direction, and nobody closes it
    hang        new connections are accepted and never answered, until "heal"; those that are open go on

With --sealed nobody can read what goes through, as with TLS. A fault befalls whatever the client sends next,
and what is sent twice breaks the connection.
"""

import asyncio
import functools
import re
import sys

# What answers no request: pushes, and in RESP2 what comes to those who have subscribed.
UNASKED = re.compile(rb">|\*[34]\r\n\$\d+\r\np?(message|(un)?subscribe)\r\n")


class Proxy:
    def __init__(self, sealed):
        self.sealed, self.moved = sealed, None
        self.ports = {}  # of each server: that of the proxy before it
        self.faults, self.open, self.refusing, self.hanging = [], set(), False, False
        self.unmet = []  # the lines that have befallen nothing yet
        self.healed = asyncio.Event()

    async def listen(self, port):
        """Stands before the server at this port."""
        listener = await asyncio.start_server(functools.partial(self.serve, port), "127.0.0.1", 0, backlog=512)
        self.ports[port] = listener.sockets[0].getsockname()[1]

    def translated(self, reply):
        """With the ports of the proxy in place of those of the servers. Both have five digits."""
        if self.sealed:
            return reply
        port = lambda found: b"%d" % self.ports.get(int(found[0]), int(found[0]))
        return re.sub(rb"\b\d{5}\b", port, reply)

    async def serve(self, port, reader, writer):
        self.open.add(writer)
        try:
            if self.refusing:
                self.met("refuse")
                return
            if self.hanging:
                self.met("fault * hang")
                await self.healed.wait()
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.moved or port)
            self.open.add(server_writer)
            try:
                await Connection(self, reader, writer, server_reader, server_writer).run()
            finally:
                self.open.discard(server_writer)
                server_writer.close()
        except (OSError, asyncio.CancelledError):  # the latter when the proxy ends
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    def take(self, name):
        for fault in self.faults:
            if self.sealed or fault[0] in ("*", name):
                self.faults.remove(fault)
                self.met(fault[3])
                return fault[1], fault[2]
        return None, 0

    def met(self, line):
        if line in self.unmet:
            self.unmet.remove(line)

    def obey(self, line):
        word, *rest = line.split()
        if word in ("fault", "refuse") or word == "cut" and not self.open:
            self.unmet.append(line.strip())
        if word == "fault" and rest[1] == "hang":
            self.hanging = True
        elif word == "fault":
            self.faults.append((rest[0].upper(), rest[1], int(rest[2]) if len(rest) > 2 else 0, line.strip()))
        elif word in ("cut", "server"):
            self.moved = int(rest[0]) if rest else self.moved
            for writer in list(self.open):
                writer.transport.abort()
        elif word in ("refuse", "accept"):
            self.refusing = word == "refuse"
        elif word == "heal":
            self.faults, self.refusing, self.hanging, self.moved, self.unmet = [], False, False, None, []
            self.healed.set()
            self.healed = asyncio.Event()
        elif word == "struck":
            return ", ".join(self.unmet) or "ok"
        else:
            return "unknown"
        return "ok"


class Connection:
    def __init__(self, proxy, reader, writer, server_reader, server_writer):
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.server_reader, self.server_writer = server_reader, server_writer
        self.replies = []  # for each request that the server has not answered: its name, and the fault of its reply
        self.half_open = False

    async def run(self):
        tasks = {asyncio.ensure_future(self.upward()), asyncio.ensure_future(self.downward())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def upward(self):
        while True:
            name, request = await self.request()
            kind, n = self.proxy.take(name)
            if kind == "lose":
                return
            if kind == "half-open":
                self.half_open = True
                await self.proxy.healed.wait()
                return
            if kind == "hold":
                await asyncio.sleep(n / 1000)
            if self.proxy.sealed:
                self.replies.clear()  # for all that one knows, what comes next answers what went last
            if not name.endswith("SUBSCRIBE"):
                self.replies.append((name, kind, n))
            if kind == "duplicate":
                self.replies.append((name, "swallow", 0))
                request += request
            self.server_writer.write(request)
            await self.server_writer.drain()

    async def downward(self):
        while True:
            reply = await self.value(self.server_reader)
            is_asked = self.replies and not UNASKED.match(reply)
            name, kind, n = self.replies.pop(0) if is_asked else ("", "", 0)
            if kind == "drop":
                return
            if kind == "delay":
                await asyncio.sleep(n / 1000)
            if self.half_open:
                await asyncio.Event().wait()
            if name in ("CLUSTER", "SENTINEL") or reply.startswith(b"-") or not is_asked:
                reply = self.proxy.translated(reply)
            if kind != "swallow":
                self.writer.write(reply)
                await self.writer.drain()

    async def request(self):
        data = await self.value(self.reader)
        parts = [] if self.proxy.sealed else data.split(b"\r\n")
        return parts[2].decode("utf-8", "replace").upper() if len(parts) > 2 else "", data

    async def value(self, reader):
        """One value of RESP2 or RESP3, as bytes; or whatever comes."""
        if self.proxy.sealed:
            data = await reader.read(65536)
            if not data:
                raise EOFError
            return data
        line = await reader.readuntil(b"\r\n")
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=!" and rest != b"-1":
            return line + await reader.readexactly(int(rest) + 2)
        if kind in b"*~>%|" and rest != b"-1":
            count = int(rest) * (2 if kind in b"%|" else 1)
            return line + b"".join([await self.value(reader) for _ in range(count)])
        return line


async def main():
    arguments = sys.argv[1:]
    proxy = Proxy("--sealed" in arguments)
    for port in filter(str.isdigit, arguments):
        await proxy.listen(int(port))
    print(*proxy.ports.values(), flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode():
        print(proxy.obey(line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
