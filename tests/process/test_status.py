"""`status` and `submit --follow` beside real worker processes."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aimicromind_testing import answer
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support.processes import WorkerProcess

_COMMAND = str(Path(sys.executable).with_name("aimicromind-worker"))
_WITHIN_S = 45.0


@asynccontextmanager
async def command(stage: Stage, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the command while the body does."""
    settings = {"AMQP_URL": stage.broker.url, "PREFIX": stage.names.prefix}
    process = await asyncio.create_subprocess_exec(
        *(_COMMAND, *arguments),
        env={f"AIMICROMIND_{name}": value for name, value in settings.items()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def status(stage: Stage) -> dict[str, Any]:
    async with command(stage, "status", "--json") as process, asyncio.timeout(_WITHIN_S):
        out, err = await process.communicate()
    assert process.returncode == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


async def line_of(stream: asyncio.StreamReader | None) -> str:
    assert stream is not None
    async with asyncio.timeout(_WITHIN_S):
        return (await stream.readline()).decode().rstrip("\n")


async def busy(stage: Stage, count: int) -> list[WorkerProcess]:
    """Have workers of one slot each, and a job without an end in each."""
    stage.endpoint.flow("endless", answer(100_000, rate=20))
    workers = await stage.ready_workers(count, CONCURRENCY=1, DRAIN_SECONDS=60)
    with stage.listen() as consumer:
        jobs = [a_job("endless") for _ in range(count)]
        stage.submit(*jobs)
        for job in jobs:
            await consumer.saw(job.job_id, "token")
    return workers


async def test_workers_are_shown_until_they_are_gone(stage: Stage) -> None:
    workers = await busy(stage, 2)
    both = await status(stage)
    workers[0].signal(signal.SIGTERM)
    await workers[0].logged("worker.draining")
    draining = await status(stage)
    workers[1].signal(signal.SIGKILL)
    await workers[1].exits()
    one = await status(stage)
    await workers[0].end()
    none = await status(stage)

    def ready(told: dict[str, Any]) -> dict[int, bool]:
        return {it["pid"]: it["ready"] for it in told["workers"]}

    first, second = workers[0].pid, workers[1].pid
    assert ready(both) == {first: True, second: True}
    assert ready(draining) == {first: False, second: True}
    assert ready(one) == {first: False}
    assert ready(none) == {}
    assert both["jobs"]["running"] == 2
    assert both["throughput"]["eventsPerSecond"] > 0
    assert [it["silentConsumers"] for it in (both, draining, one, none)] == [0, 0, 0, 0]


async def test_worker_that_hangs_is_counted_as_silent(stage: Stage) -> None:
    worker = await stage.ready_worker()
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        told = await status(stage)
    finally:
        os.kill(worker.pid, signal.SIGCONT)

    assert (told["workers"], told["silentConsumers"]) == ([], 1)


async def test_job_that_waits_tells_how_many_are_before_it_and_goes_on_after_ctrl_c(
    stage: Stage,
) -> None:
    await busy(stage, 2)
    stage.submit(*(a_job("endless") for _ in range(3)))
    async with asyncio.timeout(_WITHIN_S):
        while stage.jobs_left() != 3:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.1)
    watch = ("submit", "endless", "Why?", "--job-id", "mine", "--chat", "a chat", "--follow")
    async with command(stage, *watch) as process:
        queued = await line_of(process.stderr)
        process.send_signal(signal.SIGINT)
        told = [await line_of(process.stderr) for _ in range(3)]
        async with asyncio.timeout(_WITHIN_S):
            code = await process.wait()

    assert queued == "queued, 3 before it, 2 workers"
    assert told == [
        "job mine goes on",
        "follow it: aimicromind-worker follow --from-start --job=mine 'a chat'",
        "cancel it: aimicromind-worker cancel --job=mine",
    ]
    assert code == -signal.SIGINT
    assert stage.jobs_left() == 4


async def test_job_that_waits_for_its_chat_is_found_in_its_worker(stage: Stage) -> None:
    stage.endpoint.flow("endless", answer(100_000, rate=20))
    await stage.ready_workers(2, CONCURRENCY=2)
    job = a_job("endless", chatId="chat")
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
    async with command(stage, "submit", "endless", "Why?", "--chat", "chat", "--follow") as process:
        told = await line_of(process.stderr)

    assert told == "a worker has it: it waits for its chat, a slot or the endpoint"


async def test_watch_shows_the_status_again_and_ends_with_ctrl_c(stage: Stage) -> None:
    await stage.ready_worker()
    async with command(stage, "status", "--watch", "--every", "1", "--json") as process:
        times = [json.loads(await line_of(process.stdout))["time"] for _ in range(3)]
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(_WITHIN_S):
            code = await process.wait()
        assert process.stderr is not None
        told = await process.stderr.read()

    assert times == sorted(set(times))
    assert (code, told) == (0, b"")
