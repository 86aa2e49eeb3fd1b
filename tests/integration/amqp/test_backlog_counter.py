"""What waits on the broker, counted for `/metrics` without a cost to jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from aio_pika import Message
from structlog.testing import capture_logs

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, answer, error_answer
from aimicromind_worker.amqp.connection import BrokerConnection, connect
from aimicromind_worker.amqp.inspection import backlog_counter
from aimicromind_worker.amqp.inspection.backlog_counter import BacklogCounter
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.telemetry.backlog import Backlog, QueueTotals
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import (
    BEAT,
    WITHIN_S,
    close_connections,
    connections_of,
    delete_queue,
    first_in,
    put_job,
)
from tests.support.builders import a_job
from tests.support.metrics import samples_of
from tests.support.waiting import until

COUNTS = "aimicromind-worker counts"
Connect = Callable[[], AbstractAsyncContextManager[BrokerConnection]]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_counter, "_PAUSE_S", 0.05)
    monkeypatch.setattr(backlog_counter, "_AFTER_FAILURE_S", 0.05)


@asynccontextmanager
async def counting(connect: Connect, names: Names) -> AsyncIterator[Backlog]:
    backlog = Backlog()
    task = asyncio.create_task(BacklogCounter(connect, names, backlog).run())
    try:
        yield backlog
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait((task,), timeout=WITHIN_S)


@pytest.fixture
def opened(broker: PrivateBroker) -> Connect:
    return lambda: connect([broker.url], COUNTS, BEAT)


async def test_jobs_are_counted_and_not_taken(
    declared: Names, connection: BrokerConnection, opened: Connect
) -> None:
    await put_job(connection, declared, a_job())
    async with connection.channel() as channel:
        for queue in (declared.jobs_delay(RETRY_DELAYS[-1]), declared.jobs_dead):
            await channel.default_exchange.publish(Message(b"{}"), queue)
            await channel.default_exchange.publish(Message(b"{}"), queue)

    async with counting(opened, declared) as backlog:
        await until(lambda: backlog.read() == QueueTotals(1, 2, 2))

    job = await first_in(connection, declared.jobs)
    assert not job.redelivered
    assert not job.headers.get("x-delivery-count")


async def test_missing_queue_is_not_known_and_the_others_are(
    declared: Names, connection: BrokerConnection, opened: Connect
) -> None:
    await delete_queue(connection, declared.jobs_delay(RETRY_DELAYS[0]))

    with capture_logs() as logs:
        async with counting(opened, declared) as backlog:
            for _ in range(3):
                backlog.forget()
                await until(lambda: backlog.read() == QueueTotals(0, None, 0))

    assert [line["event"] for line in logs].count("backlog.unknown") == 1


async def test_nothing_is_opened_before_the_numbers_are_wanted(
    declared: Names, broker: PrivateBroker, opened: Connect
) -> None:
    async with counting(opened, declared):
        await asyncio.sleep(0.3)

        assert not await connections_of(broker, COUNTS)


async def test_connection_is_closed_when_nobody_wants_numbers(
    declared: Names, opened: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_counter, "_UNWANTED_S", 0.2)
    open_now: set[BrokerConnection] = set()

    @asynccontextmanager
    async def noted() -> AsyncIterator[BrokerConnection]:
        async with opened() as connection:
            open_now.add(connection)
            yield connection
        open_now.discard(connection)

    async with counting(noted, declared) as backlog:
        backlog.wanted.set()
        await until(lambda: open_now)

        await until(lambda: not open_now)
        # A Prometheus that reads every few minutes finds the numbers of its last reading.
        assert backlog.read() == QueueTotals(0, 0, 0)


async def test_broker_that_does_not_answer_makes_the_numbers_unknown(
    declared: Names, opened: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer_never(*_: object) -> None:
        await asyncio.sleep(WITHIN_S)

    monkeypatch.setattr(backlog_counter, "_WITHIN_S", 0.1)
    async with counting(opened, declared) as backlog:
        await until(lambda: backlog.read() == QueueTotals(0, 0, 0))
        monkeypatch.setattr(backlog_counter, "counts_of", answer_never)

        await until(lambda: backlog.read() == QueueTotals())


@pytest.mark.parametrize("after_ms", range(0, 80, 4))
async def test_counting_ends_when_it_is_cancelled_whatever_it_does(
    after_ms: int, declared: Names, opened: Connect
) -> None:
    backlog = Backlog()
    backlog.wanted.set()
    task = asyncio.create_task(BacklogCounter(opened, declared, backlog).run())
    await asyncio.sleep(after_ms / 1000)

    task.cancel()
    await asyncio.wait((task,), timeout=WITHIN_S)

    assert task.cancelled()


async def test_loss_of_the_connection_costs_numbers_and_no_session(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    stage.endpoint.flow("refused", error_answer("Unauthorized"))
    async with working(stage.settings()) as running, stage.listening() as chats:
        metrics = running.worker.metrics
        await stage.put(a_job(jobId="bad", chatflowId="refused"))
        await chats.end_of("bad")
        await until(lambda: metrics.backlog.read() == QueueTotals(0, 0, 1))
        await close_connections(stage.broker, COUNTS)
        await until(lambda: metrics.backlog.read() == QueueTotals())
        await stage.put(a_job())
        await chats.end_of("job")
        await until(lambda: metrics.backlog.read() == QueueTotals(0, 0, 1))
        page = samples_of(metrics.text().decode())

    assert running.times_ready == 1
    assert page["sessions_lost_total", ()] == 0
    assert page["dead_lettered_total", (("kind", "unauthorized"),)] == 1
    assert page["dead_letters", ()] == 1
