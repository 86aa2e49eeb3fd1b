import asyncio
import random
from datetime import UTC, datetime, timedelta

import anyio
import pytest

from aimicromind_schemas import PARTITIONS, EndEvent, StartEvent
from aimicromind_schemas.client import Gap, NoEventLog, NothingToListenTo, Position
from aimicromind_testing import Cut, Head, Script, answer, send
from tests.integration.client.stage import STREAMS, a_job, all_of, client_of, published
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import WITHIN_S, delete_queue, until_no_channels
from tests.support.proxy import Proxy
from tests.support.waiting import until


async def test_request_brings_all_events_of_the_job(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(20))
    async with stage.working() as chats, client_of(stage) as client:
        job = a_job()
        async with client.request(job) as events:
            came = await all_of(events)
        await chats.end_of(job.job_id or "")

    assert came == await published(chats, job.job_id or "")
    assert isinstance(came[-1], EndEvent)


async def test_late_joiners_have_the_same_as_one_who_was_there(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(200, rate=100))
    chance = random.Random(7)
    async with stage.working() as chats, client_of(stage) as client:
        job = a_job()
        job_id = await client.submit(job)

        async def join(after_s: float) -> list[object]:
            await asyncio.sleep(after_s)
            async with client.follow(chat_id=job.chat_id, from_start=True, until=job_id) as events:
                return [item async for item in events]

        joined = await asyncio.gather(*(join(chance.uniform(0, 3.5)) for _ in range(15)))
        await chats.end_of(job_id)

    for came in joined:
        assert came == await published(chats, job_id)


async def test_lost_connections_lose_and_double_nothing(stage: Stage, proxy: Proxy) -> None:
    stage.endpoint.flow("flow", answer(400, rate=100))
    chance = random.Random(3)
    async with stage.working() as chats, client_of(stage, proxy.url) as client:
        job = a_job()

        async def cut_now_and_then() -> None:
            while True:
                await asyncio.sleep(chance.uniform(0.1, 0.8))
                proxy.reset("events")

        async with client.request(job) as events:
            cutting = asyncio.create_task(cut_now_and_then())
            came = await all_of(events)
            cutting.cancel()
        await chats.end_of(job.job_id or "")

    assert proxy._accepted > 5  # noqa: SLF001 - that it was cut is what the test is about
    assert came == await published(chats, job.job_id or "")


async def test_chat_goes_on_over_a_lost_connection_with_what_is_new(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("flow", answer(5))
    async with stage.working() as chats, client_of(stage, proxy.url) as client:
        before, first, second = (a_job(chat_id="chat") for _ in range(3))
        await client.result(await client.submit(before))
        async with client.follow(chat_id="chat", until=second.job_id) as events:
            await client.result(await client.submit(first))
            proxy.reset("events")
            await client.submit(second)
            came = await all_of(events)
        await chats.end_of(second.job_id or "")

    wanted = [await published(chats, job.job_id or "") for job in (first, second)]
    assert came == [event for events in wanted for event in events]


@pytest.mark.parametrize("seq", [0, 7, 11])
async def test_reading_goes_on_after_the_last_event_that_was_seen(stage: Stage, seq: int) -> None:
    stage.endpoint.flow("flow", answer(12))
    async with stage.working() as chats, client_of(stage) as client:
        job_id = await client.submit(a_job())
        await chats.end_of(job_id)

        async with client.follow(job_id=job_id, after=Position(1, seq)) as events:
            came = await all_of(events)

    assert came == (await published(chats, job_id))[seq + 1 :]


async def test_job_of_another_client_is_followed_without_its_chat(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(12))
    async with stage.working() as chats, client_of(stage) as one, client_of(stage) as other:
        job_id = await one.submit(a_job())
        await one.submit(a_job())

        since = datetime.now(UTC) - timedelta(minutes=1)
        async with other.follow(job_id=job_id, from_start=since) as events:
            came = await all_of(events)
        await chats.end_of(job_id)

    assert came == await published(chats, job_id)


async def test_newer_attempt_replaces_the_older(stage: Stage) -> None:
    broken = Script.of(Head(), send("start", ""), send("token", "half "), Cut())
    stage.endpoint.flow("flow", broken, answer(3))
    async with stage.working(recovery_seconds=0) as chats, client_of(stage) as client:
        job = a_job()
        async with client.request(job) as events:
            came = await all_of(events)
        await chats.end_of(job.job_id or "")

    assert [item.attempt for item in came if isinstance(item, StartEvent)] == [1, 2]
    assert came == await published(chats, job.job_id or "")


async def test_who_comes_late_without_the_log_is_told_what_is_missing(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(100, rate=50))
    async with stage.working() as chats, client_of(stage) as client:
        job_id = await client.submit(a_job())
        await chats.shows("token")
        async with client.follow(job_id=job_id) as events:
            came = await all_of(events)
        await chats.end_of(job_id)

    gap, *rest = came
    assert isinstance(gap, Gap)
    assert (gap.job_id, gap.attempt, gap.missing.start) == (job_id, 1, 0)
    assert rest == (await published(chats, job_id))[gap.missing.stop :]


async def test_silent_chat_leaves_the_log_to_others(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(1000, rate=50))
    async with stage.working(), client_of(stage) as client:
        busy = await client.submit(a_job())
        async with client.follow(chat_id="silent", from_start=True) as events:
            reading = asyncio.ensure_future(anext(events))
            await until_no_channels(stage.broker, STREAMS)
            reading.cancel()
            await asyncio.wait([reading])
        await client.cancel(job_id=busy)


async def test_long_reading_tells_how_far_it_is(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2000))
    async with stage.working() as chats, client_of(stage) as client:
        first, foreign = a_job(), a_job()
        for job in (first, foreign):
            await chats.end_of(await client.submit(job))
        count, shares = len(await published(chats, first.job_id or "")), []
        async with client_of(stage) as late:
            async with late.follow(chat_id=first.chat_id, from_start=True) as events:
                async with asyncio.timeout(WITHIN_S):
                    async for _ in events:
                        shares.append(events.progress)
                        if len(shares) == count:
                            break
            async with late.follow(chat_id="silent", from_start=True) as events:
                waiting = asyncio.ensure_future(anext(events))
                await until(lambda: events.progress == 1)
                waiting.cancel()
                await asyncio.wait([waiting])

    assert shares == sorted(shares)
    assert 0 <= shares[0] < shares[-1] <= 1


async def test_without_event_log_the_past_is_a_clear_error(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(5))
    async with working(stage.settings(events_log=False)), client_of(stage) as client:
        with pytest.raises(NoEventLog, match="AIMICROMIND_EVENTS_LOG"):
            async with client.follow(chat_id="c", from_start=True):
                pass
        async with client.request(a_job()) as events:
            came = await all_of(events)

    assert [item.event for item in came if not isinstance(item, Gap)][-1] == "end"


async def test_without_event_log_the_end_comes_after_a_lost_connection(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("flow", answer(50, rate=50))
    async with (
        working(stage.settings(events_log=False)),
        client_of(stage, proxy.url) as client,
        client_of(stage) as other,
    ):
        job = a_job()
        async with client.request(job) as events:
            came = [await anext(events)]
            proxy.part()
            proxy.reset("events")
            await other.result(job.job_id or "", chat_id=job.chat_id)
            proxy.release()
            came += await all_of(events)

    assert any(isinstance(item, Gap) for item in came)
    assert isinstance(came[-1], EndEvent)


async def test_following_what_nobody_declared_is_a_clear_error(stage: Stage) -> None:
    async with client_of(stage) as client:
        with pytest.raises(NothingToListenTo, match=stage.names.events):
            async with client.follow(chat_id="c"):
                pass


async def test_event_log_deleted_meanwhile_is_told_as_a_gap(stage: Stage, proxy: Proxy) -> None:
    stage.endpoint.flow("flow", answer(60, rate=50))
    async with stage.working(), client_of(stage, proxy.url) as client:
        job = a_job()
        async with client.request(job) as events:
            await anext(events)
            for partition in range(PARTITIONS):
                await delete_queue(stage.connection, stage.names.events_log_stream(partition))
            proxy.reset("events")
            came = await all_of(events)

    assert isinstance(came[-1], EndEvent)


async def test_connection_that_is_lost_while_a_follow_begins_is_opened_again(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("flow", answer(3))
    job = a_job()

    async def follow() -> list[object]:
        async with client.follow(chat_id=job.chat_id, until=job.job_id) as events:
            begun.set()
            return [item async for item in events]

    async with stage.working() as chats, client_of(stage, proxy.url) as client:
        proxy.hold("events")
        begun = asyncio.Event()
        following = asyncio.create_task(follow())
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(begun.wait(), 0.3)
        proxy.reset("events")
        await asyncio.wait_for(begun.wait(), WITHIN_S)
        await client.submit(job)

        came = await asyncio.wait_for(following, WITHIN_S)
        assert came == await published(chats, job.job_id or "")


async def test_followers_that_a_cancelled_scope_ends_leave_no_channel_and_no_binding(
    stage: Stage,
) -> None:
    chance = random.Random(9)
    async with stage.working(), client_of(stage) as client:

        async def follow_a_while() -> None:
            # Such a scope cancels each further wait in it, not one only.
            with anyio.move_on_after(chance.uniform(0, 1.5)):
                async with client.follow(chat_id="chat", from_start=True) as events:
                    async for _ in events:
                        pass

        await asyncio.gather(*(follow_a_while() for _ in range(40)))
        await until_no_channels(stage.broker, STREAMS)
        async with asyncio.timeout(WITHIN_S):
            while "chat.chat.#" in await _bindings(stage):  # noqa: ASYNC110 - the broker knows
                await asyncio.sleep(0.1)


async def _bindings(stage: Stage) -> list[str]:
    return (await stage.broker.rabbitmqctl("list_bindings", "routing_key")).split()
