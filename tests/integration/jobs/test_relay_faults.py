"""The worker leaves, the broker goes, a queue disappears: jobs end all the same, once."""

import asyncio
from typing import Final
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from aimicromind_testing import Wait, answer, send
from aimicromind_worker.amqp.connection import PermissionMissing
from aimicromind_worker.amqp.declaring import DeclarationRefused
from tests.integration.stage import Stage
from tests.integration.workers import Running, chats_of, working
from tests.support import erlang
from tests.support.amqp import (
    close_connections,
    until_in_queue,
)
from tests.support.builders import a_job
from tests.support.proxy import Proxy

ENDLESS: Final = answer(1_000_000, rate=50)
TOOLS: Final = send("usedTools", [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}])


async def test_worker_that_cannot_begin_yet_leaves_at_once(stage: Stage, proxy: Proxy) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        finally:
            writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        with capture_logs() as logs:
            running = Running(stage.settings(amqp_url=proxy.url))
            await proxy.tried(1)
            # That for events, which is opened after that for jobs, gets nowhere.
            proxy.to_port = silent.sockets[0].getsockname()[1]
            await proxy.tried(2)

            running.worker.stop()
            await running.ended()

    assert "worker.stopped_at_once" in [line["event"] for line in logs]
    assert running.times_ready == 0


async def test_job_that_acted_is_not_run_again_after_it_was_handed_back(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2, after=[TOOLS, Wait(60)]), answer(2))
    async with stage.listening() as chats:
        async with working(stage.settings()):
            await stage.put(a_job())
            await chats.shows("usedTools")

        async with working(stage.settings()):
            end = await chats.end_of("job")

    assert end["status"] == "failed"
    assert chats.data("job", "error")[0]["kind"] == "repeat_unsafe"
    assert len(stage.endpoint.calls) == 1


async def test_job_runs_again_after_the_forced_close_of_the_connection_it_came_by(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", ENDLESS, answer(3))
    async with stage.listening() as chats, working(stage.settings()) as running:
        await stage.put(a_job())
        await chats.shows("token")

        await close_connections(stage.broker, "aimicromind-worker jobs")
        await running.ready(times=2)
        end = await chats.end_of("job")
        await until_in_queue(stage.connection, stage.names.jobs, 0)

    assert (end["status"], end["attempts"]) == ("completed", 2)
    assert [event["event"] for event in chats.of("job")].count("end") == 1


async def test_usage_covers_the_calls_of_all_workers_that_requeued_the_job(stage: Stage) -> None:
    usage = send("usageMetadata", {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7})
    stage.endpoint.flow("flow", answer(2, after=[usage, Wait(60)]), answer(2, after=[usage]))
    async with stage.listening() as chats:
        async with working(stage.settings()):
            await stage.put(a_job())
            await chats.shows("usageMetadata")

        async with working(stage.settings()) as running:
            end = await chats.end_of("job")

    assert (end["status"], end["calls"]) == ("completed", 2)
    assert end["usage"] == {"input": 10, "output": 4, "total": 14}
    tokens = 'usage_tokens_total{direction="input",flow="flow"} 5.0'
    assert tokens in running.worker.metrics.text().decode()


@pytest.mark.parametrize("broken", ["aimicromind-worker jobs", ""], ids=["jobs", "every one"])
async def test_job_survives_broken_connections(stage: Stage, proxy: Proxy, broken: str) -> None:
    stage.endpoint.flow("flow", ENDLESS, answer(3))
    settings = stage.settings(amqp_url=proxy.url)
    async with stage.listening() as chats, working(settings) as running:
        await stage.put(a_job())
        await chats.shows("token")

        proxy.reset(broken)
        await running.ready(times=2)
        end = await chats.end_of("job")

    assert (end["status"], end["attempts"]) == ("completed", 2)
    assert not stage.endpoint.live_calls


async def test_attempt_waits_out_an_alarm_and_its_worker_is_not_ready(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(200, rate=100))
    settings = stage.settings(heartbeat_seconds=2)
    async with stage.listening() as chats, working(settings) as running:
        await stage.put(a_job())
        await chats.shows("token")
        await erlang.set_memory_limit(stage.broker, 0.0001)
        try:
            await running.not_ready("the broker takes no events: it has a memory or disk alarm")
        finally:
            await erlang.set_memory_limit(stage.broker, 0.6)
        end = await chats.end_of("job")

    assert (end["status"], end["attempts"]) == ("completed", 1)
    assert running.times_ready == 1


@pytest.mark.parametrize("denied", ["jobs", "events"])
async def test_worker_ends_when_a_permission_is_taken_away(stage: Stage, denied: str) -> None:
    stage.endpoint.flow("flow", answer(3))
    user = f"user-{uuid4().hex[:8]}"
    prefix = stage.names.prefix
    allowed = {"jobs": ("", f"{prefix}.*|amq.default"), "events": ("amq.default", f"{prefix}.*")}
    write, read = allowed[denied]
    url = await erlang.add_user(stage.broker, user)
    async with stage.listening():
        running = Running(stage.settings(amqp_url=url))
        await running.ready()

        await erlang.permit(stage.broker, user, write=write, read=read)
        await stage.put(a_job())

        with pytest.raises((PermissionMissing, DeclarationRefused), match=r"\(ACCESS_REFUSED"):
            await running.ended()


async def test_worker_that_starts_before_its_broker_works_when_it_comes(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("flow", answer(3))
    proxy.to_port = 1
    running = Running(stage.settings(amqp_url=proxy.url))
    try:
        await proxy.tried(2)
        await running.not_ready(f"127.0.0.1:{proxy.port}")
        assert not running.worker.condition.why_not_live()
        proxy.to_port = stage.broker.port
        await running.ready()

        async with chats_of(stage.connection, stage.names) as chats:
            await stage.put(a_job())
            assert (await chats.end_of("job"))["status"] == "completed"
    finally:
        await running.leave()
