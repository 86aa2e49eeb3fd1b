"""Followers come late while a node of the cluster is killed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest
import pytest_asyncio

from aimicromind_schemas import Event, Gap, Names, event_from
from aimicromind_schemas.client import Client
from aimicromind_testing import answer
from tests.faults.test_cluster import (
    connections_of,
    have_led,
    in_mid_stream,
    redeliver_soon,
    streams_of,
)
from tests.process.jobs import a_job
from tests.process.stage import Stage, set_up
from tests.support.cluster import Cluster, running_cluster

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

# The job of a killed node may come again only after a minute.
_WITHIN_S = 150.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """Three nodes for all tests here; each finds all of them running."""
    async with running_cluster() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def stage(cluster: Cluster, names: Names, tmp_path: Path) -> AsyncIterator[Stage]:
    """Producer and consumer are at the second node."""
    async with set_up(cluster.nodes[1], names, tmp_path) as ready:
        ready.endpoint.flow("flow", answer(60, rate=20))
        yield ready
        await cluster.restore()


@pytest.mark.parametrize("killed", ["of the followers", "of the worker"])
async def test_late_followers_have_the_same_as_one_who_was_there_when_a_node_is_killed(
    cluster: Cluster, stage: Stage, killed: str
) -> None:
    # The second node has the one who was there, and leads what is read.
    first, ours, other = cluster.nodes
    await have_led(cluster, stage.names, dict.fromkeys(streams_of(stage.names), ours))
    await redeliver_soon(first, stage.names)
    await stage.ready_worker(AMQP_URL=f"{first.url},{other.url}")
    workers = first if await connections_of(first) else other
    without = other if workers is first else first
    victim = workers if killed == "of the worker" else without
    job, chance = a_job(), Random(7)

    async def follow_late() -> list[Event | Gap]:
        await asyncio.sleep(chance.uniform(0, 5))
        following = client.follow(chat_id=job.chat_id, job_id=job.job_id, from_start=True)
        async with asyncio.timeout(_WITHIN_S), following as items:
            return [item async for item in items]

    async with Client.open([without.url, ours.url], stage.names.prefix) as client:
        with stage.listen() as consumer:
            await in_mid_stream(stage, consumer, [job])
            following = asyncio.gather(*(follow_late() for _ in range(20)))
            await asyncio.sleep(1)
            await victim.kill()
            came = await following
            await consumer.ended(job.job_id, within_s=_WITHIN_S)

    events = {it.properties["message_id"]: it.event for it in consumer.job(job.job_id)}
    assert came == [[event_from(dict(event)) for event in events.values()]] * len(came)
    assert len({event["attempt"] for event in events.values()}) == (1 + (victim is workers))
    await stage.stop_workers()
