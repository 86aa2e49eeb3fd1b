"""The lower bound of the cost: a worker that does nothing but read, rewrite and publish bytes.

It has no timeout, limit, retry, reconnection or backpressure, and reads only the answers of
benchmarks/parts/endpoint.py. A reliable worker cannot be faster.

Usage: python -m benchmarks.peers.raw AMQP_URL BASE_URL PREFIX CONCURRENCY
"""

import asyncio
import json
import sys
from collections import deque
from struct import Struct
from typing import cast
from urllib.parse import urlsplit

import uvloop
from pamqp import commands
from pamqp.frame import marshal
from typing_extensions import override

from benchmarks.parts.amqp import CHANNEL, AmqpProtocol

_header = Struct(">BHIHHQH").pack
_body_front = Struct(">BHI").pack
# content-type and delivery-mode
_FLAGS = 1 << 15 | 1 << 12
_PROPERTIES = b"\x10application/json\x02"


class RawPublisher:
    """Writes events once in each iteration of the event loop, and counts their confirms."""

    def __init__(self, amqp: AmqpProtocol, exchange: str) -> None:
        self.amqp = amqp
        self.exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._batch: list[bytes] = []
        self._sent: deque[RawStream] = deque()
        self._confirmed_to = 0
        self._early: set[int] = set()
        amqp.on_ack = self._confirmed

    def publish_frame(self, key: bytes) -> bytes:
        """Return the method frame of `basic.publish` with a routing key."""
        method = commands.Basic.Publish(exchange=self.exchange, routing_key=key.decode())
        return marshal(method, CHANNEL)

    def send(self, stream: "RawStream", publish: bytes, body: bytes) -> None:
        """Write an event in the next iteration of the event loop."""
        size = len(body)
        header = _header(2, CHANNEL, 14 + len(_PROPERTIES), 60, 0, size, _FLAGS)
        front = _body_front(3, CHANNEL, size)
        if not self._batch:
            self._loop.call_soon(self._flush)
        self._batch.append(b"%b%b%b\xce%b%b\xce" % (publish, header, _PROPERTIES, front, body))
        self._sent.append(stream)

    def _flush(self) -> None:
        self.amqp.transport.write(b"".join(self._batch))
        self._batch.clear()

    def _confirmed(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - as it comes
        if not multiple:
            self._early.add(tag)
        while self._confirmed_to < tag if multiple else self._confirmed_to + 1 in self._early:
            self._confirmed_to += 1
            self._early.discard(self._confirmed_to)
            self._sent.popleft().confirmed()


class RawStream(asyncio.Protocol):
    """One connection to the endpoint, which serves one job after the other."""

    def __init__(self, publisher: RawPublisher, host: bytes, idle: "list[RawStream]") -> None:
        self._publisher = publisher
        self._host = host
        self._idle = idle
        self._transport: asyncio.Transport
        self._came = b""
        self._front = b""
        self._job_tag = self._seq = self._unconfirmed = 0
        self._ended = False
        self._chat = b""
        self._frames: dict[bytes, bytes] = {}

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self, body: bytes, tag: int) -> None:
        """Send the request of a job."""
        job = json.loads(body)
        self._came, self._ended = b"", False
        self._job_tag, self._seq = tag, 0
        self._chat = job["jobId"].encode()
        self._front = b'{"jobId":"%b","seq":%%d,"event":"%%b","data":%%b' % self._chat
        self._frames = {}
        question = json.dumps({"question": job["question"], "streaming": True}).encode()
        self._transport.write(
            b"POST /api/v1/prediction/%b HTTP/1.1\r\nHost: %b\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b"
            % (job["chatflowId"].encode(), self._host, len(question), question)
        )

    @override
    def data_received(self, data: bytes) -> None:
        # Chunk sizes and response headers precede `data:`, and are skipped with it.
        *frames, self._came = (self._came + data).split(b"\n\n")
        for frame in frames:
            event = frame[frame.index(b"data:") + 5 :]
            # {"event":"NAME","data":…}
            name_end = event.index(b'"', 10)
            name = event[10:name_end]
            publish = self._frames.get(name)
            if publish is None:
                key = b"chat.%b.%b" % (self._chat, name)
                publish = self._frames[name] = self._publisher.publish_frame(key)
            out = self._front % (self._seq, name, event[name_end + 9 :])
            self._seq += 1
            self._unconfirmed += 1
            self._publisher.send(self, publish, out)
            self._ended = name == b"end"

    def confirmed(self) -> None:
        """Count a confirm; the last one acknowledges the job."""
        self._unconfirmed -= 1
        if self._ended and not self._unconfirmed:
            self._publisher.amqp.send(commands.Basic.Ack(self._job_tag))
            self._idle.append(self)


async def work(amqp_url: str, base_url: str, prefix: str, concurrency: int) -> None:
    """Run jobs until the process is ended."""
    amqp = await AmqpProtocol.open(amqp_url)
    publisher = RawPublisher(amqp, f"{prefix}.events")
    server = urlsplit(base_url)
    idle: list[RawStream] = []
    begun: set[asyncio.Task[None]] = set()

    async def carry(body: bytes, tag: int) -> None:
        if idle:
            stream = idle.pop()
        else:
            _, stream = await asyncio.get_running_loop().create_connection(
                lambda: RawStream(publisher, server.netloc.encode(), idle),
                server.hostname or "",
                server.port or 0,
            )
        stream.ask(body, tag)

    def take(body: bytes, tag: int) -> None:
        task = asyncio.create_task(carry(body, tag))
        begun.add(task)
        task.add_done_callback(begun.discard)

    amqp.on_body = take
    await amqp.asks(commands.Confirm.Select())
    await amqp.asks(commands.Basic.Qos(prefetch_count=concurrency))
    await amqp.asks(commands.Basic.Consume(queue=f"{prefix}.jobs"))
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
