"""What the partitions of the event log cost, and what it costs to read one chat's events from it.

`python -m benchmarks.event_log`. The publisher is the worker's, the reader is the client's. Both
run in this process, one after the other.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import click
from yarl import URL

from aimicromind_schemas import Names, partition_of
from aimicromind_schemas.client.past.log_place import LogPlace, place_in_log
from aimicromind_schemas.client.past.log_reading import LogReading
from aimicromind_schemas.client.streams.positions import handle_of
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.declaring import declare, remove
from aimicromind_worker.amqp.events.attempt_publisher import EventPublisher
from aimicromind_worker.amqp.topology import Retention, topology
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.job.numbering import Numbering
from benchmarks.parts.consumer import BINDING as _BINDING
from benchmarks.parts.programs import Program
from benchmarks.turns.turn import module
from tests.integration.outgoing import sink_at
from tests.support.strain import cpu_s

_KEPT = Retention("1h", 2_000_000_000)
_CHATS = 100
_TOKEN = EndpointEvent("token", b'"1790000000000000000 0000000 word"')
_MINE, _OWN_EVENTS, _BESIDE = "mine", 300, 40_000
_WITHIN_S = 300.0


@dataclass(slots=True)
class _Spent:
    """CPU time of this process and of the broker during a body, in seconds."""

    own_s: float = 0.0
    broker_s: float = 0.0
    wall_s: float = 0.0


@click.command()
@click.option("--partitions", "counts", multiple=True, type=int, default=(1, 4, 16))
@click.option("--events", default=40_000, show_default=True, help="Events of each flood.")
@click.option("--turns", default=7, show_default=True, help="Floods with each count.")
@click.option("--foreign", default=200_000, show_default=True, help="Events of others to read.")
def main(*, counts: tuple[int, ...], events: int, turns: int, foreign: int) -> None:
    """Print CPU for each event: of broker and publisher at flood, of broker and reader."""
    asyncio.run(_measure(counts, events, turns, foreign))


async def _measure(counts: Sequence[int], events: int, turns: int, foreign: int) -> None:
    async with PrivateBroker() as broker:
        if turns:
            await _floods(broker, counts, events, turns)
        if foreign:
            await _readings(broker, foreign)


async def _floods(broker: PrivateBroker, counts: Sequence[int], events: int, turns: int) -> None:
    ways = [(count, has_consumer) for has_consumer in (False, True) for count in counts]
    found: dict[tuple[int, bool], list[_Spent]] = {way: [] for way in ways}
    for turn in range(turns):
        # The order alternates, because a machine may warm up.
        for way in ways if turn % 2 == 0 else ways[::-1]:
            found[way].append(await _flooded(broker, events, way[0], has_consumer=way[1]))
    print("| partitions | queue | broker, µs | beside the first | publisher, µs | events/s |")
    print("|---:|---|---:|---:|---:|---:|")
    for (count, has_consumer), each in found.items():
        broker, own, wall = (
            statistics.median(getattr(it, name) for it in each) / events * 1e6
            for name in ("broker_s", "own_s", "wall_s")
        )
        # In pairs: the machine may be slower in one turn than in another.
        pairs = zip(each, found[counts[0], has_consumer], strict=True)
        beside = statistics.median(it.broker_s / first.broker_s for it, first in pairs)
        queue = _BINDING if has_consumer else "none"
        print(f"| {count} | {queue} | {broker:.1f} | {beside:.2f} | {own:.1f} ", end="")
        print(f"| {1e6 / wall:,.0f} |", flush=True)


async def _flooded(broker: PrivateBroker, events: int, count: int, *, has_consumer: bool) -> _Spent:
    async with (
        _log(broker, count) as names,
        _publisher(broker, names, count) as publisher,
        _consumer(broker, names) if has_consumer else nullcontext(),
    ):
        await _flood(publisher, events // 10)
        async with _spent(broker) as spent:
            await _flood(publisher, events)
    return spent


@asynccontextmanager
async def _consumer(broker: PrivateBroker, names: Names) -> AsyncIterator[None]:
    """Run a consumer of all chats, which never sees as many jobs end as it waits for."""
    told = (broker.url, names.prefix, str(_CHATS), "0", "0")
    with tempfile.TemporaryDirectory() as folder:
        command = (*module("parts.consumer"), *told)
        async with Program(command, Path(folder, "consumer.log")) as consumer:
            await consumer.ready("ready")
            yield


async def _readings(broker: PrivateBroker, foreign: int) -> None:
    partitions = 4
    async with _log(broker, partitions) as names:
        reads = GuardedConnection(URL(broker.url), "bench", None)
        await reads.connect()
        async with reads, _publisher(broker, names, partitions) as publisher:
            await _flood(publisher, foreign // 2)
            handle = await handle_of(reads, names, _MINE)
            await asyncio.gather(
                _flood(publisher, _BESIDE), _say(publisher, _MINE, _OWN_EVENTS, ends=True)
            )
            await _flood(publisher, foreign // 2)
            beside = _of_partition(_BESIDE) + _OWN_EVENTS
            in_partition = _of_partition(foreign // 2) * 2 + beside
            every = foreign // 2 * 2 + _BESIDE + _OWN_EVENTS
            print("\n| reading | events of the way | reader, µs each | broker, µs each | all, s |")
            print("|---|---:|---:|---:|---:|")
            by_handle = await place_in_log(reads, names, _MINE, handle=handle)
            by_time = await place_in_log(reads, names, _MINE)
            everything = LogPlace(tuple(map(names.events_log_stream, range(partitions))))
            for way, place, count, to_end in (
                ("by handle, to the `end`", by_handle, beside, True),
                ("by time, one partition", by_time, in_partition, False),
                ("all partitions", everything, every, False),
            ):
                async with _spent(broker) as spent:
                    await _read(reads, place, Wanted.of(_MINE, None), to_end=to_end)
                own, theirs = (it / count * 1e6 for it in (spent.own_s, spent.broker_s))
                print(f"| {way} | {count:,} | {own:.1f} | {theirs:.1f} | {spent.wall_s:.2f} |")


async def _read(reads: GuardedConnection, place: LogPlace, wanted: Wanted, *, to_end: bool) -> None:
    reading = await LogReading.open(reads, place, wanted)
    seen = 0
    async with asyncio.timeout(_WITHIN_S), aclosing(reading.events()) as events:
        async for event in events:
            seen += 1
            if to_end and event.event == "end":
                break
    if seen != _OWN_EVENTS:
        raise click.ClickException(f"{seen} of {_OWN_EVENTS} events were read")


async def _flood(publisher: EventPublisher, events: int) -> None:
    async with asyncio.timeout(_WITHIN_S):
        await asyncio.gather(
            *(_say(publisher, _chat(number), events // _CHATS) for number in range(_CHATS))
        )


async def _say(publisher: EventPublisher, chat_id: str, count: int, *, ends: bool = False) -> None:
    job_id = f"{chat_id}-{uuid4().hex[:6]}"
    numbering = Numbering(job_id, chat_id, "flow", 1)
    events = publisher.attempt_publisher(Address(chat_id, "flow", 1, job_id))
    for number in range(count):
        is_end = ends and number == count - 1
        event = EndpointEvent("end", b"{}") if is_end else _TOKEN
        events.publish(numbering.stamp(event, time.time()))
        if events.full:
            await events.room()
        elif not number % 20:
            await asyncio.sleep(0)
    await events.confirmed()


def _chat(number: int) -> str:
    return f"chat-{number}"


def _of_partition(events: int) -> int:
    """Return how many events of a flood are in the partition that is read."""
    mine = partition_of(_MINE, 4)
    return sum(partition_of(_chat(it), 4) == mine for it in range(_CHATS)) * (events // _CHATS)


@asynccontextmanager
async def _log(broker: PrivateBroker, partitions: int) -> AsyncIterator[Names]:
    names = Names(f"bench-{uuid4().hex[:6]}")
    wanted = topology(names, _KEPT, partitions=partitions)
    async with connect([broker.url], "bench", timedelta(seconds=30)) as connection:
        await declare(connection, wanted)
        yield names
        await remove(connection, wanted)


@asynccontextmanager
async def _publisher(
    broker: PrivateBroker, names: Names, partitions: int
) -> AsyncIterator[EventPublisher]:
    async with sink_at(broker.url, names, partitions=partitions) as publisher:
        yield publisher


@asynccontextmanager
async def _spent(broker: PrivateBroker) -> AsyncIterator[_Spent]:
    spent = _Spent()
    own_s, broker_s, began = time.process_time(), cpu_s(broker.pid), time.perf_counter()
    yield spent
    spent.own_s = time.process_time() - own_s
    spent.broker_s = cpu_s(broker.pid) - broker_s
    spent.wall_s = time.perf_counter() - began


if __name__ == "__main__":
    main()
