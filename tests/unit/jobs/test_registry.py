"""Cancel requests that are read late, and the jobs that wait for them."""

import asyncio
from datetime import UTC, datetime, timedelta

from aimicromind_schemas import ChatCancel, JobCancel
from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.jobs.registry import JobRegistry
from tests.support.builders import a_ticket, untraced

NOW = datetime.now(UTC)
EVER = datetime.min.replace(tzinfo=UTC)


def _submitted(at: datetime | None) -> Ticket:
    return a_ticket(MessageFacts(submitted_at=at))


async def test_young_job_waits_for_no_old_requests() -> None:
    held = JobRegistry()
    held.know_requests_since(NOW - timedelta(minutes=15))

    async with asyncio.timeout(5):
        await held.until_requests_known(_submitted(NOW))


async def test_old_job_and_one_of_unknown_age_wait_until_all_requests_are_known() -> None:
    held = JobRegistry()
    held.know_requests_since(NOW - timedelta(minutes=15))
    waiting = [
        asyncio.ensure_future(held.until_requests_known(_submitted(at)))
        for at in (NOW - timedelta(hours=1), None)
    ]
    await asyncio.sleep(0)
    assert not any(it.done() for it in waiting)

    held.know_requests_since(EVER)

    async with asyncio.timeout(5):
        await asyncio.gather(*waiting)


async def test_request_of_the_log_that_is_read_late_cancels_a_job_that_waits() -> None:
    held = JobRegistry()
    with held.holding(_submitted(NOW), untraced()) as job:
        held.cancel_logged(JobCancel("job"))

        assert job.cancelled.done()


async def test_old_request_by_chat_spares_a_job_of_unknown_age() -> None:
    held = JobRegistry()
    request = ChatCancel("chat", NOW - timedelta(hours=1))
    with held.holding(_submitted(None), untraced()) as job:
        held.cancel_logged(request)
        assert not job.cancelled.done()
        held.cancel(request)
        assert job.cancelled.done()
