"""Servers that answer in ways the scripted endpoint does not: over TLS, or with any bytes."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psutil

JSON_ANSWER = (
    b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n{"text":"ok"}'
)


@dataclass
class RawServer:
    """What was asked of a server that gives each request the same bytes.

    Attributes:
        port: Where it listens on loopback.
        requests: The heads of the requests.
        connections: How many were made.
        writers: Of those that are open.
        was_left: Set once one has ended.
    """

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    was_left: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def unsent(self) -> int:
        """Bytes that nobody has taken."""
        return sum(writer.transport.get_write_buffer_size() for writer in self.writers)


@asynccontextmanager
async def raw_server(
    answer: bytes, tls: ssl.SSLContext | None = None, *, close: bool = False, port: int = 0
) -> AsyncIterator[RawServer]:
    """Serve the same bytes to everyone.

    Args:
        answer: A whole HTTP response, or whatever a test wants to be sent.
        tls: Speak TLS with this.
        close: Close each connection after the answer.
        port: Where to listen; 0 takes a free one.
    """
    told = RawServer()
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        told.connections += 1
        told.writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                told.requests.append(head)
                writer.write(answer)
                await writer.drain()
                if close:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            told.writers.discard(writer)
            told.was_left.set()
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port, ssl=tls)
    told.port = server.sockets[0].getsockname()[1]
    try:
        yield told
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()


def open_connections(port: int) -> int:
    """Count this process's connections to a port."""
    return sum(
        bool(it.raddr) and it.raddr.port == port and it.status == psutil.CONN_ESTABLISHED
        for it in psutil.Process().net_connections("tcp")
    )
