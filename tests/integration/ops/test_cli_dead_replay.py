"""`dead replay` that is cut off and done again, and on a consumer's dead-letter queue."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from aio_pika import Message
from pamqp.common import FieldValue

from aimicromind_schemas import FailureKind, PredictionJob
from aimicromind_testing import answer
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.app.broker import needed_topology
from tests.integration.ops.test_cli import COMMAND, run, settings_for
from tests.integration.ops.test_cli_dead import lines
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import WITHIN_S, in_queue, until_in_queue
from tests.support.proxy import Proxy
from tests.support.waiting import until

_JOBS = 30
_BEFORE = 10


@pytest.fixture
def settings(stage: Stage) -> Mapping[str, str]:
    return settings_for(stage.broker, stage.names)


async def park(stage: Stage, count: int) -> None:
    """Put jobs into the dead-letter queue as a worker does."""
    await declare(stage.connection, needed_topology(stage.settings()))
    async with stage.connection.channel() as channel:
        for number in range(count):
            job = PredictionJob(chatflow_id="flow", question=f"q-{number}", job_id=f"job-{number}")
            failed: dict[str, FieldValue] = {
                "x-aimicromind-kind": str(FailureKind.RATE_LIMITED),
                "x-aimicromind-message": "too many requests",
                "x-aimicromind-attempts": 3,
                "x-aimicromind-failed-at": datetime.now(UTC).isoformat(),
            }
            message = Message(job.encode(), message_id=job.job_id, headers=failed)
            await channel.default_exchange.publish(message, stage.names.jobs_dead)


async def replay_is_cut_off(stage: Stage, settings: Mapping[str, str], how: signal.Signals) -> None:
    """End a replay in the middle, between a job and the acknowledgement of its dead letter."""
    async with Proxy(stage.broker.port) as proxy:
        process = await asyncio.create_subprocess_exec(
            *(COMMAND, "dead", "replay", "--all", "--json"),
            env={
                f"AIMICROMIND_{name.upper()}": value
                for name, value in {**settings, "amqp_url": proxy.url}.items()
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(WITHIN_S):
                for _ in range(_BEFORE):
                    await process.stdout.readline()
                proxy.hold()
                # The command has published its next job by now, and waits for the confirm.
                await more_in_queue(stage, _BEFORE)
                process.send_signal(how)
                await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        proxy.reset()
    left, published = (
        await until_requeued(stage),
        await in_queue(stage.connection, stage.names.jobs),
    )
    assert 0 < left < _JOBS
    assert published + left > _JOBS, "no job is both published and still a dead letter"


async def more_in_queue(stage: Stage, count: int) -> None:
    async with asyncio.timeout(WITHIN_S):
        while await in_queue(stage.connection, stage.names.jobs) <= count:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.02)


async def until_requeued(stage: Stage) -> int:
    """Wait until the broker has requeued what a lost reader had; give the number."""
    counts: list[int] = []
    async with asyncio.timeout(WITHIN_S):
        while len(counts) < 5 or len(set(counts[-5:])) > 1 or not counts[-1]:
            counts.append(await in_queue(stage.connection, stage.names.jobs_dead))
            await asyncio.sleep(0.1)
    return counts[-1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
async def test_replay_that_is_cut_off_and_done_again_runs_each_job_once(
    stage: Stage, settings: Mapping[str, str], how: signal.Signals
) -> None:
    stage.endpoint.flow("flow", answer(1))
    await park(stage, _JOBS)

    await replay_is_cut_off(stage, settings, how)
    again = await run("dead", "replay", "--all", **settings)
    async with stage.listening() as chats, working(stage.settings()):
        await until(
            lambda: len({it for it in chats.inbox.ids if str(it).endswith(":end")}) >= _JOBS
        )
        await until_in_queue(stage.connection, stage.names.jobs, 0)

    asked = Counter(call.question for call in stage.endpoint.calls)
    assert again.exit_code == 0, again.err
    assert asked == {f"q-{number}": 1 for number in range(_JOBS)}


@asynccontextmanager
async def consumers_queue(stage: Stage) -> AsyncIterator[tuple[str, str]]:
    """Have a consumer's queue that dead-letters what is rejected."""
    queue, dead = f"{stage.names.prefix}-billing", f"{stage.names.prefix}-billing.dead"
    async with stage.connection.channel() as channel:
        await channel.declare_queue(dead, durable=True)
        arguments: dict[str, FieldValue] = {
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": dead,
        }
        await channel.declare_queue(queue, durable=True, arguments=arguments)
        try:
            yield queue, dead
        finally:
            for name in (queue, dead):
                await channel.queue_delete(name)


async def reject_events(stage: Stage, queue: str, count: int) -> None:
    """Have a consumer reject events."""
    async with stage.connection.channel() as channel:
        for number in range(count):
            event = {"jobId": f"job-{number}", "chatId": "chat", "chatflowId": "f", "event": "end"}
            message = Message(json.dumps(event).encode(), message_id=f"job-{number}:end")
            await channel.default_exchange.publish(message, queue)
        declared = await channel.get_queue(queue)
        for _ in range(count):
            await (await declared.get()).reject()


async def test_events_of_a_consumer_are_listed_replayed_and_purged(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    async with consumers_queue(stage) as (queue, dead):
        await reject_events(stage, queue, 3)
        await until_in_queue(stage.connection, dead, 3)

        of_queue = ("--queue", dead)
        plain = await run("dead", "list", *of_queue, **settings)
        listed = lines(await run("dead", "list", "--json", *of_queue, **settings))
        (done,) = lines(
            await run("dead", "replay", "--job", "job-1", "--json", *of_queue, **settings)
        )
        purged = await run("dead", "purge", "--all", "--yes", *of_queue, **settings)
        left = await in_queue(stage.connection, dead)
        async with stage.connection.channel() as channel:
            back = await (await channel.get_queue(queue)).get()

    assert plain.out.startswith("job-0:end ")
    assert f"  the queue {queue} dead-lettered it: rejected" in plain.out
    assert [it["id"] for it in listed] == [f"job-{number}:end" for number in range(3)]
    assert {(it["kind"], it["event"], it["queue"]) for it in listed} == {("rejected", "end", queue)}
    assert (done["id"], done["replayedTo"]) == ("job-1:end", queue)
    assert (purged.out, left) == ("2 purged\n", 0)
    assert (back.message_id, "x-death" in back.headers) == ("job-1:end", False)


async def test_queue_of_the_workers_is_no_dead_letter_queue(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    ran = await run("dead", "purge", "--queue", stage.names.jobs, "--all", "--yes", **settings)

    assert (ran.exit_code, "not for dead letters" in ran.err) == (1, True)
