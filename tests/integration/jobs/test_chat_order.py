"""The jobs of a chat run in their order over all workers, and hold up no other chat."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from aimicromind_schemas import SUBMITTED_HEADER
from aimicromind_testing import answer
from tests.integration.stage import Stage
from tests.integration.workers import Chats, working
from tests.support.builders import a_job
from tests.support.waiting import until

BEGAN = datetime.now(UTC)


def asked(stage: Stage, chat: str) -> list[str]:
    """Return the questions of a chat in the order in which the endpoint was asked them."""
    bodies = [json.loads(call.body) for call in stage.endpoint.calls]
    return [it["question"] for it in bodies if it["overrideConfig"]["sessionId"] == chat]


async def put(stage: Stage, chat: str, place: int, **fields: Any) -> None:  # noqa: ANN401 - see a_job
    """Submit a job of a chat whose question is its id."""
    job_id = f"{chat}-{place:02}"
    submitted = BEGAN + timedelta(milliseconds=place)
    body = a_job(jobId=job_id, chatId=chat, question=job_id, **fields)
    await stage.put(body, headers={SUBMITTED_HEADER: submitted.isoformat()})


async def ended(chats: Chats, jobs: int) -> None:
    await until(lambda: sum(it.type == "end" for it in chats.inbox.messages) >= jobs, 60)


@pytest.mark.parametrize("workers", [2, 3])
async def test_jobs_that_name_the_one_before_run_in_that_order_in_bursts(
    stage: Stage, workers: int
) -> None:
    stage.endpoint.flow("flow", answer(1))
    chats, of_chat = [f"chat-{number}" for number in range(8)], 12
    async with stage.listening() as events, AsyncExitStack() as pool:
        for _ in range(workers):
            await pool.enter_async_context(working(stage.settings()))
        for place in range(of_chat):
            for chat in chats:
                after = f"{chat}-{place - 1:02}" if place else None
                await put(stage, chat, place, after=after)
        await ended(events, len(chats) * of_chat)

    for chat in chats:
        assert asked(stage, chat) == [f"{chat}-{place:02}" for place in range(of_chat)]


async def test_jobs_that_come_50_ms_apart_run_in_that_order(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3, rate=30))
    async with (
        stage.listening() as chats,
        working(stage.settings()),
        working(stage.settings()),
    ):
        for place in range(20):
            await put(stage, "chat", place)
            await asyncio.sleep(0.05)
        await ended(chats, 20)

    assert all(earlier < later for earlier, later in pairwise(asked(stage, "chat")))


async def test_jobs_that_wait_for_busy_chats_delay_no_other_chat(stage: Stage) -> None:
    stage.endpoint.flow("endless", answer(100_000, rate=20))
    stage.endpoint.flow("quick", answer(1))
    busy = ("a", "b", "c", "d")
    async with (
        stage.listening() as chats,
        working(stage.settings()),
        working(stage.settings()),
    ):
        for place in range(15):
            for chat in busy:
                await put(stage, chat, place, chatflowId="endless")
        await chats.shows("token")
        for number in range(20):
            await stage.put(a_job(jobId=f"quick-{number}", chatId=None, chatflowId="quick"))
            await chats.end_of(f"quick-{number}")

        # None of the endless jobs has ended, so each chat is still busy with its first one.
        assert max(len(asked(stage, chat)) for chat in busy) == 1


async def test_jobs_that_wait_outlast_workers_that_stop(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(100, rate=20))
    async with stage.listening() as chats:
        for _ in range(3):
            async with working(stage.settings()), working(stage.settings()):
                if not chats.inbox.messages:
                    for place in range(60):
                        await put(stage, "abcd"[place % 4], place)
                await chats.shows("token")
                await asyncio.sleep(0.3)
        stage.endpoint.flow("flow", answer(1))
        async with working(stage.settings()):
            await ended(chats, 60)

    ends = [it for it in chats.inbox.bodies() if it["event"] == "end"]
    assert {it["data"]["status"] for it in ends} == {"completed"}


async def test_job_whose_worker_is_lost_lets_the_next_one_run(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(100, rate=20))
    stage.endpoint.flow("quick", answer(1))
    async with stage.listening() as chats, working(stage.settings()) as first:
        await stage.put(a_job(jobId="first", chatId="chat"))
        await chats.shows("token")
        async with working(stage.settings()):
            await stage.put(a_job(jobId="second", chatId="chat", chatflowId="quick", after="first"))
            await asyncio.sleep(0.2)
            stage.endpoint.flow("flow", answer(1))
            await first.leave()
            await chats.end_of("second")

            assert "first:end" in chats.inbox.ids
