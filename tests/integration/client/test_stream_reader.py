"""A stream on a real broker, read from the connection's bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from yarl import URL

from aimicromind_schemas.client.streams import reader as stream_reader
from aimicromind_schemas.client.streams.markers import read_up_to_now
from aimicromind_schemas.client.streams.reader import NothingThere, StreamUnreadable, reading
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_testing import PrivateBroker
from tests.support.amqp import WITHIN_S
from tests.support.waiting import until


class Stream:
    """A stream of its own, and two connections: one that publishes, one that reads."""

    def __init__(self, name: str, reads: GuardedConnection, channel: AbstractChannel) -> None:
        self.name = name
        self.reads = reads
        self.channel = channel
        self.taken: list[StreamMessage] = []

    async def publish(self, message: aio_pika.Message, exchange: str, key: str) -> None:
        assert not exchange
        await self.channel.default_exchange.publish(message, key)

    async def fill(self, *bodies: bytes, **headers: str) -> None:
        for number, body in enumerate(bodies):
            message = aio_pika.Message(body, message_id=f"job-{number}", headers=dict(headers))
            await self.publish(message, "", self.name)

    async def read(
        self, since: datetime | int | None = None, wanted: tuple[bytes, ...] = ()
    ) -> list[bytes]:
        self.taken.clear()
        async with asyncio.timeout(WITHIN_S):
            await read_up_to_now(
                self.reads, self.publish, self.name, since, self.taken.append, wanted=wanted
            )
        return [it.body for it in self.taken]


@asynccontextmanager
async def a_stream(broker: PrivateBroker) -> AsyncIterator[Stream]:
    reads = GuardedConnection(URL(broker.url), "reads", None)
    await reads.connect()
    writes = await aio_pika.connect(broker.url)
    async with reads, writes, writes.channel() as channel:
        name = f"stream-{uuid4().hex}"
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "stream"})
        yield Stream(name, reads, channel)
        await channel.queue_delete(name)


async def test_everything_up_to_now_is_read_in_order(broker: PrivateBroker) -> None:
    bodies = [b"%d" % number for number in range(2500)]
    async with a_stream(broker) as stream:
        await stream.fill(*bodies)

        assert await stream.read() == bodies
        assert [it.offset for it in stream.taken] == list(range(2500))


async def test_empty_stream_has_nothing(broker: PrivateBroker) -> None:
    async with a_stream(broker) as stream:
        assert await stream.read() == []
        assert await stream.read() == []


async def test_bodies_of_every_size_are_whole(broker: PrivateBroker) -> None:
    bodies = [bytes([size % 251]) * size for size in (0, 1, 131_000, 131_064, 131_065, 3_000_000)]
    async with a_stream(broker) as stream:
        await stream.fill(*bodies)

        assert await stream.read() == bodies


async def test_only_what_is_wanted_is_taken(broker: PrivateBroker) -> None:
    async with a_stream(broker) as stream:
        await stream.fill(*(b"%d" % number for number in range(1200)))

        assert await stream.read(wanted=(b"job-117",)) == [
            b"117",
            *(b"117%d" % it for it in range(10)),
        ]


async def test_reading_begins_at_an_offset_or_a_time(broker: PrivateBroker) -> None:
    async with a_stream(broker) as stream:
        await stream.fill(b"a", b"b", b"c")

        assert (await stream.read(since=1))[-2:] == [b"b", b"c"]
        assert (await stream.read(since=datetime.now(UTC) - timedelta(hours=1))) == [
            b"a",
            b"b",
            b"c",
        ]
        assert await stream.read(since=datetime(1, 1, 1, tzinfo=UTC)) == [b"a", b"b", b"c"]


async def test_offset_beyond_the_end_is_an_error_and_no_wait_for_ever(
    broker: PrivateBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "_FIRST_WITHIN_S", 0.5)
    async with a_stream(broker) as stream:
        await stream.fill(b"a")

        with pytest.raises(NothingThere, match=stream.name):
            await stream.read(since=1000)


async def test_missing_stream_is_named_and_costs_the_connection_nothing(
    broker: PrivateBroker,
) -> None:
    async with a_stream(broker) as stream:
        with pytest.raises(StreamUnreadable, match="nowhere"):
            async with reading(stream.reads, "nowhere", None, stream.taken.append):
                pass

        assert await stream.read() == []
        assert not stream.reads.wire.demultiplexer.streams


async def test_what_follows_comes_as_it_is_published(broker: PrivateBroker) -> None:
    async with a_stream(broker) as stream:
        await stream.fill(b"before")
        came = asyncio.Event()

        def take(message: StreamMessage) -> None:
            stream.taken.append(message)
            came.set()

        async with reading(stream.reads, stream.name, "next", take) as reader:
            for number in range(20):
                came.clear()
                await stream.fill(b"%d" % number)
                await reader.until(came)

    assert [it.body for it in stream.taken] == [b"%d" % number for number in range(20)]


async def test_reader_that_holds_gets_no_more_than_the_prefetch(broker: PrivateBroker) -> None:
    async with a_stream(broker) as stream:
        await stream.fill(*[b"x"] * 300)
        first = asyncio.Event()

        def take(message: StreamMessage) -> None:
            stream.taken.append(message)
            first.set()
            if len(stream.taken) == 300:
                rest.set()

        rest = asyncio.Event()
        async with reading(stream.reads, stream.name, None, take, prefetch=50) as reader:
            reader.hold()
            before = len(stream.taken)
            await reader.until(first)
            # Whatever else would come for it comes before this answer on the same connection.
            async with stream.reads.channel() as another:
                await another.declare_queue(exclusive=True)
            held = len(stream.taken)
            reader.go_on()
            await reader.until(rest)

    assert held <= before + 50
    assert len(stream.taken) == 300


@pytest.mark.parametrize("loss", ["deleted", "closed"])
async def test_reader_learns_that_no_more_will_come(broker: PrivateBroker, loss: str) -> None:
    async with (
        a_stream(broker) as stream,
        reading(stream.reads, stream.name, None, stream.taken.append) as reader,
    ):
        losing = asyncio.ensure_future(reader.lost())
        if loss == "deleted":
            await stream.channel.queue_delete(stream.name)
        else:
            stream.reads.wire.abort()

        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(StreamUnreadable, match=stream.name):
                await losing


async def test_handler_that_raises_costs_one_message(broker: PrivateBroker) -> None:
    async with a_stream(broker) as stream:
        await stream.fill(b"a", b"b", b"c")
        seen: list[bytes] = []

        def take(message: StreamMessage) -> None:
            if message.body == b"b":
                raise RuntimeError("secret")
            seen.append(message.body)

        await read_up_to_now(stream.reads, stream.publish, stream.name, None, take)

    assert seen == [b"a", b"c"]


async def test_reader_that_leaves_a_long_stream_early_keeps_its_connection(
    broker: PrivateBroker,
) -> None:
    async with a_stream(broker) as stream:
        await stream.fill(*[b"x" * 1000] * 3000)
        for _ in range(20):
            stream.taken.clear()
            async with reading(stream.reads, stream.name, None, stream.taken.append, prefetch=50):
                await until(lambda: stream.taken)

        async with stream.reads.channel() as another:
            await another.declare_queue(exclusive=True)
