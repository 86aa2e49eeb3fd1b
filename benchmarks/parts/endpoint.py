"""Serve predictions at the least cost: `python -m benchmarks.parts.endpoint`.

The question sets the answer: `n=200 rate=20` is 200 tokens, 20 a second; rate 0 is as fast as the
client reads. A token is `TIME NUMBER word`: time.time_ns() when it was written, and its number
from 0. `size=1000` makes each token 1000 bytes longer. With `bare=1` a token is its number only, in
8 bytes: a million of them fit into one answer. To test the checks, `skip=7` leaves out token 7, and
`swap=7` sends it after token 8.
"""

import asyncio
import gc
import heapq
import re
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import cast

import uvloop
from typing_extensions import override

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
    b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_FLOW_FACTS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"
    b'{"isStreaming":true}'
)
_LAST_CHUNK = b"0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_QUESTION = re.compile(rb'"question": *"([^"]*)"')
_WISH = re.compile(rb"(n|rate|skip|swap|bare|size)=(\d+)")
_TICK_S = 0.001
_BURST = 64
_now = time.time_ns


def _chunk(data: bytes) -> bytes:
    """Return one event as the server writes it: a frame in a chunk of its own."""
    frame = b"message:\ndata:%b\n\n" % data
    return b"%x\r\n%b\r\n" % (len(frame), frame)


_START = _chunk(b'{"event":"start","data":""}')
_END = _chunk(b'{"event":"end","data":"[DONE]"}') + _LAST_CHUNK
_PLAIN = b'{"event":"token","data":"%019d %07d word"}'


def _token(more: int) -> bytes:
    # All times and numbers have one length. Thus the chunk size is constant.
    whole = _chunk(_PLAIN % (0, 0) if not more else (_PLAIN % (0, 0))[:-2] + b"x" * more + b'"}')
    return whole.replace(b"%019d" % 0, b"%d", 1).replace(b"%07d" % 0, b"%07d", 1)


_TOKEN = _token(0)
_BARE_TOKEN = _chunk(b'{"event":"token","data":"%07d "}' % 0).replace(b"%07d" % 0, b"%07d", 1)


class Pace:
    """Sends the tokens of all streams when they are due."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: list[tuple[float, int, EndpointStream]] = []
        self._entered = 0
        self._ticks = False

    def add(self, stream: "EndpointStream") -> None:
        # Streams that begin together send at different times.
        self._entered += 1
        first = (self._entered * 0.618) % 1 * stream.period
        heapq.heappush(self._due, (self._loop.time() + first, self._entered, stream))
        if not self._ticks:
            self._ticks = True
            self._tick()

    def _tick(self) -> None:
        due, now = self._due, self._loop.time()
        while due and due[0][0] <= now:
            at, number, stream = due[0]
            if stream.send_next():
                heapq.heapreplace(due, (at + stream.period, number, stream))
            else:
                heapq.heappop(due)
        self._ticks = bool(due)
        if due:
            self._loop.call_at(max(due[0][0], now + _TICK_S), self._tick)


class EndpointStream(asyncio.Protocol):
    """One connection, which answers one request after the other.

    Attributes:
        period: Seconds between two tokens.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pace: Pace) -> None:
        self.period = 0.0
        self._loop = loop
        self._pace = pace
        self._came = b""
        self._numbers: Iterator[int] = iter(())
        self._pours = self._is_bare = False
        self._ending = b""
        self._token = _TOKEN
        self._paused = False
        self._transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._numbers = iter(())

    @override
    def data_received(self, data: bytes) -> None:
        self._came += data
        head, separator, body = self._came.partition(b"\r\n\r\n")
        if not separator:
            return
        length = _LENGTH.search(head)
        if len(body) < (int(length[1]) if length else 0):
            return
        self._came = b""
        if head.startswith(b"POST"):
            self._answer(body)
        else:
            self._transport.write(_FLOW_FACTS)

    def _answer(self, body: bytes) -> None:
        asked = _QUESTION.search(body)
        question = asked[1] if asked else b""
        wishes = {name: int(number) for name, number in _WISH.findall(question)}
        self._numbers = iter(_numbers(wishes))
        self._ending = _chunk(b'{"event":"metadata","data":{"question":"%b"}}' % question) + _END
        more = wishes.get(b"size", 0)
        self._token = _token(more) if more else _TOKEN
        self._transport.write(_HEAD + _START)
        if rate := wishes.get(b"rate", 0):
            self.period = 1 / rate
            self._pace.add(self)
        else:
            self._pours, self._is_bare = True, b"bare" in wishes
            self._pour()

    def send_next(self) -> bool:
        """Write the next token, or the ending, and return whether more follows."""
        for number in self._numbers:
            self._transport.write(self._token % (_now(), number))
            return True
        if not self._transport.is_closing():
            self._transport.write(self._ending)
        return False

    def _pour(self) -> None:
        if self._paused or not self._pours or self._transport.is_closing():
            return
        coming = islice(self._numbers, _BURST)
        if self._is_bare:
            burst = [_BARE_TOKEN % number for number in coming]
        else:
            burst = [self._token % (_now(), number) for number in coming]
        if burst:
            self._transport.write(b"".join(burst))
            self._loop.call_soon(self._pour)
        else:
            self._pours = False
            self._transport.write(self._ending)

    @override
    def pause_writing(self) -> None:
        self._paused = True

    @override
    def resume_writing(self) -> None:
        self._paused = False
        self._pour()


def _numbers(wishes: dict[bytes, int]) -> Sequence[int]:
    tokens = range(wishes.get(b"n", 0))
    if not wishes.keys() & {b"skip", b"swap"}:
        return tokens
    numbers = list(tokens)
    if swapped := wishes.get(b"swap"):
        numbers[swapped], numbers[swapped + 1] = numbers[swapped + 1], numbers[swapped]
    if skipped := wishes.get(b"skip"):
        numbers.remove(skipped)
    return numbers


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    pace = Pace(loop)
    server = await loop.create_server(
        lambda: EndpointStream(loop, pace), "127.0.0.1", 0, backlog=4096
    )
    # Pauses of garbage collection here would count as latency of the worker.
    gc.freeze()
    gc.disable()
    print(f"ready http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
