"""Measure publishing alone, for 100 attempts: the worker's publisher beside awaited publishes.

Usage: python -m benchmarks.turns.publishing WAY AMQP_URL, with `awaited` or `pipelined` as WAY. It
prints a Published as JSON.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import aio_pika
import msgspec
import uvloop

from aimicromind_schemas import Names
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.job.numbering import Numbering
from benchmarks.parts.programs import Program
from benchmarks.turns.turn import Stage, module
from tests.integration.outgoing import sink_at

LANES: Final = 100
_SECONDS: Final = 3.0
_TOKEN: Final = b'"1790000000000000000 0000000 word"'
_NAMES: Final = Names("bench-publishing")
_KEPT: Final = 10_000

Lane = Callable[[int], Awaitable[int]]


class Published(msgspec.Struct, frozen=True):
    """Figures of one way of publishing.

    Attributes:
        way: `awaited` or `pipelined`.
        cpu_us: CPU time of a message in µs, user and system.
        per_s: Confirmed messages a second.
    """

    way: str
    cpu_us: float
    per_s: float


async def compare(stage: Stage) -> list[Published]:
    """Measure both ways, one after the other, each in a process of its own."""
    found = []
    for way in ("awaited", "pipelined"):
        command = (*module("turns.publishing"), way, stage.broker.url)
        async with Program(command, stage.folder / "publishing.log") as program:
            line = await program.says("{", _SECONDS + 60)
        found.append(msgspec.json.decode(line, type=Published))
    return found


async def _awaited(url: str) -> None:
    async with await aio_pika.connect_robust(url) as connection, connection.channel() as channel:
        events = await channel.get_exchange(_NAMES.events)

        async def attempt_publisher(number: int) -> int:
            sent, until = 0, time.monotonic() + _SECONDS
            numbering = Numbering(f"job-{number}", f"chat-{number}", "flow", 1)
            while time.monotonic() < until:
                event = numbering.stamp(EndpointEvent("token", _TOKEN), time.time())
                message = aio_pika.Message(
                    event.body,
                    content_type="application/json",
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                    message_id=event.message_id.decode(),
                )
                await events.publish(message, routing_key=f"chat.chat-{number}.token")
                sent += 1
            return sent

        await _report("awaited", attempt_publisher)


async def _pipelined(url: str) -> None:
    async with sink_at(url, _NAMES) as publisher:

        async def attempt_publisher(number: int) -> int:
            sent, until = 0, time.monotonic() + _SECONDS
            numbering = Numbering(f"job-{number}", f"chat-{number}", "flow", 1)
            address = Address(f"chat-{number}", "flow", 1, f"job-{number}")
            events = publisher.attempt_publisher(address)
            while time.monotonic() < until:
                events.publish(numbering.stamp(EndpointEvent("token", _TOKEN), time.time()))
                sent += 1
                if events.full:
                    await events.room()
            await events.confirmed()
            return sent

        await _report("pipelined", attempt_publisher)


async def _report(way: str, attempt_publisher: Lane) -> None:
    began, cpu_began = time.perf_counter(), time.process_time()
    sent = sum(await asyncio.gather(*map(attempt_publisher, range(LANES))))
    cpu_s = time.process_time() - cpu_began
    published = Published(way, cpu_s / sent * 1e6, sent / (time.perf_counter() - began))
    print(msgspec.json.encode(published).decode(), flush=True)


async def _run(way: str, url: str) -> None:
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.declare_exchange(_NAMES.events, aio_pika.ExchangeType.TOPIC)
        queue = await channel.declare_queue(exclusive=True, arguments={"x-max-length": _KEPT})
        await queue.bind(exchange, "#")
        await (_awaited if way == "awaited" else _pipelined)(url)
        await channel.exchange_delete(_NAMES.events)


if __name__ == "__main__":
    # The worker runs on uvloop, aio-pika's users on asyncio's loop.
    start = uvloop.run if sys.argv[1] == "pipelined" else asyncio.run
    start(_run(sys.argv[1], sys.argv[2]))
