"""A delivery is settled as its port says, by the fake and by the real one."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs.ports import Delivery
from tests.integration.wire import Wire
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
    "requeue": (lambda it: it.requeue(JobState(attempt=2)), Became("jobs", 2)),
    "delay": (lambda it: it.requeue(JobState(attempt=2), RETRY_DELAYS[-1]), Became("delayed", 2)),
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
    settled = {
        "ack": "nowhere",
        "reject": "reaped",
        "requeue unchanged": "jobs",
        "dead-letter": "dead",
    }
    where = settled.get(last, "delayed" if delivery.delay else "jobs")
    dead = delivery.dead_lettered
    assert expected == Became(
        where,
        delivery.requeued.attempt if delivery.requeued else None,
        dead and dead.kind,
        dead and dead.attempts,
    )


@pytest.mark.parametrize("case", CASES)
async def test_real_delivery_is_settled(wire: Wire, case: str) -> None:
    settle, expected = CASES[case]
    await wire.put(b"job")

    async with wire.jobs() as jobs:
        await settle(await jobs.next())

    queues = {
        "jobs": wire.names.jobs,
        "delayed": wire.names.jobs_delay(RETRY_DELAYS[-1]),
        "reaped": wire.names.jobs_reaped,
        "dead": wire.names.jobs_dead,
    }
    headers = {}
    if expected.where in queues:
        headers = (await wire.first_in(queues[expected.where])).headers
    assert [await wire.in_queue(queue) for queue in queues.values()] == [0] * len(queues)
    told = [headers.get(f"x-aimicromind-{name}") for name in ("attempt", "kind", "attempts")]
    assert expected == Became(expected.where, *told)
