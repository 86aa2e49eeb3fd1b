import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

import pytest
from aio_pika.abc import AbstractConnection
from aiormq.abc import FieldTable

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.events.attempt_publisher import BrokerSilent, EventPublisher
from aimicromind_worker.amqp.topology import Exchange, Queue, Topology
from tests.integration.outgoing import sink_at
from tests.integration.speaker import Speaker
from tests.integration.wire import Wire
from tests.support.amqp import (
    WITHIN_S,
    Inbox,
    listening,
    reading,
)
from tests.support.waiting import until

SOON: Final = timedelta(milliseconds=300)
_AT_ONCE_S: Final = 0.4
TAKES_ONE: Final[FieldTable] = {"x-max-length": 1, "x-overflow": "reject-publish"}


async def until_refused(publisher: EventPublisher) -> None:
    """Wait until the broker has refused an event."""
    await until(lambda: publisher.counts.refused)


@asynccontextmanager
async def full_queue(connection: AbstractConnection, names: Names) -> AsyncIterator[str]:
    """Have a consumer's queue that takes one event and refuses the rest."""
    async with connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True, arguments=TAKES_ONE)
        await queue.bind(names.events, "#")
        yield queue.name


async def test_full_queue_of_one_consumer_costs_the_others_nothing(wire: Wire) -> None:
    async with (
        full_queue(wire.connection, wire.names),
        wire.reading(wire.names.endings) as endings,
        wire.events(resend_for=SOON) as (way, box),
    ):
        speaker = Speaker(way.publisher)
        for _ in range(5):
            speaker.say("token", "word ")
        speaker.say("end")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        await box.until(lambda: len(box.ids) == 6)
        # One by the exchange, one straight.
        await endings.received(2)

        assert way.publisher.counts.passed_over == 5
        assert way.publisher.counts.ends_straight == 1
        assert not way.publisher.backpressure.is_full
    assert list(box.ids) == [*(f"job:1:{seq}" for seq in range(5)), "job:end"]
    assert set(endings.ids) == {"job:end"}
    assert endings.messages[-1].exchange == ""


async def test_repeats_of_a_refused_event_are_the_same_message(wire: Wire) -> None:
    async with (
        full_queue(wire.connection, wire.names),
        wire.events(resend_for=SOON) as (way, box),
    ):
        speaker = Speaker(way.publisher)
        speaker.say("token", "first")
        speaker.say("token", "second")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        messages = await box.received(3)

    repeats = [message for message in messages if message.message_id == "job:1:1"]
    assert len(repeats) > 1
    assert {message.body for message in repeats} == {repeats[0].body}


async def test_queue_that_has_room_again_gets_what_it_refused(wire: Wire) -> None:
    async with (
        full_queue(wire.connection, wire.names) as full,
        wire.events(resend_for=timedelta(seconds=WITHIN_S)) as (way, box),
    ):
        speaker = Speaker(way.publisher)
        speaker.say("token", "first")
        speaker.say("token", "second")
        await box.received(2)

        async with wire.connection.channel() as channel:
            late = Inbox()
            await (await channel.get_queue(full)).consume(late.take, no_ack=True)
            await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
            await late.received(2)

        assert way.publisher.counts.passed_over == 0
    assert list(late.ids) == ["job:1:0", "job:1:1"]


async def test_lanes_that_were_not_refused_do_not_wait_for_one_that_was(wire: Wire) -> None:
    async with wire.connection.channel() as channel:
        full = await channel.declare_queue(exclusive=True, arguments=TAKES_ONE)
        await full.bind(wire.names.events, "chat.refused.#")
        async with wire.publishing() as way:
            refused = Speaker(way.publisher, "job-1", chat_id="refused")
            for _ in range(3):
                refused.say("token", "word ")
            other = Speaker(way.publisher, "job-2", chat_id="other")
            other.say("token", "word ")
            other.say("end")

            await asyncio.wait_for(other.attempt_publisher.confirmed(), WITHIN_S)

            assert way.publisher.counts.passed_over == 0


async def test_what_follows_a_refused_event_comes_later_by_the_bound_and_only_once(
    wire: Wire,
) -> None:
    bound = timedelta(seconds=1)
    loop = asyncio.get_running_loop()
    async with (
        full_queue(wire.connection, wire.names),
        wire.events(resend_for=bound) as (way, box),
    ):
        speaker = Speaker(way.publisher)
        speaker.say("token", "first")
        speaker.say("token", "refused")
        await until_refused(way.publisher)
        since = loop.time()
        speaker.say("token", "held")
        await box.until(lambda: len(box.ids) == 3)
        held_s = loop.time() - since
        speaker.say("token", "later")
        await box.until(lambda: len(box.ids) == 4)
        later_s = loop.time() - since - held_s

    assert bound.total_seconds() / 2 < held_s < bound.total_seconds() + _AT_ONCE_S
    assert later_s < _AT_ONCE_S


async def test_next_attempt_does_not_overtake_what_is_held_of_the_one_before(wire: Wire) -> None:
    async with (
        full_queue(wire.connection, wire.names),
        wire.events(resend_for=SOON) as (way, box),
    ):
        first = Speaker(way.publisher)
        first.say("start")
        first.say("token", "refused")
        await until_refused(way.publisher)
        first.say("retry")
        second = Speaker(way.publisher, attempt=2)
        second.say("start")
        await asyncio.wait_for(second.attempt_publisher.confirmed(), WITHIN_S)
        await box.until(lambda: len(box.ids) == 4)

    assert list(box.ids) == ["job:1:0", "job:1:1", "job:1:2", "job:2:0"]


async def test_queue_that_takes_a_few_at_a_time_gets_all_for_who_takes_only_the_next_one(
    wire: Wire,
) -> None:
    few: FieldTable = {"x-max-length": 3, "x-overflow": "reject-publish"}
    taken: list[str | None] = []
    async with (
        wire.connection.channel() as channel,
        listening(wire.connection, wire.names.events) as box,
    ):
        queue = await channel.declare_queue(exclusive=True, arguments=few)
        await queue.bind(wire.names.events, "#")
        window: dict[str, Any] = {"resend_for": timedelta(minutes=1)}
        async with wire.publishing(**window) as way, asyncio.timeout(30):
            speaker = Speaker(way.publisher)
            for _ in range(30):
                speaker.say("token", "word ")
            while len(taken) < 30:
                message = await queue.get(fail=False, no_ack=True)
                if message is not None and message.message_id == f"job:1:{len(taken)}":
                    taken.append(message.message_id)
            await speaker.attempt_publisher.confirmed()

        assert way.publisher.counts.refused > 0
        assert way.publisher.counts.passed_over == 0
    assert list(box.ids) == taken


async def test_refused_reply_copies_are_passed_over_and_the_chat_is_whole(wire: Wire) -> None:
    async with wire.connection.channel() as channel:
        replies = await channel.declare_queue(exclusive=True, arguments=TAKES_ONE)
        async with wire.events(resend_for=SOON) as (way, box):
            speaker = Speaker(way.publisher, reply_to=replies.name)
            for name in ("start", "token", "end"):
                speaker.say(name)
            await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
            await box.received(3)

            assert way.publisher.counts.passed_over == 2
    assert [message.message_id for message in box.messages] == ["job:1:0", "job:1:1", "job:end"]


async def test_reply_queue_that_refuses_delays_no_event_of_the_chat(wire: Wire) -> None:
    loop = asyncio.get_running_loop()
    async with wire.connection.channel() as channel:
        replies = await channel.declare_queue(exclusive=True, arguments=TAKES_ONE)
        async with wire.events(resend_for=timedelta(minutes=1)) as (way, box):
            speaker = Speaker(way.publisher, reply_to=replies.name)
            speaker.say("start")
            speaker.say("token")
            await until_refused(way.publisher)
            since = loop.time()
            speaker.say("token")
            speaker.say("end")
            await box.received(4)
            took_s = loop.time() - since

    assert took_s < _AT_ONCE_S


async def test_end_that_no_queue_takes_goes_straight_to_the_endings(
    broker: PrivateBroker, names: Names, connection: AbstractConnection
) -> None:
    unbound = Queue(names.endings, {"x-queue-type": "stream"})
    await declare(connection, Topology((Exchange(names.events),), (unbound,)))
    async with (
        sink_at(broker.url, names, resend_for=SOON) as publisher,
        reading(connection, names.endings) as endings,
    ):
        speaker = Speaker(publisher)
        speaker.say("token", "Once")
        end = speaker.say("end")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        [message] = await endings.received(1)

    assert message.exchange == ""
    assert message.message_id == "job:end"
    assert message.body == end.body
    assert message.headers["attempt"] == 1


async def test_end_is_not_confirmed_while_no_queue_at_all_takes_it(
    broker: PrivateBroker, names: Names, connection: AbstractConnection
) -> None:
    await declare(connection, Topology((Exchange(names.events),), ()))
    window: dict[str, Any] = {"resend_for": SOON, "confirm_timeout": timedelta(seconds=1.5)}
    async with sink_at(broker.url, names, **window) as publisher:
        speaker = Speaker(publisher)
        speaker.say("end")

        with pytest.raises(BrokerSilent):
            await speaker.attempt_publisher.confirmed()
