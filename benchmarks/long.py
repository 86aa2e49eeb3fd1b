"""Measure the worker's memory over an answer of a million tokens: `python -m benchmarks.long`.

First the consumer is slow, then the broker. The answer's own text, which the worker keeps for the
`end`, is shown apart. In the end, the connection of a flood is reset.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

from pamqp import commands

from benchmarks.parts.amqp import AmqpProtocol
from benchmarks.parts.programs import Program
from benchmarks.parts.tally import Series
from benchmarks.turns import cut
from benchmarks.turns.queues import queues
from benchmarks.turns.turn import Stage, stage, working
from benchmarks.turns.workers import PRODUCT, TurnPlace
from tests.support.proxy import Proxy

_TOKENS: Final = 1_000_000
_TEXT_BYTES: Final = 8
_LINE_EVERY_S: Final = 5.0
_BATCH, _SLOW_PAUSE_S = 250, 0.25
# Confirms are held back and passed on in turn.
_HELD_S, _PASSED_S = 0.6, 0.02
_WITHIN_S: Final = 1800.0


class SlowReader:
    """Reads all events of one job.

    Attributes:
        came: Number of events received.
        ended: Set with the `end`.
        series: Their order.
        is_slow: Whether acknowledgements are delayed, which slows the broker down.
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
    async def open(cls, place: TurnPlace) -> AsyncIterator["SlowReader"]:
        """Consume all events for the time of the body."""
        amqp = await AmqpProtocol.open(place.amqp_url)
        queue, events = f"reader-of-{place.prefix}", f"{place.prefix}.events"
        # Messages are kept on disk, as in each queue of RabbitMQ 3.12 and later.
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
        """Return the number of events received, and those ready in the queue."""
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
        # A delayed acknowledgement may follow a later one.
        if tag > self._acked:
            self._acked = tag
            self._amqp.send(commands.Basic.Ack(tag, multiple=True))


async def main() -> None:
    """Print memory over time, and whether anything was lost."""
    async with stage() as on:
        await _slow_consumer(on)
        await _slow_broker(on)
        print("\nA flood, and its connection of events reset three times")
        print(await cut.flood_with_cuts(on))


async def _slow_consumer(on: Stage) -> None:
    print(f"\n{_TOKENS} tokens, a consumer that reads {2 * _BATCH / _SLOW_PAUSE_S:.0f}/s at most")
    place = on.place(slots=1)
    async with (
        queues(place, PRODUCT),
        SlowReader.open(place) as reader,
        working(on, place, PRODUCT) as it,
    ):
        reader.is_slow = True
        await _send(place)
        # The consumer is far behind. Thus the end of the job is read from the worker's log.
        done = asyncio.create_task(it.says("job.ended", _WITHIN_S))
        await _watch(it, reader, done.done)
        await done
        reader.is_slow = False
        await asyncio.wait_for(reader.ended.wait(), _WITHIN_S)
        _judge(reader)


async def _slow_broker(on: Stage) -> None:
    print(f"\n{_TOKENS} tokens, a broker that confirms every {_HELD_S} s")
    place = on.place(slots=1)
    async with (
        Proxy(on.broker.port) as proxy,
        queues(place, PRODUCT),
        SlowReader.open(place) as reader,
        working(on, replace(place, amqp_url=proxy.url), PRODUCT) as it,
    ):
        await _send(place)
        slowing = asyncio.create_task(_slow_down(proxy))
        await _watch(it, reader, reader.ended.is_set)
        slowing.cancel()
        _judge(reader)


async def _slow_down(proxy: Proxy) -> None:
    while True:
        proxy.hold("events")
        await asyncio.sleep(_HELD_S)
        proxy.release("events")
        await asyncio.sleep(_PASSED_S)


async def _send(place: TurnPlace) -> None:
    question = f"n={_TOKENS} rate=0 bare=1"
    job = {"chatflowId": "long", "question": question, "jobId": "job-long"}
    await PRODUCT.send(place, [job])


async def _watch(worker: Program, reader: SlowReader, done: Callable[[], bool]) -> None:
    """Print the worker's memory every 5 s until it is done."""
    began, idle_mb, highest_mb = time.monotonic(), worker.rss_bytes() / 1e6, 0.0
    print("| s | consumed | published | text so far, MB | memory without it, MB |")
    print("|---:|---:|---:|---:|---:|")
    while True:
        is_last = done()
        seconds, published = time.monotonic() - began, await reader.published()
        text_mb = min(published, _TOKENS) * _TEXT_BYTES / 1e6
        rest_mb = worker.rss_bytes() / 1e6 - text_mb
        highest_mb = max(highest_mb, rest_mb)
        counts = f"{reader.came:,} | {published:,}"
        print(f"| {seconds:.0f} | {counts} | {text_mb:.1f} | {rest_mb:.1f} |", flush=True)
        if is_last:
            break
        await asyncio.sleep(_LINE_EVERY_S)
    print(f"Without the text at most {highest_mb:.1f} MB; idle, {idle_mb:.1f} MB")


def _judge(reader: SlowReader) -> None:
    expected = _TOKENS + 3
    series = reader.series
    print(
        f"{reader.came} events received of {expected}: {series.lost(expected)} lost, "
        f"{series.disordered} out of order, {series.repeated} repeated",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main())
