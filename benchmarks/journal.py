"""Measure a look-up in the journal, by its length: `python -m benchmarks.journal`."""

import asyncio
import statistics
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import aio_pika

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.jobs.journal import Journal, JournalMemory
from aimicromind_worker.amqp.topology import Retention, topology
from tests.integration.outgoing import publishing_at

_MILESTONES = (0, 1_000, 10_000, 100_000)
_LOOKS = 5
_BODY = (
    b'{"jobId":"job-%d","chatId":"chat","chatflowId":"flow","attempt":1,"seq":0,'
    b'"time":"2026-11-22T13:20:00.123456Z","event":"start",'
    b'"data":{"tags":{},"redelivered":false,"upstream":null}}'
)


async def main() -> None:
    names = Names("bench")
    async with (
        PrivateBroker() as broker,
        connect([broker.url], "bench", timedelta(seconds=30)) as connection,
        AsyncExitStack() as stack,
    ):
        await declare(connection, topology(names, Retention("1h", 10_000_000)))
        way = await stack.enter_async_context(publishing_at(broker.url, names))
        watching = asyncio.create_task(way.ownership.watch(connection))
        held = 0
        print("| milestones | first look-up, ms | one more, ms | ten more at once, ms |")
        print("|---:|---:|---:|---:|")
        for milestones in _MILESTONES:
            await _fill(connection, names, held, milestones)
            held = milestones
            journals = [
                Journal(connection, way.publishing, names.journal, JournalMemory())
                for _ in range(_LOOKS)
            ]
            first = await _time(journals, 1)
            one = await _time(journals[:1] * _LOOKS, 1)
            ten = await _time(journals[:1] * _LOOKS, 10)
            figures = " | ".join(f"{took * 1000:.0f}" for took in (first, one, ten))
            print(f"| {milestones:,} | {figures} |", flush=True)
        watching.cancel()


async def _fill(
    connection: aio_pika.abc.AbstractConnection, names: Names, first: int, last: int
) -> None:
    async with connection.channel(publisher_confirms=False) as channel:
        for number in range(first, last):
            message = aio_pika.Message(
                _BODY % number, message_id=f"job-{number}:1:0", headers={"attempt": 1, "seq": 0}
            )
            await channel.default_exchange.publish(message, names.journal)


async def _time(journals: Sequence[Journal], jobs: int) -> float:
    """Return the median time in seconds until `jobs` look-ups that begin at once are done."""
    since = datetime.now(UTC)
    times = []
    for journal in journals:
        began = time.perf_counter()
        await asyncio.gather(*(journal.look_up(f"job-{each}", since) for each in range(jobs)))
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    asyncio.run(main())
