"""Requests for the status of a worker, as one session answers them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from aimicromind_schemas import StatusRequest, WorkerReport
from aimicromind_worker.core.chats.return_address import ReturnAddress
from aimicromind_worker.jobs.status_answers import StatusAnswers
from tests.support.builders import NAMES, SECRET
from tests.support.waiting import until
from tests.unit.schemas.test_worker_report import REPORT

REQUEST = StatusRequest().encode()
HERE = ReturnAddress("here", "request-7")


class FakeReports:
    """Takes what is sent, unless a test forbids it."""

    def __init__(self) -> None:
        self.may = True
        self.avoided: set[str] = set()
        self.sent: list[tuple[ReturnAddress, bytes]] = []
        self.faults = 0
        self.others: list[bytes] = []
        self.requests: list[StatusRequest] = []

    def may_publish(self) -> bool:
        return self.may

    def avoids(self, queue: str) -> bool:
        return queue in self.avoided

    def publish_report(self, to: ReturnAddress, body: bytes) -> None:
        self.sent.append((to, body))

    def report(self, request: StatusRequest) -> WorkerReport:
        self.requests.append(request)
        if self.faults:
            self.faults -= 1
            raise ValueError(SECRET)
        return REPORT


@asynccontextmanager
async def answering(reports: FakeReports) -> AsyncIterator[StatusAnswers]:
    answers = StatusAnswers(reports, NAMES, reports.report, reports.others.append)
    running = asyncio.create_task(answers.run())
    try:
        yield answers
    finally:
        running.cancel()


async def test_request_is_answered_with_the_report() -> None:
    reports = FakeReports()
    async with answering(reports) as answers:
        answers.take(REQUEST, HERE)
        await until(lambda: reports.sent)

    assert reports.sent == [(HERE, REPORT.encode())]


async def test_last_job_that_an_asker_asks_for_counts() -> None:
    reports = FakeReports()
    reports.may = False
    async with answering(reports) as answers:
        for job_id in ("first", "last"):
            answers.take(StatusRequest(job_id).encode(), HERE)
        reports.may = True
        await until(lambda: reports.sent)

    assert reports.requests == [StatusRequest("last")]


async def test_message_that_wants_no_answer_is_passed_on() -> None:
    reports = FakeReports()
    async with answering(reports) as answers:
        for body in (b"turn", REQUEST):
            answers.take(body, None)
        answers.take(REQUEST, HERE)
        await until(lambda: reports.sent)

    assert reports.others == [b"turn", REQUEST]
    assert len(reports.sent) == 1


@pytest.mark.parametrize(
    ("body", "queue"),
    [
        (b"", "here"),
        (b"[" * 5000, "here"),
        (b'{"status":1}', "here"),
        (b'{"status":{"jobId":[1]}}', "here"),
        (b'{"turn":"next"}', "here"),
        (b"x" * 2000, "here"),
        (REQUEST, "avoided"),
        (REQUEST, "amq.rabbitmq.reply-to.x"),
        (REQUEST, NAMES.jobs),
    ],
)
async def test_request_that_is_none_or_names_such_a_queue_is_not_answered(
    body: bytes, queue: str
) -> None:
    reports = FakeReports()
    reports.avoided.add("avoided")
    with capture_logs() as lines:
        async with answering(reports) as answers:
            answers.take(body, ReturnAddress(queue))
            answers.take(REQUEST, HERE)
            await until(lambda: reports.sent)

    assert [to for to, _ in reports.sent] == [HERE]
    assert not reports.others
    assert {line["log_level"] for line in lines} == {"debug"}


async def test_requests_of_one_asker_that_wait_are_answered_once() -> None:
    reports = FakeReports()
    reports.may = False
    async with answering(reports) as answers:
        for _ in range(1000):
            answers.take(REQUEST, HERE)
        reports.may = True
        await until(lambda: reports.sent)
        answers.take(REQUEST, ReturnAddress("there"))
        await until(lambda: len(reports.sent) > 1)

    assert [to.queue for to, _ in reports.sent] == ["here", "there"]


async def test_askers_beyond_the_most_are_left_out() -> None:
    reports = FakeReports()
    reports.may = False
    async with answering(reports) as answers:
        for number in range(1000):
            answers.take(REQUEST, ReturnAddress(f"queue-{number}"))
        reports.may = True
        await until(lambda: len(reports.sent) == 32)
        answers.take(REQUEST, HERE)
        await until(lambda: len(reports.sent) == 33)

    assert reports.sent[-1][0] == HERE


async def test_fault_costs_one_answer_and_is_logged_without_its_text() -> None:
    reports = FakeReports()
    reports.faults = 1
    with capture_logs() as lines:
        async with answering(reports) as answers:
            answers.take(REQUEST, HERE)
            await until(lambda: lines)
            answers.take(REQUEST, HERE)
            await until(lambda: reports.sent)

    assert [line["event"] for line in lines] == ["job.fault"]
    assert SECRET not in str(lines)
