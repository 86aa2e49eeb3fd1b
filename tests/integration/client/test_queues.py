import asyncio
from collections.abc import AsyncIterator

import pytest

from aimicromind_schemas import Event
from aimicromind_schemas.client import BrokerRefused, NothingToListenTo
from aimicromind_testing import answer
from tests.integration.client.stage import a_job, client_of, published
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S, delete_queue, in_queue, until_in_queue
from tests.support.proxy import Proxy
from tests.support.waiting import until


async def test_shared_queue_gives_each_event_to_one_reader(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(40))
    queue = f"{stage.names.prefix}-shared"
    async with stage.working() as chats, client_of(stage) as one, client_of(stage) as other:
        async with one.shared(queue, "#") as first, other.shared(queue, "#") as second:
            got: list[list[Event]] = [[], []]
            readers = [
                asyncio.create_task(_read(*it)) for it in zip((first, second), got, strict=True)
            ]
            jobs = [await one.submit(a_job()) for _ in range(4)]
            for job in jobs:
                await chats.end_of(job)
            expected = [event for job in jobs for event in await published(chats, job)]
            await until(lambda: len(got[0]) + len(got[1]) >= len(expected))
            await _stop(readers)
        await delete_queue(stage.connection, queue)

    assert all(got)
    assert _ids(got[0] + got[1]) == _ids(expected)


async def test_event_whose_reader_failed_comes_again(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    queue = f"{stage.names.prefix}-shared"
    async with stage.working(), client_of(stage) as client:
        async with client.shared(queue, "chat.*.end") as events:
            job_id = await client.submit(a_job())
            failed = await anext(events)
        async with client.shared(queue, "chat.*.end") as events:
            again = await anext(events)
            assert again == failed
            await client.submit(a_job())
            await anext(events)
        await until_in_queue(stage.connection, queue, 1)
        await delete_queue(stage.connection, queue)

    assert again.job_id == job_id


async def test_shared_queue_is_read_on_after_a_lost_connection(stage: Stage, proxy: Proxy) -> None:
    stage.endpoint.flow("flow", answer(3))
    queue = f"{stage.names.prefix}-shared"
    async with stage.working(), client_of(stage, proxy.url) as client, client_of(stage) as other:
        async with client.shared(queue, "chat.*.end") as events:
            proxy.reset("events")
            job_id = await other.submit(a_job())
            event = await asyncio.wait_for(anext(events), WITHIN_S)
        await delete_queue(stage.connection, queue)

    assert event.job_id == job_id


async def test_private_queues_each_bring_all(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(10))
    async with (
        stage.working() as chats,
        client_of(stage) as one,
        client_of(stage) as other,
        one.private("#") as first,
        other.private("#") as second,
    ):
        job_id = await one.submit(a_job())
        got = [await _to_end(events) for events in (first, second)]
        await chats.end_of(job_id)

    assert got == [await published(chats, job_id)] * 2


async def test_shared_queue_that_is_another_is_a_clear_error(stage: Stage) -> None:
    async with stage.listening(), client_of(stage) as client:
        with pytest.raises(BrokerRefused, match="inequivalent arg"):
            async with client.shared(stage.names.jobs, "#"):
                pass
        assert await in_queue(stage.connection, stage.names.jobs) == 0


async def test_queue_without_an_exchange_is_a_clear_error(stage: Stage) -> None:
    async with client_of(stage) as client:
        with pytest.raises(NothingToListenTo, match=stage.names.events):
            async with client.private("#"):
                pass


async def _read(events: AsyncIterator[Event], got: list[Event]) -> None:
    async for event in events:
        got.append(event)  # noqa: PERF401 - what came so far is looked at


async def _to_end(events: AsyncIterator[Event]) -> list[Event]:
    got: list[Event] = []
    async for event in events:
        got.append(event)
        if event.event == "end":
            break
    return got


async def _stop(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def _ids(events: list[Event]) -> list[tuple[str, int, int]]:
    return sorted((event.job_id, event.attempt, event.seq) for event in events)
