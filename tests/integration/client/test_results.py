"""Results: live where this client submitted the job, else from the stream of endings."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_schemas import PARTITIONS, PredictionJob
from aimicromind_schemas.client import Client, new_job_id
from aimicromind_schemas.client.jobs import job_id
from aimicromind_schemas.client.past.endings_search import _Search
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.handle import Handle, Installation, encode_handle
from aimicromind_testing import answer
from tests.integration.client.publishing import end, publish
from tests.integration.client.stage import STREAMS, a_job, client_of
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S, connections_of, delete_queue
from tests.support.proxy import Proxy
from tests.support.waiting import until

# Longer than the search allows clocks to differ at first.
AFTER_ITS_END = timedelta(seconds=6)


async def _first_result(client: Client) -> None:
    """Have the client learn that somebody asks for results."""
    await asyncio.wait_for(client.result(await client.submit(a_job())), WITHIN_S)


async def test_result_of_an_own_job_reads_no_stream(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    async with stage.working() as chats, client_of(stage) as client:
        await _first_result(client)
        await delete_queue(stage.connection, stage.names.endings)
        jobs = [await client.submit(a_job(chat_id=f"chat-{it % 3}")) for it in range(9)]
        for job_id in jobs:
            await chats.end_of(job_id)
        ends = [await asyncio.wait_for(client.result(job_id), WITHIN_S) for job_id in jobs]
        again = await asyncio.wait_for(client.result(jobs[0]), WITHIN_S)

    assert [it.job_id for it in ends] == jobs
    assert again == ends[0]


async def test_result_after_a_lost_connection_is_found_among_the_endings(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("flow", answer(20, rate=20))
    async with stage.working() as chats, client_of(stage, proxy.url) as client:
        await _first_result(client)
        job_id = await client.submit(a_job())
        waiting = asyncio.create_task(client.result(job_id))
        await chats.shows("token")
        proxy.part()
        proxy.reset("events")
        await chats.end_of(job_id)
        proxy.release()

        found = await asyncio.wait_for(waiting, WITHIN_S)

    assert found.job_id == job_id


@pytest.mark.parametrize("later", [0, 1, 300, 4_500])
async def test_result_is_found_however_many_jobs_ended_later(stage: Stage, later: int) -> None:
    async with stage.listening(), client_of(stage) as client:
        await publish(stage, [end("before", 0), end("sought", 0)])
        await publish(stage, (end(f"later-{it}", 0) for it in range(later)))

        found = await asyncio.gather(
            *(client.result("sought", chat_id=chat_id) for chat_id in (None, "sought")),
            client.result("before"),
        )

    assert [it.job_id for it in found] == ["sought", "sought", "before"]


async def test_result_of_an_old_job_is_found_from_its_time_without_those_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stage.listening(), client_of(stage) as client:
        await publish(stage, (end(f"before-{it}", 0) for it in range(300)))
        # Streams find a time to the precision of their chunks.
        await asyncio.sleep(1)
        began, timed = datetime.now(UTC), new_job_id()
        await publish(stage, [end("sought", 0), end(timed, 0)])
        await asyncio.sleep(1)
        # Whole chunks are read, and each holds what is published at once.
        for first in range(0, 4_500, 100):
            await publish(stage, (end(f"later-{it}", 0) for it in range(first, first + 100)))
        installation = Installation(stage.names.prefix, PARTITIONS)
        handle = encode_handle(Handle(0, 0, began), installation)
        looked_at: Counter[str | None] = Counter()
        check = _Search.check
        for job_id, known in (("sought", None), ("sought", handle), (timed, None)):

            def counted(
                search: _Search, message: StreamMessage, of: str = f"{job_id} {known}"
            ) -> None:
                looked_at[of] += 1
                check(search, message)

            monkeypatch.setattr(_Search, "check", counted)
            assert (await client.result(job_id, handle=known)).job_id == job_id

    assert looked_at[f"sought {handle}"] < 1_000
    assert looked_at[f"{timed} None"] < 1_000
    assert looked_at["sought None"] > 3_000


@pytest.mark.parametrize(
    "made_after", [timedelta(days=-300), AFTER_ITS_END, timedelta(days=1)], ids=str
)
async def test_result_is_found_whatever_time_its_id_says(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, made_after: timedelta
) -> None:
    nanoseconds = int((datetime.now(UTC) + made_after).timestamp() * 1e9)
    monkeypatch.setattr(job_id, "time_ns", lambda: nanoseconds)
    sought = job_id.new_job_id()
    async with stage.listening(), client_of(stage) as client:
        await publish(stage, [end(sought, 0)])
        if made_after == AFTER_ITS_END:
            # Shortly before its time is not early enough.
            await until(lambda: job_id.made_at(sought) is not None)
        for first in range(0, 600, 100):
            await publish(stage, (end(f"later-{it}", 0) for it in range(first, first + 100)))

        assert (await client.result(sought)).job_id == sought


@pytest.mark.parametrize("broken", ["", "nonsense", "AQAAnfKh2Abw3nsm" * 3, "\x00"])
async def test_result_comes_whatever_its_handle_is(stage: Stage, broken: str) -> None:
    async with stage.listening(), client_of(stage) as client:
        await publish(stage, [end("sought", 0), *(end(f"later-{it}", 0) for it in range(300))])
        of_tomorrow = Handle(0, 0, datetime.now(UTC) + timedelta(days=1))
        ahead = encode_handle(of_tomorrow, Installation("another", 1))

        for handle in (broken, ahead):
            assert (await client.result("sought", handle=handle)).job_id == "sought"


async def test_result_of_a_job_that_ends_later_comes_live(stage: Stage) -> None:
    async with stage.listening(), client_of(stage) as client:
        waiting = [
            asyncio.create_task(client.result("late", chat_id=chat_id))
            for chat_id in (None, "late")
        ]
        await publish(stage, [end("early", 0)])
        await asyncio.sleep(2)
        await publish(stage, [end("late", 0)])
        found = [await asyncio.wait_for(it, WITHIN_S) for it in waiting]

    assert [it.job_id for it in found] == ["late", "late"]


async def test_many_who_ask_for_results_share_a_few_readings(stage: Stage) -> None:
    jobs = [f"job-{number}" for number in range(200)]
    async with stage.listening(), client_of(stage) as client:
        await publish(stage, [end(job_id, 0) for job_id in jobs])

        found = await asyncio.gather(*(client.result(job_id, chat_id=job_id) for job_id in jobs))
        connections = await connections_of(stage.broker, STREAMS)

    assert [it.job_id for it in found] == jobs
    assert len(connections) == 1


async def test_jobs_of_a_chat_name_each_other(stage: Stage) -> None:
    async with stage.listening(), client_of(stage) as client:
        jobs = [await client.submit(a_job(chat_id="chat")) for _ in range(3)]
        own = await client.submit(a_job(chat_id="chat", after="another"))
        async with client.request(a_job(chat_id="chat")):
            pass

        async with stage.connection.channel() as channel:
            queue = await channel.get_queue(stage.names.jobs, ensure=False)
            taken = [await queue.get(no_ack=True) for _ in range(5)]

    after = [PredictionJob.decode(message.body).after for message in taken]
    assert after == [None, jobs[0], jobs[1], "another", own]


async def test_job_id_that_submit_returns_is_text_with_a_handle(stage: Stage) -> None:
    async with stage.listening(), client_of(stage) as client:
        submitted = await client.submit(a_job(job_id="job"))

    assert submitted == "job"
    assert f"{submitted}" == "job"
    assert submitted.handle is None or isinstance(submitted.handle, str)
