"""Hostile clients of an HTTP port: `python -m tests.support.floods NAME PORT MEGABYTES SECONDS`.

A process of its own, so that who measures the server is not slowed down. It prints what it did.
"""

import asyncio
import json
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

_BLOCK: Final = 64 * 1024
_METRICS: Final = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
_CONNECTS_AGAIN_AFTER_S: Final = 0.01
_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Flood:
    """What each of some connections does, again as soon as it is closed.

    Attributes:
        first: Sent once.
        again: Sent without end; nothing: the connection is held, and not opened again.
        pause_s: Between two of these.
        reads: Whether answers are taken.
        half_closes: Whether it says after `first` that nothing more follows.
    """

    connections: int
    first: bytes = b""
    again: bytes = b""
    pause_s: float = 0.0
    reads: bool = True
    half_closes: bool = False


_GET: Final = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
FLOODS: Final[Mapping[str, Flood]] = {
    "header": Flood(2, _GET + b"X: ", b"x" * _BLOCK),
    "request_line": Flood(2, b"GET /", b"x" * _BLOCK),
    "header_lines": Flood(2, _GET, b"X: 1\r\n" * (_BLOCK // 6)),
    "body": Flood(2, _GET + b"Content-Length: 100000000000\r\n\r\n", b"x" * _BLOCK),
    "chunks": Flood(
        2,
        _GET + b"Transfer-Encoding: chunked\r\n\r\n",
        b"%x\r\n%b\r\n" % (_BLOCK, b"x" * _BLOCK),
    ),
    "tiny_chunks": Flood(
        2, _GET + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * (_BLOCK // 6)
    ),
    "large_heads": Flood(20, b"", _GET + b"X: 1\r\n" * 1000 + b"\r\n"),
    "silent": Flood(2000),
    "slow_writers": Flood(400, _GET + b"X: ", b"x", pause_s=1.0),
    "slow_readers": Flood(400, b"", _METRICS * 100, reads=False),
    "pipelined": Flood(20, b"", _METRICS * 1000),
    "half_closed": Flood(20, _GET, b"x", half_closes=True),
    "tls": Flood(20, bytes.fromhex("16030100f8010000f40303"), b"\x8f" * 1024),
    "binary": Flood(20, b"", bytes(range(256)) * 64),
}


@dataclass(slots=True)
class Flooding:
    """One flood on its way."""

    flood: Flood
    port: int
    most_bytes: int
    until: float
    sent_bytes: int = 0
    opened: int = 0
    _opening: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.until and self.sent_bytes < self.most_bytes

    async def run(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout_at(self.until - time.monotonic() + _now()):
                await asyncio.gather(*(self._one() for _ in range(self.flood.connections)))

    async def _one(self) -> None:
        while self.goes_on:
            with socket.socket() as sock, suppress(OSError):
                sock.setblocking(False)  # noqa: FBT003 - the socket module's own
                async with self._opening:
                    await _loop().sock_connect(sock, ("127.0.0.1", self.port))
                self.opened += 1
                await self._fill(sock)
            await asyncio.sleep(_CONNECTS_AGAIN_AFTER_S)

    async def _fill(self, sock: socket.socket) -> None:
        reading = asyncio.create_task(_read(sock)) if self.flood.reads else None
        try:
            await self._send(sock, self.flood.first)
            if self.flood.half_closes:
                sock.shutdown(socket.SHUT_WR)
            if not self.flood.again:
                await asyncio.sleep(self.until - time.monotonic())
            while self.goes_on:
                await self._send(sock, self.flood.again)
                await asyncio.sleep(self.flood.pause_s)
        finally:
            if reading is not None:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)

    async def _send(self, sock: socket.socket, data: bytes) -> None:
        await _loop().sock_sendall(sock, data)
        self.sent_bytes += len(data)


async def _read(sock: socket.socket) -> None:
    while await _loop().sock_recv(sock, _BLOCK):
        pass


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


def _now() -> float:
    return _loop().time()


def main() -> None:
    name, port, megabytes, seconds = sys.argv[1:]
    until = time.monotonic() + float(seconds)
    flooding = Flooding(FLOODS[name], int(port), int(float(megabytes) * 1e6), until)
    asyncio.run(flooding.run())
    told = {"sent_mb": round(flooding.sent_bytes / 1e6, 1), "connections": flooding.opened}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
