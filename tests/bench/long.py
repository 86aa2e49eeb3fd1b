"""One very long answer, a slow consumer or a slow broker: does the worker's memory stay?

`python -m tests.bench.long --tokens 1000000` prints the memory over time; what the answer's own
text takes, which the worker keeps for the `end`, is told apart. Then a flood whose connection is cut.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import click
from pamqp import commands

from tests.bench import cut
from tests.bench.amqp import AmqpProtocol
from tests.bench.programs import Program
from tests.bench.queues import queues
from tests.bench.tally import Series
from tests.bench.turn import Stage, stage, working
from tests.bench.workers import PRODUCT, Place
from tests.support.proxy import Proxy

_TEXT_BYTES: Final = 8
_LINE_EVERY_S: Final = 5.0
_SLOW_EVERY, _SLOW_PAUSE_S = 500, 0.25
# Confirms are held back for so long, again and again.
_HELD_S, _LET_S = 0.25, 0.02
_WITHIN_S: Final = 1800.0


class Reader:
    """Reads all events of one job, slowly for as long as it is told to.

    Attributes:
        came: How many events did.
        ended: Set with the `end`.
        series: Whether they came in order.
    """

    def __init__(self, amqp: AmqpProtocol) -> None:
        self.came = 0
        self.ended = asyncio.Event()
        self.series = Series()
        self.is_slow = False
        self._amqp = amqp
        amqp.on_body = self._take

    def _take(self, body: bytes, _tag: int) -> None:
        at = body.index(b'"seq":') + 6
        self.series.take(int(body[at : body.index(b",", at)]))
        self.came += 1
        if b'"event":"end"' in body[:300]:
            self.ended.set()
        if self.is_slow and self.came % _SLOW_EVERY == 0:
            self._amqp.transport.pause_reading()
            resume = self._amqp.transport.resume_reading
            asyncio.get_running_loop().call_later(_SLOW_PAUSE_S, resume)


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
    print(f"\n{tokens} tokens, a consumer that takes {_SLOW_EVERY / _SLOW_PAUSE_S:.0f}/s at most")
    place = on.place(slots=1)
    async with queues(place, PRODUCT), _reading(place) as reader, working(on, place, PRODUCT) as it:
        reader.is_slow = True
        await _send(place, tokens)
        # The consumer is far behind, so that the worker's own log tells when it is done.
        done = asyncio.create_task(it.says("job.ended", _WITHIN_S))
        await _watch(it, tokens, done.done, lambda: reader.came)
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
        _reading(place) as reader,
        working(on, replace(place, amqp_url=proxy.url), PRODUCT) as it,
    ):
        await _send(place, tokens)
        slowing = asyncio.create_task(_slow_down(proxy))
        await _watch(it, tokens, reader.ended.is_set, lambda: reader.came)
        slowing.cancel()
        _judge(reader, tokens)


async def _slow_down(proxy: Proxy) -> None:
    while True:
        proxy.hold("events")
        await asyncio.sleep(_HELD_S)
        proxy.release("events")
        await asyncio.sleep(_LET_S)


@asynccontextmanager
async def _reading(place: Place) -> AsyncIterator[Reader]:
    amqp = await AmqpProtocol.open(place.amqp_url)
    reader = Reader(amqp)
    queue = f"reader-of-{place.prefix}"
    # What waits is on disk, as it is in any queue of RabbitMQ 3.12 and later.
    lazy = commands.Queue.Declare(queue=queue, exclusive=True, arguments={"x-queue-mode": "lazy"})
    await amqp.asks(lazy)
    bind = commands.Queue.Bind(queue=queue, exchange=f"{place.prefix}.events", routing_key="#")
    await amqp.asks(bind)
    await amqp.asks(commands.Basic.Consume(queue=queue, no_ack=True))
    try:
        yield reader
    finally:
        amqp.transport.close()


async def _send(place: Place, tokens: int) -> None:
    question = f"n={tokens} rate=0 bare=1"
    job = {"chatflowId": "long", "question": question, "jobId": "job-long"}
    await PRODUCT.send(place, [job])


async def _watch(
    worker: Program, tokens: int, done: Callable[[], bool], came: Callable[[], int]
) -> None:
    """Print the worker's memory, now and then, until it is done."""
    began, idle, highest = time.monotonic(), worker.rss_bytes(), 0
    print("| s | events that the consumer has | worker's memory, MB |\n|---:|---:|---:|")
    next_at = 0.0
    while True:
        is_last = done()
        rss, seconds = worker.rss_bytes(), time.monotonic() - began
        highest = max(highest, rss)
        if is_last or seconds >= next_at:
            print(f"| {seconds:.0f} | {came():,} | {rss / 1e6:.1f} |", flush=True)
            next_at += _LINE_EVERY_S
        if is_last:
            break
        await asyncio.sleep(0.1)
    text = tokens * _TEXT_BYTES
    print(
        f"At most {highest / 1e6:.1f} MB, idle {idle / 1e6:.1f} MB; "
        f"the answer's text alone is {text / 1e6:.1f} MB"
    )


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
