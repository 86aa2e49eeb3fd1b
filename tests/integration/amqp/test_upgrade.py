"""A broker that holds the objects of the first version of the messages, and the two ways out."""

import asyncio
from collections.abc import Mapping
from typing import Final

import pytest
from aio_pika.abc import AbstractConnection
from pamqp.common import FieldTable

from aimicromind_schemas import PARTITIONS, Names
from aimicromind_testing import answer
from tests.integration.ops.test_cli import run
from tests.integration.ops.test_cli_doctor import diagnosis, settings_for
from tests.integration.stage import Stage
from tests.support.amqp import first_in, put_job
from tests.support.builders import a_job

_SAID_BY: Final = "AIMICROMIND_PREFIX", "delete what differs"


def first_version(names: Names) -> Mapping[str, FieldTable]:
    """Return the queues that the first version declared, with their arguments."""

    def quorum(dead_letters_to: str, deliveries: int = 20, **more: int) -> FieldTable:
        return {
            "x-queue-type": "quorum",
            "x-delivery-limit": deliveries,
            "x-overflow": "reject-publish",
            "x-dead-letter-exchange": dead_letters_to,
            "x-dead-letter-strategy": "at-least-once",
            **{f"x-{name.replace('_', '-')}": value for name, value in more.items()},
        }

    def stream(max_age: str, size: int, segment: int = 50_000_000) -> FieldTable:
        return {
            "x-queue-type": "stream",
            "x-max-age": max_age,
            "x-max-length-bytes": size,
            "x-stream-max-segment-size-bytes": segment,
        }

    return {
        names.jobs: quorum(names.jobs_reaped),
        names.jobs_reaped: quorum(names.jobs_dead, 1_000_000),
        names.jobs_dead: {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000},
        **{
            f"{names.jobs}.delay.{seconds}": quorum(names.jobs, message_ttl=1000 * seconds)
            for seconds in (2, 10, 30, 60, 120, 300, 600)
        },
        names.journal: stream("7D", 2_000_000_000),
        names.control_log: stream("7D", 100_000_000, 5_000_000),
        names.events_log: stream("24h", 2_000_000_000),
    }


@pytest.fixture
async def held(connection: AbstractConnection, names: Names) -> Mapping[str, FieldTable]:
    queues = first_version(names)
    async with connection.channel() as channel:
        for name, arguments in queues.items():
            await channel.declare_queue(name, durable=True, arguments=arguments)
    return queues


async def test_each_object_is_named_with_the_ways_out(
    stage: Stage, held: Mapping[str, FieldTable]
) -> None:
    settings = settings_for(stage)

    ran, checked, (_, found) = await asyncio.gather(
        run("run", **settings, health_port="0"),
        run("topology", "check", **settings),
        diagnosis(**settings),
    )

    assert (ran.exit_code, checked.exit_code) == (4, 1)
    for name in held.keys() - {stage.names.events_log}:
        assert f"queue {name} is different" in ran.err
        assert f"queue {name} is different" in checked.out
        assert found[f"queue {name}"]["state"] == "problem"
        assert all(way in found[f"queue {name}"]["remedy"] for way in _SAID_BY)
    for said in (ran.err, checked.out):
        assert f"queue {stage.names.events_log} is left over" in said
    for said in (ran.err, checked.err):
        assert all(way in said for way in _SAID_BY)


async def test_new_prefix_is_one_way(stage: Stage, held: Mapping[str, FieldTable]) -> None:
    stage.endpoint.flow("flow", answer(3))
    names = Names(f"{stage.names.prefix}-2")
    settings = settings_for(stage, prefix=names.prefix)
    try:
        declared = await run("topology", "declare", **settings)
        checked = await run("topology", "check", **settings)
    finally:
        async with stage.connection.channel() as channel:
            for name in held:
                new = name.replace(stage.names.prefix, names.prefix, 1)
                await channel.queue_delete(new)
            for name in (names.endings, *map(names.events_log_stream, range(PARTITIONS))):
                await channel.queue_delete(name)

    assert (declared.exit_code, checked.exit_code) == (0, 0)


async def test_drained_and_deleted_queues_are_the_other_way(
    stage: Stage, held: Mapping[str, FieldTable]
) -> None:
    stage.endpoint.flow("flow", answer(3))
    await put_job(stage.connection, stage.names, a_job(jobId="of-before"))
    # What the workers of before do until the queue is empty.
    assert (await first_in(stage.connection, stage.names.jobs)).body
    async with stage.connection.channel() as channel:
        for name in held:
            await channel.queue_delete(name)

    async with stage.working() as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")
    checked = await run("topology", "check", **settings_for(stage))

    assert end["status"] == "completed"
    assert checked.exit_code == 0
