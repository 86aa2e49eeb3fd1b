"""One very long answer, a slow consumer or a slow broker: does the worker's memory stay?

`python -m benchmarks.long` prints it over time, what the answer's own text takes apart, which the
worker keeps for the `end`. Then it shows a flood whose connection is cut.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import click
from pamqp import commands

from benchmarks import cut
from benchmarks.amqp import AmqpProtocol
from benchmarks.programs import Program
from benchmarks.queues import queues
from benchmarks.tally import Series
from benchmarks.turn import Stage, stage, working
from benchmarks.workers import PRODUCT, Place
from tests.support.proxy import Proxy

_TEXT_BYTES: Final = 8
_LINE_EVERY_S: Final = 5.0
_BATCH, _SLOW_PAUSE_S = 250, 0.25
# Confirms are held back for so long, again and again.
_HELD_S, _LET_S = 0.6, 0.02
_WITHIN_S: Final = 1800.0


class Reader:
    """Reads all events of one job, slowly for as long as it is told to.

    Attributes:
        came: How many events did.
        ended: Set with the `end`.
        series: Whether they came in order.
        is_slow: Whether to take its time.
    """

    def __init__(self, amqp: AmqpProtocol, queue: str) -> None:
        self.came = 0
        self.ended = asyncio.Event()
        self.series = Series()
        self.is_slow = False
        self._amqp = amqp
        self._queue = queue
        self._acked = 0
        amqp.on_body = self._take

    @classmethod
    @asynccontextmanager
    async def open(cls, place: Place) -> AsyncIterator["Reader"]:
        """Read all that is published."""
        amqp = await AmqpProtocol.open(place.amqp_url)
        queue, events = f"reader-of-{place.prefix}", f"{place.prefix}.events"
        # What waits is on disk, as it is in any queue of RabbitMQ 3.12 and later.
        lazy = commands.Queue.Declare(
            queue=queue, exclusive=True, arguments={"x-queue-mode": "lazy"}
        )
        await amqp.asks(lazy)
        await amqp.asks(commands.Queue.Bind(queue=queue, exchange=events, routing_key="#"))
        await amqp.asks(commands.Basic.Qos(prefetch_count=2 * _BATCH))
        reader = cls(amqp, queue)
        await amqp.asks(commands.Basic.Consume(queue=queue))
        try:
            yield reader
        finally:
            amqp.transport.close()

    async def published(self) -> int:
        """Say how many events the broker has taken, less those that have not arrived here."""
        waiting = await self._amqp.asks(commands.Queue.Declare(queue=self._queue, passive=True))
        assert isinstance(waiting, commands.Queue.DeclareOk)
        return self.came + (waiting.message_count or 0)

    def _take(self, body: bytes, tag: int) -> None:
        at = body.index(b'"seq":') + 6
        self.series.take(int(body[at : body.index(b",", at)]))
        self.came += 1
        if b'"event":"end"' in body[:300]:
            self.ended.set()
        if self.came % _BATCH == 0:
            pause_s = _SLOW_PAUSE_S if self.is_slow else 0
            asyncio.get_running_loop().call_later(pause_s, self._ack_to, tag)

    def _ack_to(self, tag: int) -> None:
        # One that was put off may be late.
        if tag > self._acked:
            self._acked = tag
            self._amqp.send(commands.Basic.Ack(tag, multiple=True))


@click.command()
@click.option("--tokens", default=1_000_000, show_default=True, help="Of each of the two answers.")
def main(tokens: int) -> None:
    """Print memory over time, and whether anything was lost."""
    asyncio.run(_run(tokens))


async def _run(tokens: int) -> None:
    async with stage() as on:
        await _slow_consumer(on, tokens)
        await _slow_broker(on, tokens)
        print("\nA flood, and its connection of events cut three times")
        print(await cut.flood_with_cuts(on))


async def _slow_consumer(on: Stage, tokens: int) -> None:
    print(f"\n{tokens} tokens, a consumer that takes {2 * _BATCH / _SLOW_PAUSE_S:.0f}/s at most")
    place = on.place(slots=1)
    async with (
        queues(place, PRODUCT),
        Reader.open(place) as reader,
        working(on, place, PRODUCT) as it,
    ):
        reader.is_slow = True
        await _send(place, tokens)
        # The consumer is far behind, so that the worker's own log tells when it is done.
        done = asyncio.create_task(it.says("job.ended", _WITHIN_S))
        await _watch(it, reader, tokens, done.done)
        await done
        reader.is_slow = False
        await asyncio.wait_for(reader.ended.wait(), _WITHIN_S)
        _judge(reader, tokens)


async def _slow_broker(on: Stage, tokens: int) -> None:
    print(f"\n{tokens} tokens, a broker whose confirms come every {_HELD_S} s")
    place = on.place(slots=1)
    async with (
        Proxy(on.broker.port) as proxy,
        queues(place, PRODUCT),
        Reader.open(place) as reader,
        working(on, replace(place, amqp_url=proxy.url), PRODUCT) as it,
    ):
        await _send(place, tokens)
        slowing = asyncio.create_task(_slow_down(proxy))
        await _watch(it, reader, tokens, reader.ended.is_set)
        slowing.cancel()
        _judge(reader, tokens)


async def _slow_down(proxy: Proxy) -> None:
    while True:
        proxy.hold("events")
        await asyncio.sleep(_HELD_S)
        proxy.release("events")
        await asyncio.sleep(_LET_S)


async def _send(place: Place, tokens: int) -> None:
    question = f"n={tokens} rate=0 bare=1"
    job = {"chatflowId": "long", "question": question, "jobId": "job-long"}
    await PRODUCT.send(place, [job])


async def _watch(worker: Program, reader: Reader, tokens: int, done: Callable[[], bool]) -> None:
    """Print the worker's memory, now and then, until it is done."""
    began, idle_mb, highest_mb = time.monotonic(), worker.rss_bytes() / 1e6, 0.0
    print("| s | consumed | published | text so far, MB | memory without it, MB |")
    print("|---:|---:|---:|---:|---:|")
    while True:
        is_last = done()
        seconds, published = time.monotonic() - began, await reader.published()
        text_mb = min(published, tokens) * _TEXT_BYTES / 1e6
        rest_mb = worker.rss_bytes() / 1e6 - text_mb
        highest_mb = max(highest_mb, rest_mb)
        counts = f"{reader.came:,} | {published:,}"
        print(f"| {seconds:.0f} | {counts} | {text_mb:.1f} | {rest_mb:.1f} |", flush=True)
        if is_last:
            break
        await asyncio.sleep(_LINE_EVERY_S)
    print(f"Without the text at most {highest_mb:.1f} MB; idle it held {idle_mb:.1f} MB")


def _judge(reader: Reader, tokens: int) -> None:
    expected = tokens + 3
    series = reader.series
    print(
        f"{reader.came} events came of {expected}: {series.lost(expected)} lost, "
        f"{series.disordered} out of order, {series.repeated} repeated",
        flush=True,
    )


if __name__ == "__main__":
    main()
