import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic

import pytest
from aio_pika import Message

from aimicromind_schemas import FailureKind
from aimicromind_worker.amqp.events.outgoing_channel import CannotBePublished
from aimicromind_worker.amqp.jobs.delivery import NotSettled
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.core.job.state import JobState
from tests.integration.wire import Wire
from tests.support.amqp import (
    WITHIN_S,
    delete_exchange,
    delete_queue,
)
from tests.support.proxy import Proxy

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def until_consumers(wire: Wire, count: int) -> None:
    """Wait until the queue of jobs has so many consumers."""
    async with wire.connection.channel() as channel, asyncio.timeout(WITHIN_S):
        while True:
            queue = await channel.declare_queue(wire.names.jobs, passive=True)
            if queue.declaration_result.consumer_count == count:
                return
            await asyncio.sleep(0.02)


async def test_as_many_jobs_are_taken_as_there_are_slots(wire: Wire) -> None:
    for number in range(5):
        await wire.put(b"%d" % number)

    async with wire.jobs(slots=2) as jobs:
        first, second = await jobs.next(), await jobs.next()
        await wire.until_in_queue(wire.names.jobs, 3)
        await first.ack()
        third = await jobs.next()
        await wire.until_in_queue(wire.names.jobs, 2)

    assert [first.body, second.body, third.body] == [b"0", b"1", b"2"]


async def test_one_job_more_is_taken_only_while_one_waits(wire: Wire) -> None:
    for number in range(5):
        await wire.put(b"%d" % number)

    async with wire.jobs(slots=1) as jobs:
        first = await jobs.next()
        async with jobs.source.take_one_more():
            instead = await jobs.next()
            await wire.until_in_queue(wire.names.jobs, 3)
        # A job that comes before the broker cancels the consumer is taken, too.
        await instead.ack()
        await first.ack()
        rest = [await jobs.next()]
        while rest[-1].body != b"4":
            await rest[-1].ack()
            rest.append(await jobs.next())
        await rest[-1].ack()
        await until_consumers(wire, 1)

    every = [first, instead, *rest]
    assert [each.body for each in every] == [b"0", b"1", b"2", b"3", b"4"]
    assert not any(each.facts.redelivered for each in every)


async def test_consumers_for_waiting_jobs_are_cancelled_with_the_wait(wire: Wire) -> None:
    for number in range(6):
        await wire.put(b"%d" % number)

    async with wire.jobs(slots=2) as jobs, AsyncExitStack() as waiting:
        taken = [await jobs.next() for _ in range(2)]
        for _ in range(4):
            await waiting.enter_async_context(jobs.source.take_one_more())
            taken.append(await jobs.next())
        await waiting.aclose()

        for delivery in taken:
            await delivery.ack()
        await until_consumers(wire, 1)

    assert [each.body for each in taken] == [b"%d" % number for number in range(6)]


async def test_jobs_come_in_order_also_where_a_consumer_is_no_longer_wanted(wire: Wire) -> None:
    async with wire.jobs(slots=1) as jobs:
        for number in range(0, 10, 2):
            async with jobs.source.take_one_more():
                pass
            await wire.put(b"%d" % number)
            await wire.put(b"%d" % (number + 1))
            first, second = await jobs.next(), await jobs.next()
            await first.ack()
            await second.ack()

            assert [first.body, second.body] == [b"%d" % number, b"%d" % (number + 1)]


async def test_stopped_source_takes_no_job_in_place_of_one_that_waits(wire: Wire) -> None:
    async with wire.jobs(slots=1) as jobs, jobs.source.take_one_more():
        await jobs.source.stop()
        async with jobs.source.take_one_more():
            await wire.put(b"job")

            await wire.until_in_queue(wire.names.jobs, 1)


async def test_job_published_to_the_exchange_with_any_key_arrives(wire: Wire) -> None:
    async with wire.connection.channel() as channel, wire.jobs() as jobs:
        exchange = await channel.get_exchange(wire.names.jobs)
        await exchange.publish(Message(b"job"), "any.key.at.all")

        assert (await jobs.next()).body == b"job"


async def test_job_of_a_lost_worker_comes_again_and_is_counted(wire: Wire) -> None:
    await wire.put(b"job")
    async with wire.jobs() as jobs:
        first = (await jobs.next()).facts

    async with wire.jobs() as jobs:
        second = (await jobs.next()).facts

    assert (first.redelivered, first.deliveries_before) == (False, 0)
    assert (second.redelivered, second.deliveries_before) == (True, 1)


async def test_job_given_back_comes_again_and_is_counted(wire: Wire) -> None:
    await wire.put(b"job")

    async with wire.jobs() as jobs:
        counts = []
        for _ in range(3):
            delivery = await jobs.next()
            counts.append(delivery.facts.deliveries_before)
            await delivery.requeue_unchanged()

    assert counts == [0, 1, 2]


async def test_job_put_on_a_rung_comes_again_when_its_time_is_over(wire: Wire) -> None:
    await wire.put(b"job", message_id="m", expiration=3600)

    async with wire.jobs() as jobs:
        first = await jobs.next()
        rung = RETRY_DELAYS[0]
        put = monotonic()
        await first.requeue(JobState(attempt=2), rung)
        assert await wire.in_queue(wire.names.jobs_delay(rung)) == 1
        again = await jobs.next()
        waited_s = monotonic() - put
        await again.ack()

    assert waited_s >= rung.total_seconds()
    assert (again.body, again.facts.message_id) == (b"job", "m")
    assert again.facts.carried.attempt == 2
    assert (again.facts.redelivered, again.facts.deliveries_before) == (False, 0)
    # Times of AMQP have whole seconds.
    assert again.facts.submitted_at is not None
    assert again.facts.expires_at is None
    assert await wire.in_queue(wire.names.jobs_delay(rung)) == 0


async def test_job_can_climb_the_ladder_any_number_of_times(wire: Wire) -> None:
    await wire.put(b"job")

    async with wire.jobs() as jobs:
        for _ in range(2):
            await (await jobs.next()).requeue(JobState(), RETRY_DELAYS[0])
        await (await jobs.next()).reject()
        await wire.until_in_queue(wire.names.jobs_reaped, 1)


async def test_stopped_source_gives_back_what_was_not_started(wire: Wire) -> None:
    for number in range(3):
        await wire.put(b"%d" % number)

    async with wire.jobs(slots=3) as jobs:
        started = await jobs.next()
        await wire.until_in_queue(wire.names.jobs, 0)
        await jobs.source.stop()
        await wire.until_in_queue(wire.names.jobs, 2)
        with pytest.raises(StopAsyncIteration):
            await jobs.next()
        await started.ack()

    await wire.until_in_queue(wire.names.jobs, 2)


async def test_no_job_comes_back_to_a_source_that_stops(wire: Wire) -> None:
    for number in range(60):
        await wire.put(b"%d" % number)

    async with wire.jobs(slots=1) as jobs, AsyncExitStack() as waiting:
        for _ in range(30):
            await waiting.enter_async_context(jobs.source.take_one_more())
        taken = [await jobs.next() for _ in range(31)]
        await asyncio.gather(
            jobs.source.stop(),
            *(each.requeue_unchanged() for each in taken[:20]),
            *(each.requeue(JobState()) for each in taken[20:]),
        )
        await wire.until_in_queue(wire.names.jobs, 60)

    async with wire.jobs(slots=60) as jobs:
        again = [await jobs.next() for _ in range(60)]
        assert max(each.facts.deliveries_before for each in again) <= 1


async def test_source_can_be_stopped_twice(wire: Wire) -> None:
    async with wire.jobs() as jobs:
        await jobs.source.stop()
        await jobs.source.stop()

        with pytest.raises(StopAsyncIteration):
            await jobs.next()


async def test_facts_are_read_from_properties_and_headers(wire: Wire) -> None:
    headers = {
        "traceparent": TRACE,
        "tracestate": "vendor=1",
        "x-aimicromind-attempt": 3,
        "x-aimicromind-calls": 5,
        "x-aimicromind-side-effect": True,
        "x-aimicromind-deadline": "2030-01-01T00:00:00+00:00",
    }
    await wire.put(
        b"job",
        headers=headers,
        message_id="id",
        correlation_id="asked",
        reply_to="mine",
    )

    async with wire.jobs() as jobs:
        facts = (await jobs.next()).facts

    assert (facts.message_id, facts.correlation_id, facts.reply_to) == ("id", "asked", "mine")
    assert facts.trace == {"traceparent": TRACE, "tracestate": "vendor=1"}
    assert (facts.carried.attempt, facts.carried.calls, facts.carried.side_effect) == (3, 5, True)
    assert facts.carried.deadline == datetime(2030, 1, 1, tzinfo=UTC)
    assert facts.expires_at is None


async def test_headers_of_other_types_are_taken_for_absent(wire: Wire) -> None:
    odd = {
        "traceparent": 7,
        "x-aimicromind-attempt": "3",
        "x-aimicromind-calls": -1,
        "x-aimicromind-deadline": "tomorrow",
    }
    await wire.put(b"job", headers=odd)

    async with wire.jobs() as jobs:
        facts = (await jobs.next()).facts

    assert facts.trace == {}
    assert (facts.carried.attempt, facts.carried.calls) == (0, 0)
    assert facts.carried.deadline is None


@pytest.mark.parametrize(
    "ahead",
    [
        None,
        *(timedelta(seconds=it) for it in (-90, -20, 90)),
        timedelta(days=-9),
        timedelta(days=9),
    ],
)
async def test_expiration_counts_from_the_delivery_whatever_the_producers_clock_says(
    wire: Wire, ahead: timedelta | None
) -> None:
    before = datetime.now(UTC)
    sent = None if ahead is None else before + ahead
    await wire.put(b"job", timestamp=sent, expiration=60)

    async with wire.jobs() as jobs:
        expires_at = (await jobs.next()).facts.expires_at

    assert expires_at is not None
    minute = timedelta(seconds=60)
    assert before + minute <= expires_at <= datetime.now(UTC) + minute


async def test_job_that_came_though_it_could_not_wait_does_not_expire(wire: Wire) -> None:
    async with wire.jobs() as jobs:
        coming = asyncio.create_task(jobs.next())
        await wire.put(b"job", expiration=0)

        assert (await coming).facts.expires_at is None


SECOND = datetime(2026, 11, 22, 13, 20, 0, tzinfo=UTC)
EXACT = SECOND + timedelta(microseconds=123_456)


@pytest.mark.parametrize(
    ("header", "known"),
    [
        (EXACT.isoformat(), EXACT),
        ("2026-11-22T14:20:00.123456+01:00", EXACT),
        (None, SECOND),
        ("2026-11-22T13:20:00", SECOND),
        ("0001-01-01T00:00:00Z", SECOND),
        ("yesterday", SECOND),
        (7, SECOND),
    ],
)
async def test_time_of_submission_is_exact_where_a_header_tells_it(
    wire: Wire, header: str | int | None, known: datetime
) -> None:
    headers = {} if header is None else {"x-aimicromind-submitted-at": header}
    await wire.put(b"job", timestamp=SECOND, headers=headers)

    async with wire.jobs() as jobs:
        first = await jobs.next()
        await first.requeue(JobState())
        second = await jobs.next()

    assert first.facts.submitted_at == second.facts.submitted_at == known


async def test_deleted_queue_ends_the_jobs(wire: Wire) -> None:
    async with wire.jobs() as jobs:
        await delete_queue(wire.connection, wire.names.jobs)

        assert await jobs.lost() == f"the broker cancelled the consumer of {wire.names.jobs}"


async def test_broken_connection_ends_the_jobs(wire: Wire, proxy: Proxy) -> None:
    async with wire.jobs(proxy.url) as jobs:
        proxy.reset("test jobs")

        assert await jobs.lost()


@pytest.mark.parametrize("settle", ["ack", "requeue_unchanged", "stop"])
async def test_settling_a_job_of_a_broken_connection_says_that_it_is_lost(
    wire: Wire, proxy: Proxy, settle: str
) -> None:
    await wire.put(b"job")
    async with wire.jobs(proxy.url) as jobs:
        delivery = await jobs.next()
        proxy.reset("test jobs")
        await jobs.lost()

        settlings: dict[str, Callable[[], Awaitable[None]]] = {
            "ack": delivery.ack,
            "requeue_unchanged": delivery.requeue_unchanged,
            "stop": jobs.source.stop,
        }
        with pytest.raises(NotSettled):
            await settlings[settle]()

    assert (await wire.first_in(wire.names.jobs)).body == b"job"


@pytest.mark.parametrize("settle", ["requeue", "dead_letter"])
async def test_job_goes_out_again_on_the_next_publishing_connection(
    wire: Wire, proxy: Proxy, settle: str
) -> None:
    await wire.put(b"job")
    async with wire.jobs(publishing_url=proxy.url) as jobs:
        delivery = await jobs.next()
        await jobs.source.stop()
        settlings: dict[str, Callable[[], Awaitable[None]]] = {
            "requeue": partial(delivery.requeue, JobState()),
            "dead_letter": partial(delivery.dead_letter, FailureKind.TIMEOUT, "late", 1),
        }
        proxy.to_port = 1
        proxy.reset()
        settling = asyncio.ensure_future(settlings[settle]())
        await jobs.way.lost()
        proxy.to_port = wire.broker.port

        await asyncio.wait_for(settling, WITHIN_S)

    queue = wire.names.jobs if settle == "requeue" else wire.names.jobs_dead
    assert (await wire.first_in(queue)).body == b"job"
    assert await wire.in_queue(wire.names.jobs) == 0


async def test_job_that_cannot_be_published_costs_no_other(wire: Wire) -> None:
    await wire.put(b"job")
    async with wire.jobs() as jobs:
        delivery = await jobs.next()
        await delete_exchange(wire.connection, wire.names.jobs_dead)

        with pytest.raises(CannotBePublished, match="NOT_FOUND"):
            await delivery.dead_letter(FailureKind.TIMEOUT, "late", 1)

        await jobs.way.usable()
        await delivery.ack()
    await wire.until_in_queue(wire.names.jobs, 0)
