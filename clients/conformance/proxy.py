"""A hostile proxy between a client and a server, for clients in any language. It needs Python alone.

usage: proxy.py SERVER_PORT [SERVER_HOST]

It prints the port that it listens on (loopback), then obeys lines on its standard input and answers each with "ok":

    fault COMMAND KIND [N]   what befalls the next request with this name ("*": any); each fault is used once
    cut                      closes all connections
    refuse | accept          new connections are closed at once, or served again
    server PORT              closes all connections; new ones lead to the server at this port
    heal                     forgets all faults and leads to the first server; what hangs goes on, and what is half-open is closed
    struck                   is answered with the faults, cuts and refusals that have befallen nothing yet, instead of "ok"

KIND is one of

    drop        the server obeys, and the connection closes instead of the reply
    lose        the connection closes before the server has the request
    delay N     the reply comes N ms late
    hold N      the server has the request N ms late
    duplicate   the server gets the request twice, the client one reply
    half-open   nothing goes through this connection any more, in either direction, and nobody closes it
    hang        new connections are accepted and never answered, until "heal"; those that are open go on
"""

import asyncio
import sys


class Proxy:
    def __init__(self, host, port):
        self.host, self.port, self.first = host, port, port
        self.faults, self.open, self.refusing, self.hanging = [], set(), False, False
        self.unmet = []  # the lines that have befallen nothing yet
        self.healed = asyncio.Event()

    async def serve(self, reader, writer):
        self.open.add(writer)
        try:
            if self.refusing:
                self.met("refuse")
                return
            if self.hanging:
                self.met("fault * hang")
                await self.healed.wait()
            server_reader, server_writer = await asyncio.open_connection(self.host, self.port)
            self.open.add(server_writer)
            try:
                await Connection(self, reader, writer, server_reader, server_writer).run()
            finally:
                self.open.discard(server_writer)
                server_writer.close()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    def take(self, name):
        for fault in self.faults:
            if fault[0] in ("*", name):
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
            self.port = int(rest[0]) if rest else self.port
            for writer in list(self.open):
                writer.transport.abort()
        elif word in ("refuse", "accept"):
            self.refusing = word == "refuse"
        elif word == "heal":
            self.faults, self.refusing, self.hanging, self.port, self.unmet = [], False, False, self.first, []
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
        self.replies = []  # for each request that the server has not answered: the fault of its reply

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
                self.replies.append((kind, n))
                await self.proxy.healed.wait()
                return
            if kind == "hold":
                await asyncio.sleep(n / 1000)
            self.replies.append((kind, n))
            if kind == "duplicate":
                self.replies.append(("swallow", 0))
                request += request
            self.server_writer.write(request)
            await self.server_writer.drain()

    async def downward(self):
        while True:
            reply = await self.value(self.server_reader)
            if reply.startswith((b">", b"*3\r\n$7\r\nmessage\r\n")):  # a push and a message answer no request
                self.writer.write(reply)
                continue
            kind, n = self.replies.pop(0)
            if kind == "drop":
                return
            if kind == "delay":
                await asyncio.sleep(n / 1000)
            if ("half-open", 0) in self.replies:
                await asyncio.Event().wait()
            if kind != "swallow":
                self.writer.write(reply)
                await self.writer.drain()

    async def request(self):
        data = await self.value(self.reader)
        parts = data.split(b"\r\n")
        return parts[2].decode("utf-8", "replace").upper() if len(parts) > 2 else "", data

    async def value(self, reader):
        """One value of RESP2 or RESP3, as bytes."""
        line = await reader.readuntil(b"\r\n")
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=!" and rest != b"-1":
            return line + await reader.readexactly(int(rest) + 2)
        if kind in b"*~>%|" and rest != b"-1":
            count = int(rest) * (2 if kind in b"%|" else 1)
            return line + b"".join([await self.value(reader) for _ in range(count)])
        return line


async def main():
    proxy = Proxy(sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1", int(sys.argv[1]))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode():
        print(proxy.obey(line), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
