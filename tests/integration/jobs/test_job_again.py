import asyncio
from datetime import UTC, datetime
from uuid import UUID

import pytest
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import DeliveryError

from aimicromind_schemas import FailureKind, Names
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.core.job.state import JobState
from tests.integration.wire import Wire
from tests.support.amqp import (
    WITHIN_S,
    delete_queue,
    put_job,
)
from tests.support.raw import put_raw

BODY = b'{"question": "\xe2\x80\xa8 \xff"}'
SENT = datetime(2026, 11, 22, 13, 20, tzinfo=UTC)


async def test_job_put_again_keeps_its_properties_and_gains_headers(wire: Wire) -> None:
    await wire.put(
        BODY,
        headers={"traceparent": "t", "mine": [1, {"deep": "er"}], "x-aimicromind-attempt": 1},
        content_type="application/json",
        content_encoding="identity",
        correlation_id="asked",
        reply_to="replies",
        priority=3,
        message_id="job-1",
        timestamp=SENT,
        type="job",
        app_id="producer",
        user_id="guest",
        expiration=600,
    )

    state = JobState(attempt=2, sent=True)

    async with wire.jobs() as jobs:
        await (await jobs.next()).requeue(state)

    again = await wire.first_in(wire.names.jobs)
    assert again.body == BODY
    assert _own_headers(again) == {
        "traceparent": "t",
        "mine": [1, {"deep": "er"}],
        **state.to_headers(),
    }
    assert (again.content_type, again.content_encoding) == ("application/json", "identity")
    assert (again.correlation_id, again.reply_to, again.priority) == ("asked", "replies", 3)
    assert (again.message_id, again.type, again.app_id) == ("job-1", "job", "producer")
    assert again.timestamp == SENT
    assert (again.user_id, again.expiration) == (None, None)
    assert await wire.in_queue(wire.names.jobs) == 0


async def test_job_put_again_counts_no_delivery_of_the_copy_before(wire: Wire) -> None:
    await wire.put(BODY)

    async with wire.jobs() as jobs:
        await (await jobs.next()).requeue_unchanged()
        await (await jobs.next()).requeue(JobState())
        facts = (await jobs.next()).facts

    assert (facts.redelivered, facts.deliveries_before) == (False, 0)


async def test_nameless_job_put_again_has_a_message_id(wire: Wire) -> None:
    await put_raw(wire.broker.port, wire.names.jobs, BODY)

    async with wire.jobs() as jobs:
        unnamed = await jobs.next()
        await unnamed.requeue(JobState())
        named = await jobs.next()

    assert unnamed.facts.message_id is None
    assert str(UUID(named.facts.message_id)) == named.facts.message_id
    assert named.body == BODY


async def test_parked_job_is_among_the_dead_with_the_reason(wire: Wire) -> None:
    before = datetime.now(UTC)
    await wire.put(BODY, headers={"kept": 1}, message_id="job-1")

    async with wire.jobs() as jobs:
        await (await jobs.next()).dead_letter(FailureKind.TIMEOUT, "it took too long", 2)

    dead = await wire.first_in(wire.names.jobs_dead)
    assert dead.body == BODY
    assert dead.message_id == "job-1"
    failed_at = datetime.fromisoformat(str(dead.headers.pop("x-aimicromind-failed-at")))
    assert before <= failed_at <= datetime.now(UTC)
    assert _own_headers(dead) == {
        "kept": 1,
        "x-aimicromind-kind": "timeout",
        "x-aimicromind-message": "it took too long",
        "x-aimicromind-attempts": 2,
    }
    await wire.until_in_queue(wire.names.jobs, 0)


async def test_reason_of_a_parked_job_is_cut_to_a_header_s_length(wire: Wire) -> None:
    await wire.put(BODY)

    async with wire.jobs() as jobs:
        await (await jobs.next()).dead_letter(FailureKind.INTERNAL, "\U0001f600" * 5000, 0)

    dead = await wire.first_in(wire.names.jobs_dead)
    assert dead.headers["x-aimicromind-message"] == "\U0001f600" * 1000


async def test_job_that_the_dead_do_not_take_goes_to_the_reaped(wire: Wire) -> None:
    await wire.put(BODY, message_id="job-1")
    await delete_queue(wire.connection, wire.names.jobs_dead)

    async with wire.jobs() as jobs:
        await (await jobs.next()).dead_letter(FailureKind.TIMEOUT, "late", 1)

        reaped = await wire.first_in(wire.names.jobs_reaped)
    assert (reaped.body, reaped.message_id) == (BODY, "job-1")
    await wire.until_in_queue(wire.names.jobs, 0)


async def test_full_queue_refuses_the_producer_and_loses_no_job_put_again(wire: Wire) -> None:
    await wire.put(b"held")
    async with wire.jobs() as jobs:
        held = await jobs.next()
        limit = '{"max-length": 1}'
        await wire.broker.rabbitmqctl(
            "set_policy", "--apply-to", "queues", wire.names.prefix, f"^{wire.names.jobs}$", limit
        )
        accepted = await _fill(wire.connection, wire.names)

        await held.requeue(JobState(attempt=2))
        assert await wire.in_queue(wire.names.jobs_delay(RETRY_DELAYS[0])) == 1
        await wire.broker.rabbitmqctl("clear_policy", wire.names.prefix)
        came = [await jobs.next()]
        while came[-1].body != b"held":
            await came[-1].ack()
            came.append(await jobs.next())

        facts = came[-1].facts
        assert len(came) == accepted + 1
        assert (facts.carried.attempt, facts.deliveries_before) == (2, 0)


def _own_headers(message: AbstractIncomingMessage) -> dict[str, object]:
    """Give the headers without the broker's counts of this copy's deliveries."""
    counts = ("x-delivery-count", "x-acquired-count")
    return {name: it for name, it in message.headers.items() if name not in counts}


async def _fill(connection: AbstractConnection, names: Names) -> int:
    """Publish until the queue refuses; its limit is reached a little later than it says."""
    accepted = 0
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                await put_job(connection, names, b"more")
            except DeliveryError:
                return accepted
            accepted += 1


@pytest.mark.parametrize("slots", [1, 2])
async def test_deliveries_settle_independently_of_their_order(wire: Wire, slots: int) -> None:
    for number in range(slots):
        await wire.put(b"%d" % number)

    async with wire.jobs(slots=slots) as jobs:
        taken = [await jobs.next() for _ in range(slots)]
        async with asyncio.TaskGroup() as group:
            for delivery in reversed(taken):
                group.create_task(delivery.requeue(JobState(attempt=2)))

        await wire.until_in_queue(wire.names.jobs, 0)
        bodies = {(await jobs.next()).body for _ in range(slots)}

    assert bodies == {b"%d" % number for number in range(slots)}
