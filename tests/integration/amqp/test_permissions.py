"""Users who may do what docs/operations.md lists, and no more, can do their work."""

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import pytest

from aimicromind_schemas import EndEvent, EndStatus, Names, PredictionJob
from aimicromind_schemas.client import BrokerRefused, Client, ConsumerCounts, ConsumerOptions
from aimicromind_testing import PrivateBroker, answer, error_answer, too_many_requests
from aimicromind_worker.amqp.connection import PermissionMissing
from aimicromind_worker.amqp.declaring import DeclarationRefused, declare
from aimicromind_worker.app.broker import needed_topology
from aimicromind_worker.ops.status.reading import StatusReader
from tests.integration.client.consuming import an_end, consumed, publish, remove
from tests.integration.stage import Stage
from tests.integration.workers import Running, chats_of, working
from tests.support import erlang
from tests.support.amqp import WITHIN_S, in_queue
from tests.support.builders import a_job
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(90)

_PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text()
_LISTED: Final = {
    words[2]: words[3:]
    for words in map(shlex.split, re.findall(r"(?m)^rabbitmqctl set_permissions .*$", _PAGE))
}
_JOB: Final = PredictionJob(chatflow_id="flow", question="Why?")


async def user(
    broker: PrivateBroker, kind: str, names: Names, *, but: tuple[int, str] | None = None
) -> str:
    """Have a user of a kind on the run's own broker, and give the address by which it connects.

    Args:
        broker: Where.
        kind: As the page names it.
        names: Those that it may use.
        but: The permission (0: configure, 1: write, 2: read) from which a name is taken away.
    """
    listed = [pattern.replace("aimicromind", names.prefix) for pattern in _LISTED[kind]]
    if but is not None:
        which, name = but
        listed[which] = f"(?!^{name}$){listed[which]}"
    who = f"user-{uuid4().hex[:8]}"
    configure, write, read = listed
    return await erlang.add_user(broker, who, configure=configure, write=write, read=read)


def test_page_lists_these_users() -> None:
    listed = {"declaring-worker", "worker", "producer", "consumer", "service", "operator"}
    assert set(_LISTED) == listed


async def test_service_consumes_with_retries_and_dead_letters(stage: Stage) -> None:
    options = ConsumerOptions(retry_after=[timedelta(milliseconds=100)])
    counts = ConsumerCounts()

    async def on_end(_: EndEvent) -> None:
        raise OSError

    async with stage.listening():
        url = await user(stage.broker, "service", stage.names)
        async with Client.open(url, stage.names.prefix) as client:
            serving = asyncio.create_task(
                client.consume("accounts", {"end": on_end}, options, counts=counts)
            )
            await consumed(stage, name="accounts")
            await publish(stage.connection, stage.names, [an_end(1)])
            await until(lambda: counts.dead or serving.done())
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving
    await remove(stage, options, name="accounts")

    assert (counts.retried, counts.dead) == (1, 1)


@pytest.mark.parametrize("kind", ["declaring-worker", "worker"])
async def test_worker_brings_jobs_of_all_kinds_to_their_end(stage: Stage, kind: str) -> None:
    stage.endpoint.flow("well", answer(3))
    stage.endpoint.flow("refused", error_answer("Unauthorized"))
    stage.endpoint.flow("busy", too_many_requests("6"), answer(3))
    stage.endpoint.flow("endless", answer(1000, rate=10))
    if kind == "worker":
        await declare(stage.connection, needed_topology(stage.settings()))
    url = await user(stage.broker, kind, stage.names)
    async with (
        working(stage.settings(amqp_url=url)),
        chats_of(stage.connection, stage.names) as chats,
        Client.open(stage.broker.url, stage.names.prefix) as client,
    ):
        for flow in ("well", "refused", "busy", "endless"):
            await stage.put(a_job(chatflowId=flow, chatId=flow, jobId=flow))
        await stage.put(b"no job", message_id="malformed")
        await chats.shows("token")
        await client.cancel(job_id="endless")
        ends = {
            job_id: (await chats.end_of(job_id, 2 * WITHIN_S))["status"]
            for job_id in ("well", "refused", "busy", "endless", "malformed")
        }

    assert ends == {
        "well": "completed",
        "refused": "failed",
        "busy": "completed",
        "endless": "cancelled",
        "malformed": "rejected",
    }
    # The worker has stopped: a job is parked after its end.
    assert await in_queue(stage.connection, stage.names.jobs_dead) == 2


_NEEDED: Final = [
    (0, "chat.[0-9a-f]{32}"),
    (0, "control.[0-9a-f-]{36}"),
    (0, "pool.[0-9a-f-]{36}"),
    (1, "amq.default"),
    (1, "events"),
    (1, "jobs.dead"),
    (1, "control.[0-9a-f-]{36}"),
    (1, "pool.[0-9a-f-]{36}"),
    *((2, name) for name in ("jobs", "jobs.reaped", "journal", "control", "control.log", "pool")),
    (2, "control.[0-9a-f-]{36}"),
    (2, "pool.[0-9a-f-]{36}"),
    (2, "chat.[0-9a-f]{32}"),
]


async def return_a_job(stage: Stage) -> None:
    """Have a job count as delivered, so that a worker looks for it in the journal."""
    async with stage.connection.channel() as channel:
        queue = await channel.get_queue(stage.names.jobs, ensure=False)
        message = await queue.get(timeout=WITHIN_S)
        assert message is not None
        await message.reject(requeue=True)


@pytest.mark.parametrize(("which", "name"), _NEEDED)
async def test_worker_that_lacks_a_permission_ends_and_names_it(
    stage: Stage, which: int, name: str
) -> None:
    stage.endpoint.flow("flow", error_answer("Unauthorized"))
    await declare(stage.connection, needed_topology(stage.settings()))
    await stage.put(a_job())
    await return_a_job(stage)
    full = name if name.startswith("amq.") else f"{stage.names.prefix}.{name}"
    url = await user(stage.broker, "worker", stage.names, but=(which, full))
    with pytest.raises(PermissionMissing, match=r"ACCESS_REFUSED.*grant it") as refused:
        await Running(stage.settings(amqp_url=url)).ended()

    # The broker calls the default exchange so.
    assert re.search(f"'{full}'|'amq.default'", str(refused.value))


async def test_worker_that_may_not_declare_names_what_is_missing(stage: Stage) -> None:
    url = await user(stage.broker, "worker", stage.names)
    with pytest.raises(DeclarationRefused, match=f"may not declare {stage.names.events} "):
        await Running(stage.settings(amqp_url=url)).ended()


async def test_producer_submits_and_cancels_and_can_do_nothing_else(stage: Stage) -> None:
    await declare(stage.connection, needed_topology(stage.settings()))
    url = await user(stage.broker, "producer", stage.names)
    async with (
        Client.open(url, stage.names.prefix) as client,
    ):
        job_id = await client.submit(_JOB)
        await client.cancel(job_id=job_id)
        with pytest.raises(BrokerRefused, match="ACCESS_REFUSED"):
            await client.result(job_id)

    assert await in_queue(stage.connection, stage.names.jobs) == 1


async def test_consumer_follows_and_waits_and_can_do_nothing_else(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    url = await user(stage.broker, "consumer", stage.names)
    async with (
        stage.working() as chats,
        Client.open(url, stage.names.prefix) as client,
    ):
        await stage.put(a_job())
        await chats.end_of("job")
        end = await client.result("job")
        async with client.follow(job_id="job", from_start=True) as items:
            events = [item async for item in items]
        with pytest.raises(BrokerRefused, match=f"'{stage.names.jobs}'"):
            await client.submit(_JOB)

    assert end.data.status is EndStatus.COMPLETED
    assert isinstance(events[-1], EndEvent)


async def test_operator_sees_the_status_and_can_do_nothing_else(stage: Stage) -> None:
    stage.endpoint.flow("flow", error_answer("Unauthorized"))
    url = await user(stage.broker, "operator", stage.names)
    settings = stage.settings(amqp_url=url)
    async with stage.working() as chats:
        await stage.put(a_job())
        await chats.end_of("job")
        async with StatusReader.open(settings) as reader:
            status = await reader.read()
        async with Client.open(url, stage.names.prefix) as client:
            with pytest.raises(BrokerRefused, match=f"'{stage.names.jobs}'"):
                await client.submit(_JOB)

    assert status.unknown == ()
    assert len(status.workers) == 1
    assert status.dead_letters is not None
    assert dict(status.dead_letters.by_kind) == {"unauthorized": 1}
    assert status.event_log is not None
    assert status.journal is not None


async def follow(client: Client, chat_id: str | None = None, job_id: str | None = None) -> None:
    async with client.follow(chat_id=chat_id, job_id=job_id, from_start=True):
        pass


@pytest.mark.parametrize(
    ("kind", "which", "name", "ask"),
    [
        ("producer", 1, "jobs", lambda client: client.submit(_JOB)),
        ("producer", 1, "control", lambda client: client.cancel(job_id="job")),
        ("consumer", 0, "amq.gen-.*", lambda client: follow(client, chat_id="chat")),
        ("consumer", 1, "amq.gen-.*", lambda client: follow(client, chat_id="chat")),
        ("consumer", 2, "amq.gen-.*", lambda client: follow(client, chat_id="chat")),
        ("consumer", 2, "events", lambda client: follow(client, chat_id="chat")),
        ("consumer", 2, "events.log-0", lambda client: follow(client, job_id="job")),
        ("consumer", 2, "endings", lambda client: client.result("job")),
    ],
)
async def test_client_that_lacks_a_permission_is_told(
    stage: Stage, kind: str, which: int, name: str, ask: Callable[[Client], Awaitable[object]]
) -> None:
    await declare(stage.connection, needed_topology(stage.settings()))
    full = name if name.startswith("amq.") else f"{stage.names.prefix}.{name}"
    url = await user(stage.broker, kind, stage.names, but=(which, full))
    async with (
        Client.open(url, stage.names.prefix) as client,
    ):
        with pytest.raises(BrokerRefused, match=f"'{full}'"):
            await ask(client)
