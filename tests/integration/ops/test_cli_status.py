"""`status` on a real broker, with workers of this version, without any, and with odd answers."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest

from aimicromind_schemas import Names
from aimicromind_schemas.messages.worker_report import WORKER_REPORT
from aimicromind_testing import PrivateBroker, ScriptedEndpoint, answer, too_many_requests
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.app.broker import needed_topology
from tests.integration.ops.test_cli import run, settings_for
from tests.integration.ops.test_cli_dead import a_refused_job, parked
from tests.integration.ops.test_cli_output import read_a_line_and_leave
from tests.integration.stage import Stage
from tests.integration.workers import Running, working
from tests.support.amqp import WITHIN_S, first_in, until_in_queue
from tests.support.builders import a_job
from tests.unit.ops.statuses import WELL


@pytest.fixture
def settings(stage: Stage) -> Mapping[str, str]:
    return settings_for(stage.broker, stage.names)


async def status(settings: Mapping[str, str]) -> dict[str, Any]:
    """Give what the command writes for programs."""
    ran = await run("status", "--json", **settings)
    assert ran.exit_code == 0, ran.err
    told: dict[str, Any] = json.loads(ran.out)
    return told


async def eventually(settings: Mapping[str, str], **jobs: int) -> dict[str, Any]:
    """Wait until these numbers of jobs are told."""
    async with asyncio.timeout(2 * WITHIN_S):
        while True:
            told = await status(settings)
            if {name: told["jobs"][name] for name in jobs} == jobs:
                return told


async def declared(stage: Stage) -> None:
    await declare(stage.connection, needed_topology(stage.settings()))


async def test_broker_without_the_queue_of_jobs_is_told(settings: Mapping[str, str]) -> None:
    ran = await run("status", **settings)

    assert (ran.exit_code, ran.out) == (1, "")
    assert "there is no queue" in ran.err


async def test_installation_without_workers_is_shown(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await declared(stage)
    await stage.put(a_job())

    told = await status(settings)
    plain = await run("status", **settings)

    assert (told["workers"], told["consumers"], told["silentConsumers"]) == ([], 0, 0)
    assert told["jobs"]["ready"] == 1
    assert told["throughput"] is None
    assert (told["eventLog"], told["journal"]) == ({"oldest": None, "completeSince": None},) * 2
    assert plain.out.splitlines()[0] == "no worker takes jobs: 1 ready, 0 running"


async def test_jobs_are_told_where_they_are(stage: Stage, settings: Mapping[str, str]) -> None:
    stage.endpoint.flow("endless", answer(10_000, rate=20))
    stage.endpoint.flow("busy", *[too_many_requests("30")] * 9)
    await parked(stage, a_refused_job("first"), a_refused_job("second"))
    async with working(stage.settings(concurrency=2)):
        await stage.put(a_job(chatflowId="busy", chatId="busy", jobId="busy"))
        await eventually(settings, running=0, ready=0)
        for number in range(2):
            body = a_job(chatflowId="endless", chatId="chat", jobId=f"chat-{number}")
            await stage.put(body, timestamp=datetime.now(UTC))
        await eventually(settings, running=1, waitingForChat=1)
        for number in range(4):
            await stage.put(a_job(chatflowId="endless", chatId=f"c-{number}", jobId=f"j-{number}"))
        told = await eventually(settings, running=2, waitingForChat=1, ready=3)

    (worker,) = told["workers"]
    assert (worker["slots"], worker["running"], worker["ready"]) == (2, 2, True)
    assert told["silentConsumers"] == 0
    assert sum(told["jobs"]["delayed"].values()) == 1
    assert told["deadLetters"] == {"total": 2, "read": 2, "byKind": {"unauthorized": 2}}
    assert told["throughput"]["eventsPerSecond"] > 0
    assert 0 < told["jobs"]["oldestHeldSeconds"] < 60
    assert told["eventLog"]["oldest"] is not None
    assert told["journal"]["oldest"] is not None
    assert told["unknown"] == []


async def test_look_changes_neither_jobs_nor_dead_letters(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await parked(stage, *(a_refused_job(f"job-{number}") for number in range(5)))
    await stage.put(a_job(jobId="waits"))

    for _ in range(3):
        await status(settings)

    await until_in_queue(stage.connection, stage.names.jobs_dead, 5)
    listed = await run("dead", "list", "--json", **settings)
    ids = [json.loads(line)["jobId"] for line in listed.out.splitlines()]
    assert ids == [f"job-{number}" for number in range(5)]
    job = await first_in(stage.connection, stage.names.jobs)
    assert not job.redelivered
    assert not job.headers.get("x-delivery-count")


async def test_worker_that_drains_is_shown_with_its_reason(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    stage.endpoint.flow("endless", answer(10_000, rate=20))
    running = Running(stage.settings(drain_seconds=60))
    await running.ready()
    await stage.put(a_job(chatflowId="endless"))
    await eventually(settings, running=1)
    running.worker.stop()

    told = await status(settings)
    plain = await run("status", **settings)
    await running.leave()

    (worker,) = told["workers"]
    assert (worker["ready"], worker["running"]) == (False, 1)
    assert worker["obstacles"] == ["the worker is draining"]
    assert plain.out.startswith("no worker takes jobs (1 not ready): 0 ready, 1 running")
    assert "takes no jobs: the worker is draining" in plain.out


@asynccontextmanager
async def foreign_consumer(stage: Stage) -> AsyncIterator[None]:
    """Consume jobs as a worker of an earlier version does, which answers nobody."""
    async with stage.connection.channel() as channel:
        await channel.set_qos(prefetch_count=1)
        queue = await channel.get_queue(stage.names.jobs, ensure=False)

        async def ignore(_: object) -> None:
            """Keep the job."""

        await queue.consume(ignore)
        yield


async def test_consumer_that_does_not_answer_is_counted_as_silent(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await declared(stage)
    async with foreign_consumer(stage):
        alone = await status(settings)
        async with working(stage.settings()):
            beside = await status(settings)

    assert (alone["workers"], alone["silentConsumers"], alone["consumers"]) == ([], 1, 1)
    assert len(beside["workers"]) == 1
    assert (beside["silentConsumers"], beside["consumers"]) == (1, 2)


async def test_answers_that_cannot_be_read_are_left_out(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    odd = [b"", b"{}", b"[" * 5_000, b"\xff", WELL.encode()[:-1], b"x" * 100_000]

    async with working(stage.settings()), stage.connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True)
        await queue.bind(stage.names.pool, "")
        exchange = channel.default_exchange

        async def forge(request: aio_pika.abc.AbstractIncomingMessage) -> None:
            for body in odd:
                for of_request in (request.correlation_id, "another"):
                    for kind in (WORKER_REPORT, "other"):
                        message = aio_pika.Message(body, correlation_id=of_request, type=kind)
                        await exchange.publish(message, request.reply_to or "")
            stale = aio_pika.Message(WELL.encode(), correlation_id="x", type=WORKER_REPORT)
            await exchange.publish(stale, request.reply_to or "")

        await queue.consume(forge, no_ack=True)
        told = await status(settings)

    assert len(told["workers"]) == 1
    assert told["workers"][0]["host"] != WELL.host


async def test_user_who_may_do_nothing_is_told_what_is_not_known(stage: Stage) -> None:
    await declared(stage)
    await stage.put(a_job())
    await stage.broker.rabbitmqctl("add_user", stage.names.prefix, "password")
    await stage.broker.rabbitmqctl("set_permissions", stage.names.prefix, "^$", "^$", "^$")
    url = stage.broker.url.replace("guest:guest", f"{stage.names.prefix}:password")

    told = await status({"amqp_url": url, "prefix": stage.names.prefix})

    assert told["jobs"]["ready"] == 1
    assert any(it.startswith("the workers cannot be asked") for it in told["unknown"])
    assert any("events.log-" in it for it in told["unknown"])
    assert any("journal" in it for it in told["unknown"])


@pytest.mark.parametrize("more", [(), ("--watch",), ("--json",), ("--watch", "--json")])
async def test_reader_that_takes_one_line_ends_the_command(
    stage: Stage, settings: Mapping[str, str], more: tuple[str, ...]
) -> None:
    await declared(stage)

    code, told = await read_a_line_and_leave("status", *more, **settings)

    assert code in ({-signal.SIGPIPE} if "--watch" in more else {0, -signal.SIGPIPE})
    assert told == b""


async def test_management_api_adds_what_the_broker_counts() -> None:
    names = Names("status")
    async with PrivateBroker(management=True) as broker, ScriptedEndpoint() as endpoint:
        settings = {
            "amqp_url": broker.url,
            "base_url": endpoint.url,
            "prefix": names.prefix,
            "management_url": broker.management_url,
        }
        await run("topology", "declare", **settings)
        told = await status(settings)
        silent = await status(settings | {"management_url": "http://127.0.0.1:1"})

    assert told["broker"]["unacknowledged"] == 0
    assert told["broker"]["alarms"] == []
    assert silent["broker"] is None
    assert any("management API" in it for it in silent["unknown"])


async def test_alarm_of_the_broker_does_not_stop_the_command() -> None:
    names = Names("status")
    async with PrivateBroker() as broker, ScriptedEndpoint() as endpoint:
        settings = {"amqp_url": broker.url, "base_url": endpoint.url, "prefix": names.prefix}
        await run("topology", "declare", **settings)
        await broker.rabbitmqctl("set_vm_memory_high_watermark", "0.000001")
        await asyncio.sleep(2)
        told = await status(settings)

    assert told["jobs"]["ready"] == 0
    assert any("alarm" in it for it in told["unknown"])


async def test_doctor_warns_where_no_worker_takes_jobs(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await declared(stage)
    found = {}
    for name in ("without", "with"):
        if name == "without":
            found[name] = await _doctor(stage, settings)
            continue
        async with working(stage.settings()):
            found[name] = await _doctor(stage, settings)

    assert (found["without"]["state"], found["with"]["state"]) == ("warning", "ok")
    assert found["without"]["detail"] == "no worker takes jobs"
    assert found["with"]["detail"] == "1 of 1 take jobs, with 8 slots"


async def _doctor(stage: Stage, settings: Mapping[str, str]) -> dict[str, Any]:
    ran = await run("doctor", "--json", base_url=stage.endpoint.url, **settings)
    findings = [json.loads(line) for line in ran.out.splitlines()]
    (found,) = [it for it in findings if it["about"] == "workers"]
    return dict(found)


async def test_thousands_of_dead_letters_are_read_in_part(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await declared(stage)
    async with stage.connection.channel() as channel:
        kinds = ["timeout", "not a kind\x1b[31m"] * 750
        messages = [aio_pika.Message(a_job(), headers={"x-aimicromind-kind": it}) for it in kinds]
        to_dead = channel.default_exchange.publish
        await asyncio.gather(*(to_dead(it, stage.names.jobs_dead) for it in messages))
    await until_in_queue(stage.connection, stage.names.jobs_dead, 1_500)

    told = await status(settings)

    dead = told["deadLetters"]
    assert dead["total"] == 1_500
    assert 0 < dead["read"] <= 1_000
    assert set(dead["byKind"]) == {"timeout", "other"}
    await until_in_queue(stage.connection, stage.names.jobs_dead, 1_500)
