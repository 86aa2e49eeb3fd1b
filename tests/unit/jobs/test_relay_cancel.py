"""A cancel request meets a job in each of its states; what its chat and the queue are told."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aimicromind_schemas import (
    CancelRequest,
    ChatCancel,
    EndEvent,
    EndStatus,
    FailureKind,
    JobCancel,
)
from aimicromind_schemas.journal.history import History
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.retry import RetryPolicy
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs.dead_lettered import DeadLettered
from aimicromind_worker.jobs.gates import Gates
from aimicromind_worker.jobs.registry import JobRegistry
from aimicromind_worker.jobs.relay import Relay
from aimicromind_worker.jobs.turns import Turns
from tests.support.builders import (
    IMPATIENT,
    NAMES,
    SLOTS,
    a_job,
    an_intake,
    dependencies,
    tokens,
)
from tests.support.fakes import (
    CUT_AFTER,
    CUT_BEFORE,
    HANG,
    WELL,
    FakeChats,
    FakeDelivery,
    FakeJournal,
    RecordingPublisher,
    Script,
    ScriptedPredictions,
)

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
CANCEL = JobCancel("job")
AGAIN = MessageFacts(redelivered=True, deliveries_before=1)
NEVER_SOON = RetryPolicy(HOUR, HOUR, longest_stay=HOUR)
LONG: dict[str, Any] = {"attempt_timeout": 9 * HOUR, "hold": 99 * HOUR}


class Stage:
    """A relay whose jobs can be cancelled."""

    def __init__(self, *scripts: Script, policy: RetryPolicy = IMPATIENT) -> None:
        self.predictions = ScriptedPredictions(*scripts)
        self.publisher = RecordingPublisher()
        self.journal = FakeJournal(publisher=self.publisher)
        self.chats = FakeChats()
        self.held = JobRegistry()
        shared = dependencies(self.predictions, self.publisher, policy, **LONG)
        intake = an_intake(shared, self.journal)
        self.dead_lettered = DeadLettered(intake, shared, NAMES)
        turns = Turns(self.chats, intake.is_behind, SLOTS, HOUR)
        gates = Gates(shared, intake, turns, self.held)
        self.relay = Relay(shared, intake, gates, self.held, NAMES)

    def delivery(self, facts: MessageFacts | None = None, **fields: Any) -> FakeDelivery:  # noqa: ANN401 - see a_job
        return FakeDelivery(a_job(**fields), facts or MessageFacts(), self.publisher.history)

    async def carry(self, facts: MessageFacts | None = None, **fields: Any) -> FakeDelivery:  # noqa: ANN401 - see a_job
        delivery = self.delivery(facts, **fields)
        await self.relay.carry(delivery)
        return delivery

    async def cancelled(
        self,
        request: CancelRequest = CANCEL,
        facts: MessageFacts | None = None,
        after_s: float = 0.0,
    ) -> FakeDelivery:
        """Carry a job, and cancel it once its first call has begun and shown what it has."""
        delivery = self.delivery(facts)
        carrying = asyncio.create_task(self.relay.carry(delivery))
        await self.predictions.began.wait()
        await asyncio.sleep(after_s)
        self.held.cancel(request)
        await asyncio.wait_for(carrying, 5)
        assert self.predictions.open_calls == 0
        return delivery


async def test_running_job_ends_with_what_it_showed_and_is_acknowledged() -> None:
    stage = Stage([tokens("Once ", "upon"), HANG])

    await stage.cancelled()

    assert stage.publisher.history == [
        "start",
        "token",
        "token",
        "end recorded",
        "3 confirmed",
        "end",
        "1 confirmed",
        "ack",
    ]
    end = stage.publisher.end()
    assert end.data.status == EndStatus.CANCELLED
    assert (end.attempt, end.seq, end.data.attempts) == (1, 3, 1)
    assert (end.data.calls, end.data.events, end.data.text) == (1, 4, "Once upon")


async def test_endpoint_is_asked_to_stop_the_call() -> None:
    stage = Stage([tokens("Once"), HANG])

    await stage.cancelled()

    assert stage.predictions.aborted == stage.predictions.calls


@pytest.mark.parametrize(
    ("request_", "facts"),
    [
        (ChatCancel("chat", NOON), MessageFacts(submitted_at=NOON)),
        (ChatCancel("chat", NOON), MessageFacts()),
    ],
)
async def test_running_job_is_cancelled_by_its_chat(
    request_: CancelRequest, facts: MessageFacts
) -> None:
    stage = Stage([tokens("Once"), HANG])

    await stage.cancelled(request_, facts)

    assert stage.publisher.end().data.status == EndStatus.CANCELLED


@pytest.mark.parametrize(
    "request_", [JobCancel("other"), ChatCancel("other", NOON), ChatCancel("chat", NOON - SECOND)]
)
async def test_request_for_others_changes_nothing(request_: CancelRequest) -> None:
    stage = Stage([tokens("Once"), HANG])
    carrying = asyncio.create_task(stage.carry(MessageFacts(submitted_at=NOON)))
    await stage.predictions.began.wait()

    stage.held.cancel(request_)
    await asyncio.sleep(0.01)

    assert not carrying.done()
    assert stage.predictions.open_calls == 1
    stage.held.cancel(CANCEL)
    await carrying


@pytest.mark.parametrize(("first", "attempt"), [(CUT_BEFORE, 1), (CUT_AFTER, 2)])
async def test_job_is_cancelled_while_it_waits_to_call_again(first: Script, attempt: int) -> None:
    stage = Stage(first, policy=NEVER_SOON)

    await stage.cancelled(after_s=0.01)

    end = stage.publisher.end()
    assert (end.data.status, end.attempt, end.data.calls) == (EndStatus.CANCELLED, attempt, 1)
    assert (end.data.text, len(stage.predictions.aborted)) == ("", 1)
    assert stage.publisher.history[-1] == "ack"


async def test_job_is_cancelled_before_its_first_call() -> None:
    stage = Stage(WELL)
    stage.predictions.thinks_for_s = 3600
    carrying = asyncio.create_task(stage.carry())
    await asyncio.sleep(0.01)

    stage.held.cancel(CANCEL)
    await asyncio.wait_for(carrying, 5)

    assert stage.publisher.shown() == [(0, 0, "end")]
    assert (stage.predictions.calls, stage.predictions.aborted) == ([], [])


async def test_call_that_had_no_connection_yet_was_none() -> None:
    stage = Stage([HANG])
    stage.predictions.connects = False

    await stage.cancelled()

    assert stage.publisher.end().data.calls == 0


async def test_job_that_was_cancelled_before_it_came_is_never_run() -> None:
    stage = Stage(WELL)
    stage.held.cancel(CANCEL)

    delivery = await stage.carry(tags={"team": "blue"})

    assert stage.publisher.shown() == [(0, 0, "end")]
    end = stage.publisher.end()
    assert end.data.status == EndStatus.CANCELLED
    assert (end.data.attempts, end.data.calls, end.data.events) == (0, 0, 1)
    assert end.data.tags == {"team": "blue"}
    assert (stage.predictions.calls, delivery.history[-1]) == ([], "ack")


async def test_cancelled_job_that_ran_before_ends_as_the_next_attempt() -> None:
    stage = Stage(WELL)
    stage.journal.remembers = {"job": History(last_attempt=2, calls=3)}
    stage.held.cancel(CANCEL)

    await stage.carry(AGAIN)

    assert stage.publisher.shown() == [(3, 0, "end")]
    assert (stage.publisher.end().data.attempts, stage.publisher.end().data.calls) == (2, 3)


async def test_cancelled_job_that_was_delayed_ends_with_what_its_headers_tell() -> None:
    stage = Stage(WELL)
    stage.held.cancel(CANCEL)

    await stage.carry(MessageFacts(carried=JobState(attempt=1, calls=2)))

    assert stage.publisher.shown() == [(2, 0, "end")]
    assert (stage.publisher.end().data.attempts, stage.publisher.end().data.calls) == (1, 2)


@pytest.mark.parametrize("status", [EndStatus.COMPLETED, EndStatus.CANCELLED])
async def test_late_request_changes_nothing(status: EndStatus) -> None:
    stage = Stage()
    # A worker published the error, died before the end, and the next one got to this end.
    ended = History(1, 1, status=status, kind=FailureKind.TIMEOUT, message="late")
    stage.journal.remembers = {"job": ended}
    stage.held.cancel(CANCEL)

    delivery = await stage.carry(AGAIN)

    assert (stage.publisher.published, delivery.history) == ([], ["ack"])


async def test_job_is_cancelled_while_it_is_looked_up() -> None:
    stage = Stage(WELL)
    stage.journal.remembers = {"job": History(last_attempt=1, calls=1)}
    stage.journal.answers.clear()
    carrying = asyncio.create_task(stage.carry(AGAIN))
    await asyncio.sleep(0)

    stage.held.cancel(CANCEL)
    stage.journal.answers.set()
    await carrying

    assert stage.publisher.shown() == [(2, 0, "end")]
    assert stage.predictions.calls == []


async def test_job_is_cancelled_while_it_waits_for_its_chat() -> None:
    stage = Stage([tokens("Once"), HANG])
    first = asyncio.create_task(stage.carry(jobId="first"))
    await stage.predictions.began.wait()
    waiting = asyncio.create_task(stage.carry())
    await asyncio.sleep(0.01)

    stage.held.cancel(CANCEL)
    delivery = await asyncio.wait_for(waiting, 1)

    assert delivery.history[-1] == "ack"
    assert stage.publisher.shown()[-1] == (0, 0, "end")
    assert stage.predictions.open_calls == 1
    stage.held.cancel(JobCancel("first"))
    await first


@pytest.mark.parametrize("facts", [MessageFacts(), AGAIN])
async def test_cancelled_job_ends_while_another_worker_has_its_chat(facts: MessageFacts) -> None:
    stage = Stage()
    stage.chats.held_elsewhere = {"chat"}
    stage.held.cancel(CANCEL)

    delivery = await stage.carry(facts)

    before = facts.deliveries_before
    assert stage.publisher.shown() == [(before + 1 if before else 0, 0, "end")]
    assert (stage.publisher.end().data.attempts, delivery.history[-1]) == (before, "ack")


async def test_cancelled_job_that_ended_elsewhere_is_not_ended_again() -> None:
    stage = Stage()
    stage.chats.held_elsewhere = {"chat"}
    stage.journal.remembers = {"job": History(1, 1, status=EndStatus.COMPLETED)}
    stage.held.cancel(CANCEL)

    delivery = await stage.carry(AGAIN)

    assert (stage.publisher.published, delivery.history) == ([], ["ack"])


async def test_copy_of_a_cancelled_job_is_acknowledged() -> None:
    stage = Stage()
    stage.held.cancel(CANCEL)
    await stage.carry()

    copy = await stage.carry()

    first, again = stage.publisher.published
    assert (first.name, first.body) == ("end", again.body)
    assert copy.history[-1] == "ack"


async def test_request_that_comes_after_the_answer_changes_nothing() -> None:
    stage = Stage(WELL)

    await stage.carry()
    stage.held.cancel(CANCEL)
    await asyncio.sleep(0)

    assert stage.publisher.end().data.status == EndStatus.COMPLETED
    assert stage.predictions.aborted == []


async def test_request_that_comes_twice_ends_the_job_once() -> None:
    stage = Stage([tokens("Once"), HANG])
    carrying = asyncio.create_task(stage.carry())
    await stage.predictions.began.wait()

    for _ in range(3):
        stage.held.cancel(CANCEL)
        await asyncio.sleep(0)
    await carrying

    assert stage.publisher.end().data.status == EndStatus.CANCELLED
    assert len(stage.predictions.aborted) == 1


async def test_cancel_goes_before_the_hand_back() -> None:
    stage = Stage([tokens("Once"), HANG])
    carrying = asyncio.create_task(stage.carry())
    await stage.predictions.began.wait()
    await asyncio.sleep(0)

    stage.relay.shut_down_runs()
    stage.held.cancel(CANCEL)
    await carrying

    assert stage.publisher.end().data.status == EndStatus.CANCELLED
    assert stage.publisher.history[-1] == "ack"


async def test_next_job_of_the_chat_is_not_cancelled() -> None:
    stage = Stage([tokens("Once"), HANG], WELL)
    await stage.cancelled(ChatCancel("chat", NOON), MessageFacts(submitted_at=NOON))

    await stage.carry(MessageFacts(submitted_at=NOON + timedelta(microseconds=1)), jobId="next")
    await stage.carry(MessageFacts(submitted_at=NOON), jobId="queued-before")

    ends = [event for event in stage.publisher.events() if isinstance(event, EndEvent)]
    assert {end.job_id: end.data.status for end in ends} == {
        "job": "cancelled",
        "next": "completed",
        "queued-before": "cancelled",
    }


async def test_job_that_the_broker_gave_up_keeps_that_ending() -> None:
    stage = Stage()
    stage.held.cancel(CANCEL)
    delivery = stage.delivery(MessageFacts(dead_letter_reason="expired"))

    await stage.dead_lettered.end(delivery)

    assert stage.publisher.end().data.status == EndStatus.EXPIRED
    assert delivery.history[-1] == "dead-letter"


async def test_failure_of_the_call_is_not_told_once_the_job_is_cancelled() -> None:
    stage = Stage([tokens("Once"), HANG])
    stage.predictions.fails_when_cut = errors.StreamCut("while it was closed")

    await stage.cancelled()

    assert stage.publisher.end().data.status == EndStatus.CANCELLED
    assert "error" not in stage.publisher.history
