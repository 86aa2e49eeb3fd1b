"""One chat's part of the event log, from a handle or a time, up to now."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel
from yarl import URL

from aimicromind_schemas import Event, HandleUnreadable, Names, encode, event_from, partition_of
from aimicromind_schemas.client.errors import NoSuchQueue
from aimicromind_schemas.client.past import log_reading
from aimicromind_schemas.client.past.log_place import LogPlace, place_in_log
from aimicromind_schemas.client.past.log_reading import LogReading
from aimicromind_schemas.client.streams import collecting
from aimicromind_schemas.client.streams.positions import handle_of
from aimicromind_schemas.client.streams.probes import last_chunk, partitions_of
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.handle import Handle, Installation, encode_handle
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.declaring import declare, remove
from aimicromind_worker.amqp.topology import Retention, topology
from tests.integration.client.stage import PassingOver, filters
from tests.support.amqp import WITHIN_S, delete_queue
from tests.support.proxy import Proxy


@dataclass(frozen=True)
class Log:
    """An event log on a broker, and a connection that reads it."""

    names: Names
    partitions: int
    reads: GuardedConnection
    channel: AbstractChannel

    async def publish(self, chat_id: str, job_id: str, count: int, size: int = 1) -> list[Event]:
        """Publish events of a job, as a worker does, and give them."""
        events = [_event(chat_id, job_id, seq, size) for seq in range(count)]
        exchange = await self.channel.get_exchange(self.names.events, ensure=False)
        partition = str(partition_of(chat_id, self.partitions))
        for event in events:
            message = encode(event)
            headers = dict(message.properties.headers)
            if self.partitions > 1:
                headers["BCC"] = [partition]  # type: ignore[assignment]
            sent = aio_pika.Message(
                message.body,
                headers=dict(headers),
                message_id=message.properties.message_id,
                timestamp=datetime.now(UTC),
            )
            await exchange.publish(sent, message.routing_key)
        return events

    async def place(
        self, chat_id: str | None, since: datetime | None = None, handle: str | None = None
    ) -> LogPlace:
        return await place_in_log(self.reads, self.names, chat_id, since, handle)

    async def read(
        self,
        chat_id: str | None,
        since: datetime | None = None,
        handle: str | None = None,
        job_id: str | None = None,
    ) -> list[Event]:
        place = await self.place(chat_id, since, handle)
        reading = await LogReading.open(self.reads, place, Wanted.of(chat_id, job_id))
        return await _all(reading)


async def _all(reading: LogReading) -> list[Event]:
    async with asyncio.timeout(WITHIN_S), aclosing(reading.events()) as events:
        return [event async for event in events]


def _event(chat_id: str, job_id: str, seq: int, size: int) -> Event:
    fields = {"jobId": job_id, "chatId": chat_id, "chatflowId": "flow", "attempt": 1, "seq": seq}
    now = datetime.now(UTC).isoformat()
    return event_from(fields | {"time": now, "event": "token", "data": "x" * size})


@asynccontextmanager
async def a_log(
    url: str, names: Names, connection: BrokerConnection, partitions: int
) -> AsyncIterator[Log]:
    wanted = topology(names, Retention("1h", 100_000_000), partitions=partitions)
    await declare(connection, wanted)
    reads = GuardedConnection(URL(url), "reads", None)
    await reads.connect()
    async with reads, connection.channel() as channel:
        yield Log(names, partitions, reads, channel)
    await remove(connection, wanted)


@pytest_asyncio.fixture(params=[1, 4])
async def log(
    request: pytest.FixtureRequest,
    broker: PrivateBroker,
    names: Names,
    connection: BrokerConnection,
) -> AsyncIterator[Log]:
    async with a_log(broker.url, names, connection, request.param) as opened:
        yield opened


@pytest_asyncio.fixture
async def log_of_4(
    broker: PrivateBroker, names: Names, connection: BrokerConnection
) -> AsyncIterator[Log]:
    async with a_log(broker.url, names, connection, 4) as opened:
        yield opened


def _ids(events: Sequence[Event]) -> list[tuple[str, int]]:
    return [(event.job_id, event.seq) for event in events]


def _soon() -> datetime:
    return datetime.now(UTC) - timedelta(minutes=1)


async def test_number_of_partitions_is_found(log: Log) -> None:
    assert await partitions_of(log.reads, log.names.events_log) == log.partitions
    assert await partitions_of(log.reads, "nothing") == 0


async def test_chat_is_read_whole_and_alone(log: Log) -> None:
    await log.publish("other", "o", 30)
    mine = await log.publish("mine", "m", 30)
    await log.publish("other", "p", 30)

    assert await log.read("mine") == mine
    assert await log.read("mine", since=_soon()) == mine
    assert await log.read("nobody") == []


async def test_handle_leads_to_the_events_behind_it(log: Log) -> None:
    await log.publish("mine", "first", 20)
    handle = await handle_of(log.reads, log.names, "mine")
    mine = await log.publish("mine", "second", 20)

    came = await log.read("mine", handle=handle)

    assert came[-20:] == mine
    assert len(came) <= 21


async def test_handle_alone_leads_to_the_chats_partition(log: Log) -> None:
    handle = await handle_of(log.reads, log.names, "mine")
    mine = await log.publish("mine", "job", 3)

    assert await log.read(None, handle=handle, job_id="job") == mine
    assert len((await log.place(None, handle=handle)).streams) == 1


async def test_position_serves_5_s(log: Log) -> None:
    await log.publish("mine", "first", 3)
    handle = await handle_of(log.reads, log.names, "mine")
    await log.publish("mine", "second", 3)

    assert await handle_of(log.reads, log.names, "mine") == handle


async def test_job_without_its_chat_is_read_from_all_partitions(log: Log) -> None:
    jobs = [await log.publish(f"chat-{number}", f"job-{number}", 2) for number in range(8)]

    for events in jobs:
        assert await log.read(None, job_id=events[0].job_id) == events


async def test_handle_of_a_log_that_was_made_again_gives_way_to_its_time(
    log_of_4: Log, connection: BrokerConnection
) -> None:
    log = log_of_4
    await log.publish("mine", "old", 50)
    handle = await handle_of(log.reads, log.names, "mine")
    await delete_queue(connection, log.names.events_log_stream(partition_of("mine", 4)))
    await declare(connection, topology(log.names, Retention("1h", 100_000_000)))
    mine = await log.publish("mine", "new", 5)

    assert await log.read("mine", handle=handle) == mine


async def test_handle_before_what_is_left_is_told_as_cut(log_of_4: Log) -> None:
    log = log_of_4
    stream = log.names.events_log_stream(partition_of("mine", 4))
    place = Handle(partition_of("mine", 4), 1, datetime.now(UTC))
    handle = encode_handle(place, Installation(log.names.prefix, 4))
    # Until the broker removes the first segment.
    while (last := await last_chunk(log.reads, stream)) is None or last.offset < 120:
        await log.publish(
            "other" if partition_of("other", 4) == place.partition else "mine", "m", 40, 1_000_000
        )

    reading = await LogReading.open(
        log.reads, await log.place("mine", handle=handle), Wanted.of("mine", None)
    )
    await _all(reading)

    assert reading.is_cut


async def test_handle_of_another_chat_or_log_is_refused(log_of_4: Log) -> None:
    log = log_of_4
    other = next(chat for chat in "abcdefgh" if partition_of(chat, 4) != partition_of("mine", 4))
    handle = await handle_of(log.reads, log.names, other)

    with pytest.raises(HandleUnreadable, match="of another chat"):
        await log.place("mine", handle=handle)
    with pytest.raises(HandleUnreadable):
        await log.place("mine", handle="AAAA")


async def test_without_a_log_there_is_no_place_and_no_handle(
    broker: PrivateBroker, names: Names
) -> None:
    reads = GuardedConnection(URL(broker.url), "reads", None)
    await reads.connect()
    async with reads:
        assert await handle_of(reads, names, "chat") is None
        with pytest.raises(NoSuchQueue):
            await place_in_log(reads, names, "chat")


async def test_what_is_published_while_it_is_read_is_no_end(log: Log) -> None:
    mine = await log.publish("mine", "m", 5)

    async def go_on() -> None:
        number = 0
        while True:
            await log.publish("other", f"o-{number}", 10)
            number += 1

    beside = asyncio.create_task(go_on())
    try:
        assert await log.read("mine") == mine
    finally:
        beside.cancel()
        await asyncio.wait((beside,))


async def test_large_events_are_read_in_bounded_memory(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "_SOFT_BYTES", 10_000)
    monkeypatch.setattr(collecting, "_HARD_BYTES", 40_000)
    mine = await log.publish("mine", "m", 100, 9_000)

    place = await log.place("mine")
    reading = await LogReading.open(log.reads, place, Wanted.of("mine", None))
    came = []
    async with asyncio.timeout(4 * WITHIN_S), aclosing(reading.events()) as events:
        async for event in events:
            came.append(event)
            if len(came) in {1, 50}:
                # The broker sends all it may meanwhile.
                await asyncio.sleep(0.3)

    assert _ids(came) == _ids(mine)


async def test_progress_grows_to_the_whole(log: Log) -> None:
    await log.publish("mine", "m", 200)
    reading = await LogReading.open(log.reads, await log.place("mine"), Wanted.of("mine", None))
    shares = [reading.progress]

    async with asyncio.timeout(WITHIN_S), aclosing(reading.events()) as events:
        shares += [reading.progress async for _ in events]
    shares.append(reading.progress)

    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


async def test_other_chats_name_in_a_property_shows_nothing(log: Log) -> None:
    await log.publish("mine", "m", 1)
    event = _event("other", "o", 0, 1)
    exchange = await log.channel.get_exchange(log.names.events, ensure=False)
    own = b"\0\0\0\4mine".decode()
    headers: dict[str, object] = {"x-stream-filter-value": "other", "odd": own}
    if log.partitions > 1:
        headers["BCC"] = [str(partition_of("mine", log.partitions))]
    message = aio_pika.Message(encode(event).body, headers=headers, correlation_id=own)  # type: ignore[arg-type]
    await exchange.publish(message, "chat.other.token")

    assert _ids(await log.read("mine")) == [("m", 0)]


async def test_nothing_is_missed_where_the_broker_passes_over_what_comes_meanwhile(
    broker: PrivateBroker, names: Names, connection: BrokerConnection, proxy: Proxy
) -> None:
    PassingOver(proxy)
    async with a_log(proxy.url, names, connection, 4) as log:
        await log.publish("mine", "before", 3)
        reading = await LogReading.open(
            log.reads, await log.place("mine", _soon()), Wanted.of("mine", None)
        )
        mine = await log.publish("mine", "after", 20)

        came = await _all(reading)

    assert came[-20:] == mine


async def test_broker_that_filters_leaves_others_out_up_to_the_last_chunk(
    log_of_4: Log, broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not await filters(broker):
        pytest.skip("RabbitMQ filters streams from 3.13 on")
    log = log_of_4
    mine = [await log.publish("mine", "m", 2)]
    same = [f"c-{n}" for n in range(200) if partition_of(f"c-{n}", 4) == partition_of("mine", 4)]
    for chat in same:
        await log.publish(chat, "o", 20)
    mine.append(await log.publish("mine", "n", 2))
    monkeypatch.setattr(log_reading, "_SETTLES_S", 0.2)

    assert await log.read("mine") == [event for events in mine for event in events]


async def test_empty_log_has_nothing_and_ends(log: Log) -> None:
    assert await log.read("mine") == []
    assert await log.read("mine", since=_soon()) == []
