"""The worker leaves, the broker goes, a queue disappears: jobs end all the same, once."""

import asyncio
from typing import Final
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

from aimicromind_schemas.client import BrokerRefused
from aimicromind_testing import Wait, answer, send
from aimicromind_worker.amqp.connection import PermissionMissing
from aimicromind_worker.amqp.declaring import DeclarationRefused, TopologyDiffers
from tests.integration.stage import Stage
from tests.integration.workers import Running, chats_of, working
from tests.support.amqp import (
    close_connections,
    delete_exchange,
    delete_queue,
    in_queue,
    reading,
    until_in_queue,
)
from tests.support.builders import a_job
from tests.support.proxy import Proxy

ENDLESS: Final = answer(1_000_000, rate=50)
TOOLS: Final = send("usedTools", [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}])


async def test_leaving_worker_finishes_what_it_runs(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(10, rate=40))
    async with stage.listening() as chats, working(stage.settings()) as running:
        await stage.put(a_job())
        await chats.shows("token")

        running.worker.stop()
        await running.ended()
        end = await chats.end_of("job")

    assert (end["status"], end["attempts"]) == ("completed", 1)
    await until_in_queue(stage.connection, stage.names.jobs, 0)


async def test_leaving_worker_takes_no_further_job(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(10, rate=40))
    settings = stage.settings(concurrency=1)
    async with stage.listening() as chats, working(settings) as running:
        await stage.put(a_job())
        await chats.shows("token")
        await stage.put(a_job(jobId="later"))

        running.worker.stop()
        await running.ended()

        assert await in_queue(stage.connection, stage.names.jobs) == 1
    assert chats.of("later") == []


async def test_what_does_not_fit_in_the_grace_goes_on_at_another_worker(stage: Stage) -> None:
    stage.endpoint.flow("flow", ENDLESS, answer(3))
    async with stage.listening() as chats:
        async with working(stage.settings(drain_seconds=0.5)) as leaving:
            await stage.put(a_job(tags={"kept": "yes"}))
            await chats.shows("token")
            leaving.worker.stop()
            await leaving.ended()

        async with working(stage.settings()):
            end = await chats.end_of("job")

    answered = ("start", "token", "token", "token", "metadata", "end")
    assert chats.shown("job")[-7:] == [(1, "retry"), *((2, name) for name in answered)]
    [retry] = chats.data("job", "retry")
    assert (retry["kind"], retry["nextAttempt"]) == ("shutdown", 2)
    assert (end["status"], end["attempts"], end["calls"]) == ("completed", 2, 2)
    assert end["tags"] == {"kept": "yes"}
    assert len({call.chat_id for call in stage.endpoint.calls}) == 2


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


async def test_second_stop_hands_back_at_once(stage: Stage) -> None:
    stage.endpoint.flow("flow", ENDLESS)
    async with stage.listening() as chats, working(stage.settings(drain_seconds=60)) as running:
        await stage.put(a_job())
        await chats.shows("token")

        running.worker.stop()
        running.worker.stop()
        await running.ended()

    await until_in_queue(stage.connection, stage.names.jobs, 1)
    assert not stage.endpoint.live_calls


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


async def test_deadline_and_calls_are_carried_to_the_next_worker(stage: Stage) -> None:
    stage.endpoint.flow("flow", ENDLESS)
    async with stage.listening() as chats:
        async with working(stage.settings(job_lifetime_seconds=1.5)):
            await stage.put(a_job())
            await chats.shows("token")

        async with working(stage.settings(job_lifetime_seconds=60)):
            end = await chats.end_of("job")

    assert (end["status"], end["attempts"], end["calls"]) == ("expired", 2, 2)


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


async def test_job_goes_on_after_the_forced_close_of_the_connection_of_events(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(400, rate=100))
    async with stage.listening() as chats, working(stage.settings()) as running:
        await stage.put(a_job())
        await chats.shows("token")

        await close_connections(stage.broker, "aimicromind-worker events")
        end = await chats.end_of("job")
        await until_in_queue(stage.connection, stage.names.jobs, 0)

    assert (end["status"], end["attempts"], end["calls"]) == ("completed", 1, 1)
    assert running.times_ready == 1


async def test_job_survives_broken_connections(stage: Stage, proxy: Proxy) -> None:
    stage.endpoint.flow("flow", ENDLESS, answer(3))
    settings = stage.settings(amqp_url=proxy.url)
    async with stage.listening() as chats, working(settings) as running:
        await stage.put(a_job())
        await chats.shows("token")

        proxy.reset()
        await running.ready(times=2)
        end = await chats.end_of("job")

    assert (end["status"], end["attempts"]) == ("completed", 2)
    assert not stage.endpoint.live_calls


async def test_nothing_is_lost_while_the_broker_confirms_nothing(
    stage: Stage, proxy: Proxy
) -> None:
    more_than_the_window = 5000
    stage.endpoint.flow("flow", answer(more_than_the_window))
    async with stage.listening() as chats, working(stage.settings(amqp_url=proxy.url)):
        await stage.put(a_job())
        await chats.shows("token")
        proxy.hold()
        await chats.inbox.received(2000)
        proxy.release()
        end = await chats.end_of("job")

    assert (end["status"], end["attempts"]) == ("completed", 1)
    assert end["events"] == more_than_the_window + 3


async def test_end_waits_until_the_broker_has_confirmed_what_comes_before_it(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("flow", answer(3), answer(3))
    async with stage.listening() as chats, working(stage.settings(amqp_url=proxy.url)):
        proxy.hold("aimicromind-worker events")
        await stage.put(a_job())
        await chats.inbox.until(lambda: (1, "metadata") in chats.shown("job"))
        await stage.put(a_job(jobId="later", chatId="other"))
        await chats.inbox.until(lambda: (1, "metadata") in chats.shown("later"))
        shown = set(chats.inbox.ids)
        proxy.release()
        await chats.end_of("job")

    assert "job:end" not in shown


async def test_deleted_jobs_queue_is_declared_again(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    async with working(stage.settings()) as running:
        await delete_queue(stage.connection, stage.names.jobs)
        await running.ready(times=2)

        async with chats_of(stage.connection, stage.names) as chats:
            await stage.put(a_job())
            end = await chats.end_of("job")

    assert end["status"] == "completed"


async def test_running_job_goes_on_after_its_exchange_was_deleted(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(150, rate=100))
    async with (
        working(stage.settings()) as running,
        reading(stage.connection, stage.names.events_log_stream()) as log,
    ):
        await stage.put(a_job())
        await log.received(10)

        await delete_exchange(stage.connection, stage.names.events)
        await log.until(lambda: "job:end" in log.ids)

    numbers = [f"job:1:{seq}" for seq in range(152)]
    assert list(log.ids) == [*numbers, "job:end"]
    assert running.times_ready == 1


@pytest.mark.parametrize("denied", ["jobs", "events"])
async def test_worker_ends_when_a_permission_is_taken_away(stage: Stage, denied: str) -> None:
    stage.endpoint.flow("flow", answer(3))
    user = f"user-{uuid4().hex[:8]}"
    settings = stage.settings(amqp_url=stage.broker.url.replace("guest:guest", f"{user}:secret"))
    prefix = stage.names.prefix
    allowed = {"jobs": ("", f"{prefix}.*|amq.default"), "events": ("amq.default", f"{prefix}.*")}
    write, read = allowed[denied]
    await stage.broker.rabbitmqctl("add_user", user, "secret")
    await stage.broker.rabbitmqctl("set_permissions", user, ".*", ".*", ".*")
    async with stage.listening():
        running = Running(settings)
        await running.ready()

        await stage.broker.rabbitmqctl("set_permissions", user, ".*", write, read)
        await stage.put(a_job())

        with pytest.raises((PermissionMissing, DeclarationRefused), match=r"\(ACCESS_REFUSED"):
            await running.ended()
    await stage.broker.rabbitmqctl("delete_user", user)


async def test_worker_that_starts_before_its_broker_works_when_it_comes(
    stage: Stage, proxy: Proxy
) -> None:
    stage.endpoint.flow("flow", answer(3))
    proxy.to_port = 1
    running = Running(stage.settings(amqp_url=proxy.url))
    try:
        await proxy.tried(2)
        proxy.to_port = stage.broker.port
        await running.ready()

        async with chats_of(stage.connection, stage.names) as chats:
            await stage.put(a_job())
            assert (await chats.end_of("job"))["status"] == "completed"
    finally:
        await running.leave()


async def test_worker_that_finds_no_broker_can_be_stopped(stage: Stage) -> None:
    running = Running(stage.settings(amqp_url="amqp://guest:guest@127.0.0.1:1/"))

    await running.leave()

    assert running.times_ready == 0


async def test_worker_ends_when_the_broker_refuses_it(stage: Stage) -> None:
    wrong = stage.broker.url.replace("guest:guest", "guest:wrong")
    running = Running(stage.settings(amqp_url=wrong))

    with pytest.raises(BrokerRefused):
        await running.ended()


async def test_worker_ends_when_a_queue_differs(stage: Stage) -> None:
    async with stage.connection.channel() as channel:
        await channel.declare_queue(stage.names.journal, durable=True)

    with pytest.raises(TopologyDiffers, match=stage.names.journal):
        await Running(stage.settings()).ended()
