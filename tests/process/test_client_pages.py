"""The Python of README.md, docs/producers.md and docs/consumers.md, run as it stands there."""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pika

from aimicromind_schemas import ActionEvent, PredictionJob, encode
from aimicromind_schemas.client import Client
from aimicromind_testing import answer, play, too_many_requests
from tests.process.stage import Stage
from tests.support.consumer import delete

_TOP = Path(__file__).parents[2]
_PAGES = ("README.md", "docs/producers.md", "docs/consumers.md")
_PROGRAMS: dict[str, str] = {
    name: program
    for page in _PAGES
    for name, program in re.findall(
        r"```python (\w+)\n(.*?)```", (_TOP / page).read_text(), re.DOTALL
    )
}


async def test_readme_producer_prints_the_answer(stage: Stage) -> None:
    stage.endpoint.flow("FLOW_ID", answer(3))
    await stage.ready_worker()

    assert await _run(stage, "submit") == "completed tok0 tok1 tok2 \n"


async def test_readme_consumer_prints_the_chat(stage: Stage) -> None:
    stage.endpoint.flow("FLOW_ID", answer(3))
    await stage.ready_worker()
    await _run(stage, "submit")

    assert await _run(stage, "follow") == "tok0 tok1 tok2 \ncompleted\n"


async def test_request_prints_tokens(stage: Stage) -> None:
    stage.endpoint.flow("FLOW_ID", answer(3))
    await stage.ready_worker()

    assert await _run(stage, "request") == "tok0 tok1 tok2 "


async def test_shared_queue_brings_endings(stage: Stage) -> None:
    stage.endpoint.flow("FLOW_ID", answer(3))
    await stage.ready_worker()
    running = asyncio.create_task(_run(stage, "shared"))
    async with asyncio.timeout(20):
        while not await _exists(stage, "billing"):  # noqa: ASYNC110 - another process declares it
            await asyncio.sleep(0.1)
    await _run(stage, "submit")

    out = await running
    delete(stage.broker.url, ["billing"], [])
    assert out == "1 completed\n"


async def test_consumer_handles_an_end_and_exits_at_sigterm(stage: Stage) -> None:
    stage.endpoint.flow("FLOW_ID", answer(3))
    await stage.ready_worker()
    queue = stage.names.consumer("accounts")
    process = await _started(stage, "consume")
    try:
        async with asyncio.timeout(30):
            while not await _consumed(stage, queue):  # noqa: ASYNC110 - see above
                await asyncio.sleep(0.1)
            await _run(stage, "submit")
            assert process.stdout is not None
            handled = await process.stdout.readline()
            process.terminate()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
        delays = [f"{queue}.delay.{it}" for it in (1, 10, 60, 600, 3600)]
        delete(stage.broker.url, [queue, f"{queue}.dead", *delays], [queue])

    assert (handled, process.returncode) == (b"1 completed\n", 0)


async def test_stored_question_is_answered(stage: Stage) -> None:
    stage.endpoint.flow("flow", play("d-hitl-1-ask", 0), play("d-hitl-2-proceed", 0))
    await stage.ready_worker()
    job = PredictionJob(chatflow_id="flow", question="start please")
    known: dict[str, Any] = {}
    exec(compile(_PROGRAMS["answer"], "docs/consumers.md:answer", "exec"), known)
    async with Client.open(stage.broker.url, stage.names.prefix) as client:
        async with client.request(job) as items:
            stored = [encode(it).body async for it in items if isinstance(it, ActionEvent)]
        decisions = [await known["decided"](client, stored[0], yes) for yes in (False, True)]

    assert decisions == ["rejected", "rejected"]


async def test_direct_replies_bring_every_event(stage: Stage) -> None:
    stage.endpoint.flow("FLOW_ID", answer(20))
    await stage.ready_worker()

    taken = await _direct_replies(stage)

    assert [event["seq"] for event in taken] == list(range(len(taken)))
    assert [event["event"] for event in taken][-1] == "end"
    assert len(taken) > 20


async def test_direct_replies_come_although_the_job_waited_on_the_broker(stage: Stage) -> None:
    stage.endpoint.flow("FLOW_ID", too_many_requests("6"), answer(5))
    await stage.ready_worker()

    taken = await _direct_replies(stage)

    assert "retry" in {event["event"] for event in taken}
    assert taken[-1]["data"]["status"] == "completed"


def test_pages_have_programs() -> None:
    assert set(_PROGRAMS) == {"submit", "follow", "request", "shared", "consume", "reply", "answer"}


async def _run(stage: Stage, name: str) -> str:
    """Run a program as a process of its own."""
    process = await _started(stage, name)
    try:
        out, error = await asyncio.wait_for(process.communicate(), 30)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, error.decode()
    return out.decode()


async def _started(stage: Stage, name: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", _adapted(stage, name)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def _direct_replies(stage: Stage) -> list[dict[str, Any]]:
    return await asyncio.wait_for(asyncio.to_thread(_take_replies, stage), 40)


def _take_replies(stage: Stage) -> list[dict[str, Any]]:
    taken: list[dict[str, Any]] = []
    channel = pika.BlockingConnection(pika.URLParameters(stage.broker.url)).channel()
    known = {"channel": channel, "json": json, "pika": pika, "take": taken.append}
    exec(compile(_adapted(stage, "reply"), "docs/producers.md:reply", "exec"), known)
    channel.connection.close()
    return taken


def _adapted(stage: Stage, name: str) -> str:
    written = _PROGRAMS[name].replace('"aimicromind.', f'"{stage.names.prefix}.')
    address = '"amqp://guest:guest@localhost/"'
    return written.replace(address, f"{stage.broker.url!r}, {stage.names.prefix!r}")


async def _consumed(stage: Stage, queue: str) -> bool:
    listed = await stage.broker.rabbitmqctl("list_consumers")
    return f"{queue}\t" in listed


async def _exists(stage: Stage, queue: str) -> bool:
    return queue in (await stage.broker.rabbitmqctl("list_queues", "name")).split()
