"""A delivery is settled as its port says, by the fake and by the real one."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import pytest
from aio_pika.abc import AbstractConnection

from aimicromind_schemas import FailureKind, Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.core.job.admission import ATTEMPT_HEADER
from aimicromind_worker.core.job.delays import RETRY_DELAYS
from aimicromind_worker.jobs.ports import Delivery
from tests.integration.job_bodies import jobs_at
from tests.support.amqp import first_in, in_queue, put_job
from tests.support.fakes import FakeDelivery


class Became(NamedTuple):
    """Where a job is once its delivery is settled, and what its headers say there."""

    where: str
    attempt: object = None
    kind: object = None
    attempts: object = None


Settle = Callable[[Delivery], Awaitable[None]]
CASES: Final[dict[str, tuple[Settle, Became]]] = {
    "ack": (lambda it: it.ack(), Became("nowhere")),
    "requeue": (lambda it: it.requeue({ATTEMPT_HEADER: 2}), Became("jobs", 2)),
    "delay": (lambda it: it.requeue({ATTEMPT_HEADER: 2}, RETRY_DELAYS[-1]), Became("delayed", 2)),
    "requeue_unchanged": (lambda it: it.requeue_unchanged(), Became("jobs")),
    "reject": (lambda it: it.reject(), Became("reaped")),
    "dead_letter": (
        lambda it: it.dead_letter(FailureKind.TIMEOUT, "late", 2),
        Became("dead", kind="timeout", attempts=2),
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_fake_delivery_is_settled(case: str) -> None:
    settle, expected = CASES[case]
    delivery = FakeDelivery(b"job")

    await settle(delivery)

    last = delivery.history[-1]
    settled = {"ack": "nowhere", "refuse": "reaped", "give back": "jobs", "park": "dead"}
    where = settled.get(last, "delayed" if delivery.delay else "jobs")
    dead = delivery.parked
    assert expected == Became(
        where,
        (delivery.put_back or {}).get(ATTEMPT_HEADER),
        dead and dead.kind,
        dead and dead.attempts,
    )


@pytest.mark.parametrize("case", CASES)
async def test_real_delivery_is_settled(
    broker: PrivateBroker, declared: Names, connection: AbstractConnection, case: str
) -> None:
    settle, expected = CASES[case]
    await put_job(connection, declared, b"job")

    async with jobs_at(broker.url, declared) as jobs:
        await settle(await jobs.next())

    queues = {
        "jobs": declared.jobs,
        "delayed": declared.jobs_delay(RETRY_DELAYS[-1]),
        "reaped": declared.jobs_reaped,
        "dead": declared.jobs_dead,
    }
    headers = {}
    if expected.where in queues:
        headers = (await first_in(connection, queues[expected.where])).headers
    assert [await in_queue(connection, queue) for queue in queues.values()] == [0] * len(queues)
    told = [headers.get(f"x-aimicromind-{name}") for name in ("attempt", "kind", "attempts")]
    assert expected == Became(expected.where, *told)
