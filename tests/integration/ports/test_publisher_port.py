"""Attempts publish in order, wait for room and for confirms: the fake of the port, and a broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio
from aio_pika.abc import AbstractConnection

from aimicromind_schemas import Names
from aimicromind_worker.runs.ports import Publisher
from tests.integration.outgoing import publishing_at
from tests.integration.speaker import Speaker
from tests.support.amqp import WITHIN_S, Inbox, listening
from tests.support.fakes import RecordingPublisher
from tests.support.proxy import Proxy

WINDOW = 4
SOON = timedelta(seconds=0.5)


@dataclass
class Broker:
    """Where attempts publish.

    Attributes:
        hold: Has the broker confirm nothing, and the publisher take few events.
        release: Has it confirm all.
        ids: Waits for so many events and returns their ids.
    """

    publisher: Publisher
    hold: Callable[[], None]
    release: Callable[[], None]
    inbox: Inbox | None

    async def ids(self, count: int) -> list[str | None]:
        if self.inbox is None:
            assert isinstance(self.publisher, RecordingPublisher)
            return [event.message_id.decode() for event in self.publisher.published]
        await self.inbox.received(count)
        return list(self.inbox.ids)


@asynccontextmanager
async def fake_broker() -> AsyncIterator[Broker]:
    sink = RecordingPublisher()

    def hold() -> None:
        sink.room_for = WINDOW
        sink.end_lost = ConnectionError("silent")

    def release() -> None:
        sink.room_for = sink.end_lost = None
        sink.has_room.set()

    yield Broker(sink, hold, release, None)


@asynccontextmanager
async def real_broker(
    proxy: Proxy, names: Names, connection: AbstractConnection
) -> AsyncIterator[Broker]:
    async with (
        listening(connection, names.events) as inbox,
        publishing_at(proxy.url, names, messages=WINDOW, confirm_timeout=SOON) as way,
    ):
        yield Broker(way.publisher, proxy.hold, proxy.release, inbox)
        proxy.release()


@pytest_asyncio.fixture(params=["fake", "real"])
async def broker_of_events(
    request: pytest.FixtureRequest, proxy: Proxy, declared: Names, connection: AbstractConnection
) -> AsyncIterator[Broker]:
    fake = request.param == "fake"
    async with fake_broker() if fake else real_broker(proxy, declared, connection) as ready:
        yield ready


async def test_events_of_an_attempt_come_in_order_and_are_confirmed(
    broker_of_events: Broker,
) -> None:
    speaker = Speaker(broker_of_events.publisher)
    await speaker.attempt_publisher.confirmed()

    for name in ("start", "token", "end"):
        speaker.say(name)
    await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)

    assert await broker_of_events.ids(3) == ["job:1:0", "job:1:1", "job:end"]


async def test_attempts_wait_for_room_together(broker_of_events: Broker) -> None:
    speaker, other = Speaker(broker_of_events.publisher), Speaker(broker_of_events.publisher, "b")
    broker_of_events.hold()
    while not speaker.attempt_publisher.full:
        speaker.say("token")
    assert other.attempt_publisher.full
    room = asyncio.create_task(other.attempt_publisher.room())
    said = await broker_of_events.ids(1)
    assert not room.done()

    broker_of_events.release()
    await asyncio.wait_for(room, WITHIN_S)

    assert not speaker.attempt_publisher.full
    assert said[0] == "job:1:0"


async def test_end_that_is_not_confirmed_is_a_lost_connection(broker_of_events: Broker) -> None:
    speaker = Speaker(broker_of_events.publisher)
    broker_of_events.hold()
    speaker.say("end")

    with pytest.raises(ConnectionError):
        await speaker.attempt_publisher.confirmed()
