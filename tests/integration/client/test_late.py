"""A follower that comes late, by the client: the worker, the event log, or what is left of them."""

import asyncio
import random
from typing import Any
from uuid import uuid4

import pytest

from aimicromind_schemas import Event
from aimicromind_schemas.client import Client, Gap, Position
from aimicromind_schemas.client.past import worker_past
from aimicromind_schemas.client.past.catching_up import ask
from aimicromind_testing import Cut, Head, Script, answer, send
from tests.integration.client.stage import STREAMS, a_job, all_of, client_of, published
from tests.integration.stage import Stage
from tests.integration.workers import Chats, chats_of, working
from tests.support import erlang
from tests.support.amqp import WITHIN_S, connections_of
from tests.support.proxy import Proxy


async def _tokens_shown(chats: Chats, count: int) -> None:
    await chats.inbox.until(lambda: sum(it.type == "token" for it in chats.inbox.messages) >= count)


async def _followed(client: Client, job_id: str, chat_id: str | None) -> list[Event | Gap]:
    async with (
        asyncio.timeout(WITHIN_S),
        client.follow(chat_id=chat_id, job_id=job_id, from_start=True) as events,
    ):
        return await all_of(events)


@pytest.mark.parametrize("partitions", [1, 4])
async def test_late_followers_have_the_same_as_one_who_was_there_over_lost_connections(
    stage: Stage, proxy: Proxy, partitions: int
) -> None:
    stage.endpoint.flow("flow", answer(200, rate=100))
    chance = random.Random(partitions)
    settings = stage.settings(events_log_partitions=partitions)
    async with (
        working(settings),
        chats_of(stage.connection, stage.names) as chats,
        client_of(stage) as other,
        client_of(stage, proxy.url) as client,
    ):
        job = a_job()
        job_id = await other.submit(job)

        async def join(after_s: float) -> list[Event | Gap]:
            await asyncio.sleep(after_s)
            return await _followed(client, job_id, job.chat_id)

        async def cut_now_and_then() -> None:
            while True:
                await asyncio.sleep(chance.uniform(0.2, 1))
                proxy.reset("events")

        cutting = asyncio.create_task(cut_now_and_then())
        joined = await asyncio.gather(*(join(chance.uniform(0, 3.5)) for _ in range(15)))
        cutting.cancel()
        await chats.end_of(job_id)

    for came in joined:
        assert came == await published(chats, job_id)


async def test_followers_that_ask_together_share_a_request_and_have_all_events(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.endpoint.flow("flow", answer(60, rate=50))
    requests: list[str] = []

    async def counted(*arguments: Any) -> bool:  # noqa: ANN401 - those of `ask`
        requests.append(arguments[2].job_id)
        return await ask(*arguments)

    monkeypatch.setattr(worker_past, "ask", counted)
    async with stage.working() as chats, client_of(stage) as other, client_of(stage) as client:
        job = a_job()
        job_id = await other.submit(job)
        await _tokens_shown(chats, 10)

        async def leave_at_once() -> None:
            async with client.follow(chat_id=job.chat_id, job_id=job_id, from_start=True):
                pass

        leaving = asyncio.create_task(leave_at_once())
        following = [_followed(client, job_id, job.chat_id) for _ in range(50)]
        together = asyncio.gather(*following)
        await asyncio.sleep(0)
        leaving.cancel()
        came = await together
        await chats.end_of(job_id)

    assert came == [await published(chats, job_id)] * len(came)
    assert 1 <= len(requests) <= 10


async def test_running_job_is_caught_up_from_its_worker_without_reading_a_stream(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(60, rate=50))
    async with stage.working() as chats, client_of(stage) as other, client_of(stage) as client:
        job = a_job()
        job_id = await other.submit(job)
        await _tokens_shown(chats, 10)
        async with client.follow(chat_id=job.chat_id, job_id=job_id, from_start=True) as events:
            reading = await connections_of(stage.broker, STREAMS)
            came = await all_of(events)
        await chats.end_of(job_id)

    assert came == await published(chats, job_id)
    # That of `other` looked up a handle.
    assert len(reading) <= 1


@pytest.mark.parametrize("named", ["job", "chat"])
async def test_running_job_is_caught_up_without_an_event_log(stage: Stage, named: str) -> None:
    stage.endpoint.flow("flow", answer(60, rate=50))
    async with (
        working(stage.settings(events_log=False)),
        chats_of(stage.connection, stage.names) as chats,
        client_of(stage) as client,
    ):
        job = a_job()
        job_id = await client.submit(job)
        await _tokens_shown(chats, 10)
        wanted = job_id if named == "job" else None
        async with client.follow(
            chat_id=job.chat_id, job_id=wanted, from_start=True, until=job_id
        ) as events:
            came = await all_of(events)
        await chats.end_of(job_id)

    assert came == await published(chats, job_id)


async def test_running_job_goes_on_after_a_position(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(60, rate=50))
    async with (
        working(stage.settings(events_log=False)),
        chats_of(stage.connection, stage.names) as chats,
        client_of(stage) as client,
    ):
        job_id = await client.submit(a_job())
        await _tokens_shown(chats, 20)
        async with client.follow(job_id=job_id, after=Position(1, 9)) as events:
            came = await all_of(events)
        await chats.end_of(job_id)

    assert came == (await published(chats, job_id))[10:]


@pytest.mark.parametrize("events_log", [True, False])
async def test_events_of_earlier_attempts_come_from_the_log_if_there_is_one(
    stage: Stage, *, events_log: bool
) -> None:
    broken = Script.of(Head(), send("start", ""), send("token", "half "), Cut())
    stage.endpoint.flow("flow", broken, answer(60, rate=50))
    settings = stage.settings(events_log=events_log, recovery_seconds=0)
    async with (
        working(settings),
        chats_of(stage.connection, stage.names) as chats,
        client_of(stage) as client,
    ):
        job = a_job()
        job_id = await client.submit(job)
        await _tokens_shown(chats, 10)
        came = await _followed(client, job_id, job.chat_id)
        await chats.end_of(job_id)

    assert came == [it for it in await published(chats, job_id) if events_log or it.attempt == 2]


async def test_events_before_the_running_job_of_a_chat_come_from_the_log(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3), answer(60, rate=50))
    async with stage.working() as chats, client_of(stage) as client:
        first, second = (a_job(chat_id="chat") for _ in range(2))
        await client.result(await client.submit(first))
        await client.submit(second)
        await _tokens_shown(chats, 10)
        async with client.follow(chat_id="chat", from_start=True, until=second.job_id) as events:
            came = await asyncio.wait_for(all_of(events), WITHIN_S)
        await chats.end_of(second.job_id or "")

    wanted = [await published(chats, job.job_id or "") for job in (first, second)]
    assert came == [event for events in wanted for event in events]


async def test_answer_that_does_not_come_is_replaced_by_the_log(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_past, "_ANSWERED_WITHIN_S", 0.0)
    stage.endpoint.flow("flow", answer(60, rate=50))
    async with stage.working() as chats, client_of(stage) as client:
        job = a_job()
        job_id = await client.submit(job)
        await _tokens_shown(chats, 10)
        came = await _followed(client, job_id, job.chat_id)
        await chats.end_of(job_id)

    assert came == await published(chats, job_id)


async def test_user_who_may_not_ask_reads_the_log(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(100, rate=50))
    user = f"user-{uuid4().hex[:8]}"
    url = await erlang.add_user(stage.broker, user, write="^amq.gen-")
    async with (
        stage.working() as chats,
        client_of(stage) as other,
        client_of(stage, url) as client,
    ):
        job = a_job()
        job_id = await other.submit(job)
        await _tokens_shown(chats, 10)
        both = await asyncio.gather(*(_followed(client, job_id, job.chat_id) for _ in range(2)))
        await chats.end_of(job_id)

    assert both == [await published(chats, job_id)] * 2


@pytest.mark.parametrize("is_readable", [True, False])
async def test_job_is_followed_by_the_handle_that_submitting_it_returned(
    stage: Stage, *, is_readable: bool
) -> None:
    stage.endpoint.flow("flow", answer(3))
    async with stage.working() as chats, client_of(stage) as one, client_of(stage) as other:
        async with asyncio.timeout(WITHIN_S):
            while (job_id := await one.submit(a_job())).handle is None:
                await chats.end_of(job_id)
        await chats.end_of(job_id)
        handle = job_id.handle if is_readable else "no-handle"
        async with (
            asyncio.timeout(WITHIN_S),
            other.follow(job_id=job_id, from_start=True, handle=handle) as events,
        ):
            came = await all_of(events)

    assert came == await published(chats, job_id)
