"""What the pool's memory costs, by how much the journal holds: `python -m benchmarks.journal`.

By default it measures the parts of this checkout in this process. With `--workers` or `--beside` it
measures worker processes.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import click
import psutil
from aio_pika import Message
from pamqp import commands
from pamqp.body import ContentBody
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from aimicromind_schemas import Names
from aimicromind_schemas.client.transport.opening import open_channel
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import BrokerConnection, connect
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.jobs.journal import Journal, JournalMemory
from aimicromind_worker.amqp.topology import Retention, topology
from benchmarks.parts.programs import Program
from benchmarks.pools.journal import journal
from benchmarks.pools.milestones import milestone
from benchmarks.pools.options import compare, compared
from tests.integration.outgoing import publishing_at

_LIFETIME = timedelta(hours=1)
_LOOKS = 50
_AT_A_TIME = 500
_WITHIN_S = 600.0
_STEADY = (sys.executable, "-m", "benchmarks.pools.steady")
_STEADY_S = 10


@click.command()
@click.option("--milestones", "counts", multiple=True, type=int, default=(0, 30_000, 100_000))
@click.option("--rate", default=300, show_default=True, help="Milestones a second that are added.")
@click.option("--workers", is_flag=True, help="Measure worker processes; --beside implies it.")
@click.option("--repeats", default=5, show_default=True, help="Redelivered jobs, for --workers.")
@click.option("--within", default=120.0, show_default=True, help="Most seconds of each wait.")
@compared
def main(
    *,
    counts: tuple[int, ...],
    rate: int,
    workers: bool,
    repeats: int,
    within: float,
    **options: Any,  # noqa: ANN401 - of click
) -> None:
    """Print what a worker that starts beside so many milestones of others pays, and then."""
    if workers or options["beside"]:
        measures = [
            partial(journal, milestones=count, repeats=repeats, within_s=within)
            for count in sorted(counts)
        ]
        compare(measures, **options)
    else:
        asyncio.run(_measure(sorted(counts), rate))


async def _measure(counts: list[int], rate: int) -> None:
    names = Names("bench")
    async with (
        PrivateBroker() as broker,
        connect([broker.url], "bench", timedelta(seconds=30)) as connection,
        connect([broker.url], "fill", timedelta(seconds=30)) as filling,
        AsyncExitStack() as stack,
    ):
        await declare(connection, topology(names, Retention("1h", 10_000_000)))
        way = await stack.enter_async_context(publishing_at(broker.url, names))
        fill = await _Filler.open(filling, names.journal)
        watching = asyncio.create_task(way.ownership.watch(connection))
        print(
            "| milestones | first look-up, ms | until warm, s | milestones/s | CPU, µs each "
            "| memory, MB | look-up p50, ms | p99, ms | 1,000 at once, ms | tail, µs each "
            "| socket that only wakes, µs each |"
        )
        print("|---:|" + "---:|" * 10)
        for count in counts:
            await fill.up_to(count)
            memory = JournalMemory()
            at = _Steady(rate, broker.url, names.journal)
            journal = Journal(connection, way.publishing, names, memory, _LIFETIME)
            print(f"| {count:,} | " + " | ".join(await _figures(journal, fill, at)) + " |")
        watching.cancel()


async def _figures(journal: Journal, fill: "_Filler", steady: "_Steady") -> list[str]:
    process = psutil.Process()
    held, cpu_s, began = process.memory_info().rss, _cpu_s(process), time.monotonic()
    reading = asyncio.create_task(journal.run())
    try:
        first_s = await _time(lambda: journal.look_up("job-0", datetime.now(UTC)))
        await _until(lambda: journal.is_live)
        warm_s, used_s = time.monotonic() - began, _cpu_s(process) - cpu_s
        grown = process.memory_info().rss - held
        looks = [
            await _time(lambda: journal.look_up("job-1", datetime.now(UTC))) for _ in range(_LOOKS)
        ]
        many_s = await _time(
            lambda: asyncio.gather(
                *(journal.look_up(f"job-{it}", datetime.now(UTC)) for it in range(1000))
            )
        )
        tail_us = await steady.read_us(process)
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
    count = max(1, fill.count)
    return [
        f"{first_s * 1000:.1f}",
        f"{warm_s:.1f}",
        f"{fill.count / warm_s:,.0f}",
        f"{used_s / count * 1e6:.1f}",
        f"{grown / 1e6:.0f}",
        f"{statistics.median(looks) * 1000:.1f}",
        f"{max(looks) * 1000:.1f}",
        f"{many_s * 1000:.0f}",
        f"{tail_us:.1f}",
        f"{await steady.bare_us(process):.1f}",
    ]


class _Steady:
    """Another process that adds milestones one at a time, for some seconds."""

    def __init__(self, rate: int, url: str, journal: str) -> None:
        self._rate = rate
        self._journal = url, journal

    async def read_us(self, process: psutil.Process) -> float:
        """Return this process's CPU for each milestone that the journal's follower reads."""
        return await self._cpu_us(process, *self._journal)

    async def bare_us(self, process: psutil.Process) -> float:
        """Return the same where the bytes come by a socket, and nothing reads them."""
        loop = asyncio.get_running_loop()
        async with await loop.create_server(asyncio.Protocol, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()[:2]
            return await self._cpu_us(process, host, str(port))

    async def _cpu_us(self, process: psutil.Process, where: str, name: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            command = (*_STEADY, str(self._rate), where, name)
            async with Program(command, Path(folder) / "log") as adding:
                await adding.ready("ready")
                cpu_s = _cpu_s(process)
                await asyncio.sleep(_STEADY_S)
                used_s = _cpu_s(process) - cpu_s
        return used_s / (self._rate * _STEADY_S) * 1e6


class _Filler:
    """Adds milestones to a journal, as frames: two of each job."""

    def __init__(self, connection: BrokerConnection, stream: str, channel: int) -> None:
        self.count = 0
        self._connection = connection
        self._stream = stream
        self._number = channel
        publish = commands.Basic.Publish(exchange="", routing_key=stream)
        self._publish = marshal(publish, channel)

    @classmethod
    async def open(cls, connection: BrokerConnection, stream: str) -> "_Filler":
        return cls(connection, stream, (await open_channel(connection)).number)

    def add(self, count: int) -> None:
        """Write so many more."""
        frames = [self._frames(number) for number in range(self.count, self.count + count)]
        self._connection.wire.write(b"".join(frames))
        self.count += count

    async def up_to(self, count: int) -> None:
        """Write until there are so many, and they are in the stream."""
        while self.count < count:
            self.add(min(_AT_A_TIME, count - self.count))
            await _until(self._connection.wire.is_free)
        async with self._connection.channel() as channel:
            await channel.default_exchange.publish(_marker(), self._stream)

    def _frames(self, number: int) -> bytes:
        message_id, body = milestone(number)
        properties = commands.Basic.Properties(message_id=message_id)
        header = ContentHeader(0, len(body), properties)
        return b"".join(
            (
                self._publish,
                marshal(header, self._number),
                marshal(ContentBody(body), self._number),
            )
        )


def _marker() -> Message:
    return Message(b"{}")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def _time(work: Callable[[], Awaitable[object]]) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_WITHIN_S):
        while not holds():  # noqa: ASYNC110 - what it reads sets no event
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    main()
