"""Two workers and a long job on each, one of which used a tool: a poison must not touch them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aimicromind_testing import PrivateBroker, answer, send
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support import erlang
from tests.support.consumer import Consumer

_CONNECTIONS: Final = ("aimicromind-worker jobs", "aimicromind-worker events")
_RATE: Final = 25
_USED: Final = send("usedTools", [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}])


@asynccontextmanager
async def long_neighbours(
    stage: Stage, consumer: Consumer, seconds: float = 8.0
) -> AsyncIterator[None]:
    """Have two jobs run during the body; then check that each ran once and nothing was lost.

    Both workers are ready before, and keep their connections of jobs and of events.
    """
    tokens = int(seconds * _RATE)
    stage.endpoint.flow("long", answer(tokens, rate=_RATE))
    stage.endpoint.flow("tools", answer(tokens, rate=_RATE, before=[_USED]))
    jobs = a_job("long"), a_job("tools")
    for job in jobs:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
    before = await connections(stage.broker)
    assert sorted(before.values()) == sorted(2 * _CONNECTIONS)

    yield

    every = await stage.ended(consumer, *jobs, within_s=60)
    assert [(seen.end["status"], seen.end["calls"]) for seen in every] == [("completed", 1)] * 2
    assert [list(seen.attempts) for seen in every] == [[1], [1]]
    assert await connections(stage.broker) == before
    assert [worker.counts["broker.lost"] for worker in stage.workers.running] == [0, 0]
    lost = [worker.log("publishing.lost", of="events") for worker in stage.workers.running]
    assert lost == [[], []]


async def connections(broker: PrivateBroker) -> dict[str, str]:
    """Name the workers' connections of jobs and of events, by what the broker calls them."""
    listed = await erlang.connections(broker)
    return {it.pid: it.name for it in listed if it.name in _CONNECTIONS}
