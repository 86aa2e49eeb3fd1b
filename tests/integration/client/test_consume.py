"""A consumer handles each event, or has it in its dead letters, and holds up no other."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import aio_pika
import pytest
import pytest_asyncio

from aimicromind_schemas import EndEvent, Event, TokenEvent
from aimicromind_schemas.client import (
    BrokerRefused,
    Client,
    ConsumerOptions,
    Gap,
    Handler,
    NothingToListenTo,
    Unprocessable,
)
from aimicromind_testing import Cut, Head, Script, answer, send
from tests.integration.client.consuming import (
    NAME,
    SOON,
    a_token,
    an_end,
    consumed,
    consuming,
    dead_letters,
    publish,
    remove,
)
from tests.integration.client.stage import a_job, client_of
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S, until_in_queue
from tests.support.proxy import Proxy
from tests.support.waiting import until

POISON = "job-500"


@pytest_asyncio.fixture
async def client(stage: Stage) -> AsyncIterator[Client]:
    async with stage.listening(), client_of(stage) as opened:
        yield opened
    await remove(stage)


async def stands_by(stage: Stage) -> None:
    """Wait until a second replica is there: the broker counts the active one alone."""
    queue = stage.names.consumer(NAME)
    async with asyncio.timeout(WITHIN_S):
        while (await stage.broker.rabbitmqctl("list_consumers")).count(f"{queue}\t") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_poison_event_among_1000_becomes_a_dead_letter_and_all_others_are_handled(
    stage: Stage, client: Client
) -> None:
    handled: Counter[str] = Counter()
    tries: Counter[str] = Counter()

    async def on_end(event: EndEvent) -> None:
        tries[event.job_id] += 1
        if event.job_id == POISON:
            raise ValueError("no such customer")
        handled[event.job_id] += 1

    async with consuming(client, {"end": on_end}) as consumer:
        await consumed(stage)
        await publish(stage.connection, stage.names, map(an_end, range(1000)))
        await until(lambda: len(handled) == 999)
        ((event, headers),) = await dead_letters(stage, 1)

    assert set(handled.values()) == {1}
    assert (event["jobId"], tries[POISON]) == (POISON, 3)
    assert headers["x-aimicromind-kind"] == "handler_failed"
    assert headers["x-aimicromind-message"] == "ValueError: no such customer"
    assert headers["x-aimicromind-attempts"] == 3
    assert headers["x-aimicromind-queue"] == stage.names.consumer(NAME)
    counts = consumer.counts
    assert (counts.handled, counts.retried, counts.dead, counts.running) == (999, 2, 1, 0)


async def test_handler_that_fails_every_third_time_handles_each_event_in_the_end(
    stage: Stage, client: Client
) -> None:
    handled: Counter[str] = Counter()
    calls = 0

    async def on_end(event: EndEvent) -> None:
        nonlocal calls
        calls += 1
        if calls % 3 == 0:
            raise OSError
        handled[event.job_id] += 1

    options = ConsumerOptions(retry_after=(*SOON, *SOON, *SOON, *SOON, *SOON))
    async with consuming(client, {"end": on_end}, options) as consumer:
        await consumed(stage)
        await publish(stage.connection, stage.names, map(an_end, range(200)))
        await until(lambda: consumer.counts.handled + consumer.counts.dead == 200)

    assert set(handled.values()) == {1}
    assert len(handled) + consumer.counts.dead == 200
    assert consumer.counts.retried >= 66


async def test_events_of_a_chat_come_in_order_and_one_by_one(stage: Stage, client: Client) -> None:
    seen: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    now: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def on_token(event: TokenEvent) -> None:
        now.update([event.chat_id, "all"])
        most.update({it: max(0, now[it] - most[it]) for it in now})
        await asyncio.sleep(0.002)
        now.subtract([event.chat_id, "all"])
        seen[event.chat_id].append(event.seq)

    async with consuming(client, {"token": on_token}):
        await consumed(stage)
        tokens = [a_token(ord(chat), chat, seq) for seq in range(60) for chat in seen]
        await publish(stage.connection, stage.names, tokens)
        await until(lambda: sum(map(len, seen.values())) == 180)

    assert seen == {chat: list(range(60)) for chat in seen}
    assert most == {"a": 1, "b": 1, "c": 1, "all": 3}


async def test_chat_whose_handler_hangs_holds_up_no_other_chat(
    stage: Stage, client: Client
) -> None:
    handled: list[str] = []

    async def on_end(event: EndEvent) -> None:
        if event.chat_id == "stuck":
            await asyncio.sleep(3600)
        handled.append(event.job_id)

    options = ConsumerOptions(at_once=2, retry_after=SOON, drain=timedelta())
    async with consuming(client, {"end": on_end}, options):
        await consumed(stage)
        await publish(stage.connection, stage.names, [an_end(it, "stuck") for it in range(5)])
        await publish(stage.connection, stage.names, map(an_end, range(5, 50)))
        await until(lambda: len(handled) == 45)


async def test_failed_event_is_retried_after_later_events_of_its_chat(
    stage: Stage, client: Client
) -> None:
    handled: list[int] = []
    failed = False

    async def on_end(event: EndEvent) -> None:
        nonlocal failed
        if event.job_id == "job-0" and not failed:
            failed = True
            raise OSError
        handled.append(int(event.job_id.removeprefix("job-")))

    async with consuming(client, {"end": on_end}):
        await consumed(stage)
        await publish(stage.connection, stage.names, [an_end(it, "chat") for it in range(5)])
        await until(lambda: len(handled) == 5)

    assert handled == [1, 2, 3, 4, 0]


async def test_repeat_of_a_handled_end_is_not_handled(stage: Stage, client: Client) -> None:
    handled: list[str] = []

    async def on_end(event: EndEvent) -> None:
        handled.append(event.job_id)

    async with consuming(client, {"end": on_end}) as consumer:
        await consumed(stage)
        await publish(stage.connection, stage.names, [an_end(1), an_end(1), an_end(2), an_end(1)])
        await until(lambda: consumer.counts.repeats == 2)

    assert sorted(handled) == ["job-1", "job-2"]


async def test_unprocessable_event_is_not_retried(stage: Stage, client: Client) -> None:
    async def on_end(_: EndEvent) -> None:
        raise Unprocessable("no such customer")

    async with consuming(client, {"end": on_end}) as consumer:
        await consumed(stage)
        await publish(stage.connection, stage.names, [an_end(1)])
        ((_, headers),) = await dead_letters(stage, 1)

    assert headers["x-aimicromind-kind"] == "unprocessable"
    assert headers["x-aimicromind-attempts"] == 1
    assert consumer.counts.retried == 0


async def test_handler_beyond_its_time_limit_has_failed(stage: Stage, client: Client) -> None:
    async def on_end(_: EndEvent) -> None:
        await asyncio.sleep(3600)

    options = ConsumerOptions(retry_after=SOON, time_limit=timedelta(milliseconds=50))
    async with consuming(client, {"end": on_end}, options):
        await consumed(stage)
        await publish(stage.connection, stage.names, [an_end(1)])
        ((_, headers),) = await dead_letters(stage, 1)

    assert headers["x-aimicromind-message"] == "the handler took longer than 0.05 s"


async def test_messages_that_are_no_events_become_dead_letters(
    stage: Stage, client: Client
) -> None:
    handled: list[str] = []

    async def on_end(event: EndEvent) -> None:
        handled.append(event.job_id)

    other_shape = an_end(3).wire() | {"data": {"status": 7}}
    async with consuming(client, {"end": on_end}) as consumer:
        await consumed(stage)
        async with stage.connection.channel() as channel:
            exchange = await channel.get_exchange(stage.names.events)
            for body in (b"no event", json.dumps(other_shape, default=str).encode()):
                odd: dict[str, Any] = {"CC": ["x"], "attempt": "y" * 50_000, "x-death": [{"a": 1}]}
                await exchange.publish(aio_pika.Message(body, headers=odd), "chat.c.end")
        await publish(stage.connection, stage.names, [an_end(1)])
        letters = await dead_letters(stage, 2)
        await until(lambda: handled)

    assert [headers["x-aimicromind-kind"] for _, headers in letters] == ["unreadable"] * 2
    assert [headers["x-aimicromind-attempts"] for _, headers in letters] == [0, 0]
    assert consumer.counts.dead == 2


async def test_cancel_requeues_what_is_not_handled(stage: Stage, client: Client) -> None:
    begun: list[str] = []
    handled: list[str] = []
    go_on = asyncio.Event()

    async def slowly(event: EndEvent) -> None:
        begun.append(event.job_id)
        await go_on.wait()
        handled.append(event.job_id)

    options = ConsumerOptions(at_once=3, retry_after=SOON)
    async with consuming(client, {"end": slowly}, options) as consumer:
        await consumed(stage)
        await publish(stage.connection, stage.names, map(an_end, range(40)))
        await until(lambda: len(begun) == 3)
        stopping = asyncio.create_task(consumer.stop())
        await asyncio.sleep(0)
        go_on.set()
        await stopping
    await until_in_queue(stage.connection, stage.names.consumer(NAME), 37)
    async with consuming(client, {"end": slowly}, ConsumerOptions(at_once=40, retry_after=SOON)):
        await until(lambda: len(handled) == 40)

    assert consumer.counts.handled == 3
    assert len(set(handled)) == 40


async def test_consumer_goes_on_after_a_lost_connection(stage: Stage, proxy: Proxy) -> None:
    handled: Counter[str] = Counter()

    async def on_end(event: EndEvent) -> None:
        await asyncio.sleep(0.01)
        handled[event.job_id] += 1

    async with (
        stage.listening(),
        client_of(stage, proxy.url) as client,
        consuming(client, {"end": on_end}),
    ):
        await consumed(stage)
        await publish(stage.connection, stage.names, map(an_end, range(300)))
        for enough in (50, 150):
            await until(lambda enough=enough: len(handled) > enough)  # type: ignore[misc]
            proxy.reset("events")
        await until(lambda: len(handled) == 300)
    await remove(stage)

    assert set(handled.values()) == {1}


async def test_second_replica_stands_by_and_goes_on(stage: Stage, client: Client) -> None:
    handled: list[tuple[str, str]] = []

    def by(replica: str) -> Handler:
        async def on_end(event: EndEvent) -> None:
            handled.append((replica, event.job_id))

        return on_end

    async with (
        client_of(stage) as other,
        consuming(client, {"end": by("first")}) as first,
    ):
        await consumed(stage)
        async with consuming(other, {"end": by("second")}):
            await stands_by(stage)
            await publish(stage.connection, stage.names, map(an_end, range(20)))
            await until(lambda: len(handled) == 20)
            await first.stop()
            await publish(stage.connection, stage.names, map(an_end, range(20, 40)))
            await until(lambda: len(handled) == 40)

    assert [replica for replica, _ in handled] == ["first"] * 20 + ["second"] * 20


async def test_replicas_share_a_queue_that_is_not_in_order(stage: Stage, client: Client) -> None:
    handled: Counter[str] = Counter()

    def by(replica: str) -> Handler:
        async def on_end(_: EndEvent) -> None:
            await asyncio.sleep(0.01)
            handled[replica] += 1

        return on_end

    options = ConsumerOptions(at_once=1, retry_after=SOON, in_order=False)
    async with (
        client_of(stage) as other,
        consuming(client, {"end": by("first")}, options),
        consuming(other, {"end": by("second")}, options),
    ):
        await consumed(stage, 2)
        await publish(stage.connection, stage.names, map(an_end, range(100)))
        await until(lambda: handled.total() == 100)

    assert handled["first"] > 10
    assert handled["second"] > 10


async def test_event_that_is_no_longer_handled_is_no_longer_bound(
    stage: Stage, client: Client
) -> None:
    handled: list[Event] = []

    async def on_any(event: Event) -> None:
        handled.append(event)

    async with consuming(client, {"end": on_any, "token": on_any}):
        await consumed(stage)
    async with consuming(client, {"end": on_any}):
        await consumed(stage)
        await publish(stage.connection, stage.names, [a_token(1, "chat", 0), an_end(2, "chat")])
        await until(lambda: handled)

    assert [event.event for event in handled] == ["end"]


async def test_queue_with_other_options_is_a_clear_error(stage: Stage, client: Client) -> None:
    async def on_end(_: EndEvent) -> None: ...

    async with consuming(client, {"end": on_end}):
        await consumed(stage)
    with pytest.raises(BrokerRefused, match="inequivalent arg"):
        await client.consume(NAME, {"end": on_end}, ConsumerOptions(max_bytes=1))


async def test_consumer_without_an_exchange_is_a_clear_error(stage: Stage) -> None:
    async def on_end(_: EndEvent) -> None: ...

    async with client_of(stage) as client:
        with pytest.raises(NothingToListenTo, match=stage.names.events):
            await client.consume(NAME, {"end": on_end}, ConsumerOptions(retry_after=SOON))
    await remove(stage)


async def test_delay_queue_that_was_deleted_is_declared_again(stage: Stage, client: Client) -> None:
    calls = 0

    async def on_end(_: EndEvent) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError

    async with consuming(client, {"end": on_end}) as consumer:
        await consumed(stage)
        async with stage.connection.channel() as channel:
            await channel.queue_delete(stage.names.consumer_delay(NAME, SOON[0]))
        await publish(stage.connection, stage.names, [an_end(1)])
        await until(lambda: consumer.counts.handled == 1)


async def test_whole_answer_is_the_last_attempt(stage: Stage) -> None:
    broken = Script.of(Head(), send("token", "lost"), Cut())
    stage.endpoint.flow("flow", broken, answer(5))
    answers: list[list[Event | Gap]] = []
    async with stage.working() as chats, client_of(stage) as client:

        async def on_end(event: EndEvent) -> None:
            answers.append(await client.whole_answer(event))

        async with consuming(client, {"end": on_end}):
            await consumed(stage)
            job_id = await client.submit(a_job())
            end = await chats.end_of(job_id)
            await until(lambda: answers)
    await remove(stage)

    (whole,) = answers
    assert {event.attempt for event in whole} == {2}
    tokens = [event.data for event in whole if isinstance(event, TokenEvent)]
    assert "".join(tokens) == end["text"]
    assert isinstance(whole[-1], EndEvent)
