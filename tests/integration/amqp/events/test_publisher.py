import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractConnection

from aimicromind_schemas import Names, decode
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.events import confirm_channel
from aimicromind_worker.amqp.events.confirm_channel import PartsChanged
from aimicromind_worker.core.job.numbering import NumberedEvent
from tests.integration.outgoing import sink_at
from tests.integration.speaker import Speaker
from tests.support.amqp import WITHIN_S, Inbox, listening
from tests.support.proxy import Proxy

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FRAME_MAX = 131_072
FRAME_OVERHEAD = 8


async def test_event_carries_the_properties_and_headers_of_the_contract(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection
) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    async with (
        sink_at(broker.url, declared) as publisher,
        listening(connection, declared.events) as box,
    ):
        speaker = Speaker(publisher, attempt=3, correlation_id="asked", traceparent=TRACE)

        speaker.say("token", "Once")
        await speaker.lane.confirmed()
        [message] = await box.received(1)

    assert message.routing_key == "chat.chat.token"
    assert message.message_id == "job:3:0"
    assert message.type == "token"
    assert message.correlation_id == "asked"
    assert message.content_type == "application/json"
    assert message.app_id == "aimicromind-worker"
    assert message.delivery_mode == DeliveryMode.PERSISTENT
    assert message.timestamp is not None
    assert before <= message.timestamp <= datetime.now(UTC)
    assert message.headers == {
        "attempt": 3,
        "seq": 0,
        "chatflowId": "flow",
        "x-stream-filter-value": "chat",
        "traceparent": TRACE,
    }
    event = decode(message.body)
    assert (event.job_id, event.chat_id, event.chatflow_id) == ("job", "chat", "flow")
    assert (event.attempt, event.seq, event.event, event.data) == (3, 0, "token", "Once")


async def test_event_without_a_trace_has_no_trace_header(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection
) -> None:
    async with (
        sink_at(broker.url, declared) as publisher,
        listening(connection, declared.events) as box,
    ):
        Speaker(publisher).say("token", "Once")
        [message] = await box.received(1)

    assert message.headers.keys() == {"attempt", "seq", "chatflowId", "x-stream-filter-value"}


async def test_end_has_the_message_id_of_its_job(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection
) -> None:
    async with (
        sink_at(broker.url, declared) as publisher,
        listening(connection, declared.events) as box,
    ):
        Speaker(publisher, "job-7").say("end")
        [message] = await box.received(1)

    assert message.message_id == "job-7:end"


@pytest.mark.parametrize(
    ("chat_id", "name", "key"),
    [
        ("a.b", "token", "chat.a%2Eb.token"),
        ("*", "x.y", "chat.%2A.x%2Ey"),
        ("#", "token", "chat.%23.token"),
        ("Ä", "größe", "chat.%C3%84.gr%C3%B6%C3%9Fe"),
    ],
)
async def test_names_reach_a_key_escaped_and_the_message_as_they_are(
    broker: PrivateBroker,
    declared: Names,
    connection: AbstractConnection,
    chat_id: str,
    name: str,
    key: str,
) -> None:
    async with (
        sink_at(broker.url, declared) as publisher,
        listening(connection, declared.events, f"{key.rpartition('.')[0]}.#") as box,
    ):
        Speaker(publisher, chat_id=chat_id).say(name, 1)
        [message] = await box.received(1)

    assert message.routing_key == key
    assert message.type == name
    assert message.headers["x-stream-filter-value"] == chat_id
    assert decode(message.body).chat_id == chat_id


async def test_thousands_of_events_over_many_lanes_arrive_in_the_order_of_each(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection
) -> None:
    lanes, each = 40, 150
    async with (
        sink_at(broker.url, declared, messages=64) as publisher,
        listening(connection, declared.events) as box,
    ):

        async def speak(number: int) -> None:
            speaker = Speaker(publisher, f"job-{number}", chat_id=f"chat-{number}")
            for _ in range(each):
                speaker.say("token", "word ")
                if speaker.lane.full:
                    await speaker.lane.room()
            await speaker.lane.confirmed()

        async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as group:
            for number in range(lanes):
                group.create_task(speak(number))
        await box.received(lanes * each)

    orders: dict[str, list[int]] = {}
    for said in box.bodies():
        orders.setdefault(said["jobId"], []).append(said["seq"])
    assert orders == {f"job-{number}": list(range(each)) for number in range(lanes)}


@pytest.mark.parametrize(
    "size",
    [
        1,
        FRAME_MAX - FRAME_OVERHEAD - 1,
        FRAME_MAX - FRAME_OVERHEAD,
        FRAME_MAX - FRAME_OVERHEAD + 1,
        2 * (FRAME_MAX - FRAME_OVERHEAD),
        8 * 1024 * 1024,
    ],
)
async def test_body_of_any_size_arrives_as_it_was(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection, size: int
) -> None:
    body = (bytes(range(256)) * (size // 256 + 1))[:size]
    async with (
        sink_at(broker.url, declared) as publisher,
        listening(connection, declared.events) as box,
    ):
        speaker = Speaker(publisher)

        speaker.publish(NumberedEvent("token", 0, b"job:1:0", 1_700_000_000, body))
        speaker.publish(NumberedEvent("token", 1, b"job:1:1", 1_700_000_000, b"next"))
        messages = await box.received(2)

    # Not `==` in the assertion itself: pytest would print megabytes.
    arrived_whole = messages[0].body == body
    assert arrived_whole
    assert messages[1].body == b"next"


async def test_events_are_confirmed_only_when_the_broker_says_so(
    declared: Names, connection: AbstractConnection, proxy: Proxy
) -> None:
    async with (
        sink_at(proxy.url, declared) as publisher,
        listening(connection, declared.events) as box,
    ):
        speaker = Speaker(publisher)
        proxy.hold()
        speaker.say("token", "Once")
        speaker.say("end")
        confirmed = asyncio.create_task(speaker.lane.confirmed())
        await box.received(2)

        confirmed_before = confirmed.done()
        proxy.release()
        await asyncio.wait_for(confirmed, WITHIN_S)

    assert not confirmed_before


@pytest.mark.parametrize("window", [{"messages": 4}, {"size_bytes": 4096}])
async def test_full_window_opens_again_when_the_broker_confirms(
    declared: Names, connection: AbstractConnection, proxy: Proxy, window: dict[str, int]
) -> None:
    async with (
        sink_at(proxy.url, declared, **window) as publisher,
        listening(connection, declared.events) as box,
    ):
        speaker, other = Speaker(publisher), Speaker(publisher, "other")
        proxy.hold()
        while not speaker.lane.full:
            speaker.say("token", "x" * 800)
        other_is_full = other.lane.full
        room = asyncio.create_task(other.lane.room())
        await box.received(2)

        opened_before = room.done()
        proxy.release()
        await asyncio.wait_for(room, WITHIN_S)

        assert not speaker.lane.full
    assert other_is_full
    assert not opened_before


async def test_copies_reach_a_client_that_uses_direct_reply_to_until_it_has_gone(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection
) -> None:
    async with connection.channel() as channel, sink_at(broker.url, declared) as publisher:
        replies = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False)
        copies = Inbox()
        await replies.consume(copies.take, no_ack=True)
        asked = Message(b"{}", reply_to="amq.rabbitmq.reply-to")
        await channel.default_exchange.publish(asked, declared.jobs)
        job = await (await channel.get_queue(declared.jobs)).get(no_ack=True)
        assert job is not None
        speaker = Speaker(publisher, reply_to=job.reply_to)

        speaker.say("token", "Once")
        await copies.received(1)
        await channel.close()
        speaker.say("end")
        await asyncio.wait_for(speaker.lane.confirmed(), WITHIN_S)

    assert [copy.type for copy in copies.messages] == ["token"]


@pytest.mark.parametrize("reply_to", ["nobody.here", "amq.rabbitmq.reply-to.gone", "é" * 100])
async def test_reply_queue_that_is_not_there_hurts_nothing(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection, reply_to: str
) -> None:
    async with (
        sink_at(broker.url, declared) as publisher,
        listening(connection, declared.events) as box,
    ):
        speaker = Speaker(publisher, reply_to=reply_to)

        speaker.say("token", "Once")
        speaker.say("end")
        await asyncio.wait_for(speaker.lane.confirmed(), WITHIN_S)
        await box.received(2)

        assert publisher.counts.passed_over == 0
    assert [message.type for message in box.messages] == ["token", "end"]


async def test_missing_part_of_aiormq_is_named(
    broker: PrivateBroker, declared: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirm_channel, "_UNBLOCKED", "_Connection__renamed")

    with pytest.raises(PartsChanged, match=r"aiormq \S+ has no Connection\._Connection__renamed"):
        async with sink_at(broker.url, declared):
            pass
