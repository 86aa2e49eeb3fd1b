"""Many followers of one client: they share a queue, and none costs the others anything."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pika
import pytest

from aimicromind_schemas import PARTITIONS, EndEvent, Event, encode
from aimicromind_schemas.client import BrokerRefused, Client, Gap
from aimicromind_schemas.client.live import live_queue
from aimicromind_schemas.client.live.buffer import MOST_MESSAGES
from aimicromind_testing import PrivateBroker
from tests.integration.client.publishing import end, headers_of, publish, token
from tests.integration.client.stage import LIVE, STREAMS, all_of, client_of
from tests.integration.stage import Stage
from tests.support import erlang
from tests.support.amqp import WITHIN_S, channels_of, delete_queue, until_no_channels
from tests.support.proxy import Proxy
from tests.support.raw import Raw
from tests.support.raw import publish as publish_raw
from tests.support.waiting import until

Came = list[Event | Gap]


class _Follower:
    """Follows one job to its end, once it may begin to take events.

    Attributes:
        opened: Set once nothing is missed any more.
        takes: Set to have it take events.
    """

    def __init__(self, client: Client, job_id: str) -> None:
        self.opened = asyncio.Event()
        self.takes = asyncio.Event()
        self.came: Came = []
        self._client = client
        self.job_id = job_id

    async def run(self) -> None:
        async with self._client.follow(chat_id=self.job_id, job_id=self.job_id) as items:
            self.opened.set()
            await self.takes.wait()
            async for item in items:
                self.came.append(item)


@asynccontextmanager
async def following(client: Client, jobs: Sequence[str]) -> AsyncIterator[list[_Follower]]:
    """Follow jobs; all of them are open in the body, and have ended behind it."""
    followers = [_Follower(client, job_id) for job_id in jobs]
    async with asyncio.timeout(2 * WITHIN_S), asyncio.TaskGroup() as tasks:
        for follower in followers:
            tasks.create_task(follower.run())
        for follower in followers:
            await follower.opened.wait()
        yield followers


def _jobs(count: int) -> list[str]:
    unique = uuid4().hex[:8]
    return [f"job-{unique}-{number}" for number in range(count)]


async def test_more_followers_than_channels_all_have_their_events(stage: Stage) -> None:
    jobs = _jobs(2_500)
    sent: dict[str, list[Event]] = {it: [token(it, 0), end(it, 1)] for it in jobs}
    async with (
        stage.listening(),
        client_of(stage) as client,
        following(client, jobs) as followers,
    ):
        for follower in followers:
            follower.takes.set()
        channels = await channels_of(stage.broker, LIVE)
        await publish(stage, [event for events in sent.values() for event in events])

    assert {it.job_id: it.came for it in followers} == sent
    assert channels == [2]


async def test_stuck_follower_costs_itself_its_events_and_no_other(stage: Stage) -> None:
    stuck_job, *jobs = _jobs(20)
    count = MOST_MESSAGES + 100
    async with stage.listening(), client_of(stage) as client:
        # What it missed is not in the log.
        for partition in range(PARTITIONS):
            await delete_queue(stage.connection, stage.names.events_log_stream(partition))
        await delete_queue(stage.connection, stage.names.endings)
        async with following(client, [stuck_job, *jobs]) as (stuck, *others):
            for follower in others:
                follower.takes.set()
            await publish(stage, [token(stuck_job, seq) for seq in range(count)])
            await publish(stage, [end(stuck_job, count)])
            await publish(stage, [end(job_id, 0) for job_id in jobs])
            await until(lambda: all(it.came for it in others))
            stuck.takes.set()

    assert [[item.event for item in it.came if not isinstance(item, Gap)] for it in others] == [
        ["end"]
    ] * len(jobs)
    *before, gap, last = stuck.came
    assert len(before) == MOST_MESSAGES
    assert isinstance(gap, Gap)
    assert gap.missing == range(MOST_MESSAGES, count)
    assert isinstance(last, EndEvent)


async def test_events_that_a_slow_follower_missed_come_from_the_log(stage: Stage) -> None:
    (job_id,) = _jobs(1)
    sent: list[Event] = [token(job_id, seq) for seq in range(2 * MOST_MESSAGES)]
    sent.append(end(job_id, len(sent)))
    async with (
        stage.listening(),
        client_of(stage) as client,
        following(client, [job_id]) as (follower,),
    ):
        await publish(stage, sent)
        follower.takes.set()

    assert follower.came == sent


async def test_followers_come_back_together_after_a_lost_connection(
    stage: Stage, proxy: Proxy
) -> None:
    jobs = _jobs(300)
    async with stage.listening(), client_of(stage, proxy.url) as client:
        async with following(client, jobs) as followers:
            for follower in followers:
                follower.takes.set()
            await publish(stage, [token(job_id, 0) for job_id in jobs])
            await until(lambda: all(it.came for it in followers))
            proxy.reset("events")
            # Some are missed, in the log; the others come live.
            await publish(stage, [token(job_id, seq) for seq in (1, 2, 3) for job_id in jobs])
            await publish(stage, [end(job_id, 4) for job_id in jobs])
        channels = await channels_of(stage.broker, LIVE)
        await until_no_channels(stage.broker, STREAMS)

    for follower in followers:
        assert [it.seq for it in follower.came if not isinstance(it, Gap)] == [0, 1, 2, 3, 4]
        assert not any(isinstance(it, Gap) for it in follower.came)
    assert channels == [2]


async def test_chat_that_is_followed_twice_goes_on_for_the_one_who_stays(stage: Stage) -> None:
    (job_id,) = _jobs(1)
    async with (
        stage.listening(),
        client_of(stage) as client,
        client.follow(chat_id=job_id, until=job_id) as stays,
    ):
        async with client.follow(chat_id=job_id) as leaves:
            await publish(stage, [token(job_id, 0)])
            left = await asyncio.wait_for(anext(leaves), WITHIN_S)
        await publish(stage, [token(job_id, 1), end(job_id, 2)])
        stayed = await asyncio.wait_for(all_of(stays), WITHIN_S)

    assert stayed[0] == left
    assert [it.event for it in stayed if not isinstance(it, Gap)] == ["token", "token", "end"]


async def test_follower_of_all_chats_gets_each_event_once_beside_those_of_one(stage: Stage) -> None:
    (job_id,) = _jobs(1)
    async with (
        stage.listening(),
        client_of(stage) as client,
        client.follow(chat_id=job_id) as one,
        client.follow(job_id=job_id) as all_chats,
    ):
        await publish(stage, [token(job_id, 0), end(job_id, 1)])
        came = await asyncio.wait_for(all_of(all_chats), WITHIN_S)
        also = [await asyncio.wait_for(anext(one), WITHIN_S) for _ in range(2)]

    assert came == also
    assert [it.event for it in came if not isinstance(it, Gap)] == ["token", "end"]


async def test_chat_that_was_left_and_is_followed_again_brings_what_is_new(stage: Stage) -> None:
    jobs = _jobs(30)
    async with stage.listening(), client_of(stage) as client:
        for job_id in jobs:
            async with client.follow(chat_id="chat", until=job_id) as items:
                await publish(stage, [end(job_id, 0, chat_id="chat")])
                (came,) = await asyncio.wait_for(all_of(items), WITHIN_S)
            assert isinstance(came, EndEvent)
            assert came.job_id == job_id


async def test_binding_that_the_broker_refuses_is_an_error_for_its_follower_alone(
    stage: Stage,
) -> None:
    (job_id,) = _jobs(1)
    user = f"user-{uuid4().hex[:8]}"
    broker, exchange = stage.broker, stage.names.events
    url = await erlang.add_user(broker, user)
    await broker.rabbitmqctl("set_topic_permissions", user, exchange, "^$", r"^chat\.job-.*")
    async with (
        stage.listening(),
        client_of(stage, url) as client,
        following(client, [job_id]) as (follower,),
    ):
        follower.takes.set()
        with pytest.raises(BrokerRefused, match="access to topic"):
            async with client.follow(chat_id="secret"):
                pass
        await publish(stage, [token(job_id, 0), end(job_id, 1)])

    assert [it.event for it in follower.came if not isinstance(it, Gap)] == ["token", "end"]


async def test_channels_that_run_out_are_an_error_that_names_the_limit() -> None:
    async with (
        PrivateBroker(settings={"channel_max": "4"}) as broker,
        Client.open(broker.url, "few") as client,
    ):
        readers = [client.shared(f"queue-{number}") for number in range(5)]
        with pytest.raises(BrokerRefused, match=r"all 4 channels .*channel_max.*raise that limit"):
            async with readers[0], readers[1], readers[2], readers[3], readers[4]:
                pass
        async with client.shared("queue-0"):
            pass


async def test_end_that_the_broker_dropped_for_a_slow_process_is_found(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_queue, "_MOST_BYTES", 4_000_000)
    job_id, busy_job = _jobs(2)
    count, size_bytes = 750, 10_000

    def in_one_go() -> None:
        """Publish while this process takes nothing: the event loop stands still."""
        events: list[Event] = [
            token(busy_job, seq, data="x" * size_bytes) for seq in range(2 * count)
        ]
        events.insert(count, end(job_id, 0))
        publish_raw(stage.broker.port, [_raw(stage, event) for event in events])

    async with (
        stage.listening(),
        client_of(stage) as client,
        client.follow(chat_id=busy_job),
        following(client, [job_id]) as (follower,),
    ):
        follower.takes.set()
        in_one_go()

    assert [it.event for it in follower.came if not isinstance(it, Gap)] == ["end"]


def _raw(stage: Stage, event: Event) -> Raw:
    message = encode(event)
    properties = pika.BasicProperties(
        headers=headers_of(event),
        message_id=message.properties.message_id,
        type=message.properties.type,
        delivery_mode=2,
    )
    return Raw(message.body, properties, message.routing_key, stage.names.events)
