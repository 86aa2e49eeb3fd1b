import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from aimicromind_schemas import EndStatus, FailureKind
from aimicromind_schemas.journal.history import History
from aimicromind_testing import frame
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs.dead_lettered import DeadLettered
from aimicromind_worker.jobs.gates import Gates
from aimicromind_worker.jobs.registry import JobRegistry
from aimicromind_worker.jobs.relay import Relay
from aimicromind_worker.jobs.turns import Turns
from tests.support.builders import (
    ENDED_WELL,
    MAX_JOB_BYTES,
    NAMES,
    SECRET,
    SLOTS,
    USED_TOOLS,
    a_job,
    an_intake,
    dependencies,
    tokens,
)
from tests.support.fakes import (
    CUT,
    CUT_AFTER,
    CUT_AFTER_TOOL,
    CUT_BEFORE,
    HANG,
    WELL,
    DeadLetterReason,
    FakeChats,
    FakeDelivery,
    FakeJournal,
    RecordingPublisher,
    Script,
    ScriptedPredictions,
)

LONG = timedelta(minutes=1)
FAILED = ["error", "end recorded", "1 confirmed", "end", "1 confirmed", "dead-letter"]
"""What a failed job leaves, in its order."""
BRIEFLY = timedelta(milliseconds=20)
"""The patience of jobs for a chat that another worker holds."""


class Stage:
    """A relay between an endpoint that answers by scripts and a broker that notes what comes."""

    def __init__(
        self, *scripts: Script, after_loss: bool = False, patience: timedelta = LONG
    ) -> None:
        self.predictions = ScriptedPredictions(*scripts)
        self.publisher = RecordingPublisher()
        self.journal = FakeJournal(publisher=self.publisher)
        self.chats = FakeChats()
        shared = dependencies(self.predictions, self.publisher)
        self.meter = shared.meter
        intake = an_intake(shared, self.journal, after_loss=after_loss)
        self.dead_lettered = DeadLettered(intake, shared, NAMES)
        held = JobRegistry()
        self.turns = Turns(self.chats, intake.is_behind, SLOTS, patience)
        gates = Gates(shared, intake, self.turns, held)
        self.relay = Relay(shared, intake, gates, held, NAMES)

    def delivery(
        self,
        body: bytes | None = None,
        facts: MessageFacts | None = None,
        **fields: Any,  # noqa: ANN401 - see a_job
    ) -> FakeDelivery:
        body = a_job(**fields) if body is None else body
        return FakeDelivery(body, facts or MessageFacts(), self.publisher.history)

    async def carry(
        self,
        body: bytes | None = None,
        facts: MessageFacts | None = None,
        **fields: Any,  # noqa: ANN401 - see a_job
    ) -> FakeDelivery:
        delivery = self.delivery(body, facts, **fields)
        await self.relay.carry(delivery)
        return delivery

    async def interrupted(self, **fields: Any) -> FakeDelivery:  # noqa: ANN401 - see a_job
        """Carry a job, and leave once its first call has begun and shown what it has."""
        delivery = self.delivery(**fields)
        carrying = asyncio.create_task(self.relay.carry(delivery))
        await self.predictions.began.wait()
        await asyncio.sleep(0)
        self.relay.shut_down_runs()
        await carrying
        return delivery


def facts_after(delivery: FakeDelivery) -> MessageFacts:
    """Read the headers of a job that was put on the queue again, as the next worker does."""
    assert delivery.requeued is not None
    return MessageFacts(carried=delivery.requeued)


async def test_end_waits_for_the_confirms_before_it_and_the_acknowledgement_for_its_own() -> None:
    stage = Stage(WELL)

    await stage.carry()

    assert stage.publisher.history == [
        "start",
        "token",
        "metadata",
        "end recorded",
        "3 confirmed",
        "end",
        "1 confirmed",
        "ack",
    ]


async def test_job_that_must_wait_long_says_so_and_waits_on_the_ladder() -> None:
    stage = Stage(errors.RateLimited("later", retry_after=timedelta(seconds=60)), WELL)

    delivery = await stage.carry(facts=MessageFacts(carried=JobState(crashes=1)))
    again = facts_after(delivery)
    await stage.carry(facts=again)

    assert stage.publisher.history[:3] == ["retry", "1 confirmed", "requeue"]
    assert stage.publisher.data("retry") == [
        {
            "kind": "rate_limited",
            "message": "too many requests: later",
            "nextAttempt": 2,
            "delaySeconds": 60,
        }
    ]
    assert delivery.delay == timedelta(seconds=60)
    assert (again.carried.attempt, again.carried.calls, again.carried.crashes) == (1, 1, 1)
    assert again.carried.sent
    assert stage.publisher.shown()[1:3] == [(2, 0, "start"), (2, 1, "token")]
    assert (stage.publisher.end().data.attempts, stage.publisher.end().data.calls) == (2, 2)


async def test_job_that_was_never_sent_may_wait_and_be_called_though_it_must_not_run_twice() -> (
    None
):
    unsent = errors.EndpointUnavailable(
        "busy", request_sent=False, retry_after=timedelta(seconds=60)
    )
    stage = Stage(unsent, WELL)

    delivery = await stage.carry(idempotent=False)
    await stage.carry(facts=facts_after(delivery), idempotent=False)

    assert stage.publisher.end().data.status == EndStatus.COMPLETED


async def test_failed_job_says_why_ends_and_is_parked() -> None:
    stage = Stage(errors.Unauthorized("no key", http_status=401))

    delivery = await stage.carry()

    assert stage.publisher.history == FAILED
    assert stage.publisher.data("error") == [
        {"kind": "unauthorized", "message": "the key was refused: no key", "httpStatus": 401}
    ]
    assert stage.publisher.end().data.status == EndStatus.FAILED
    assert delivery.dead_lettered is not None
    assert delivery.dead_lettered.kind == FailureKind.UNAUTHORIZED
    assert delivery.dead_lettered.message == "the key was refused: no key"
    assert delivery.dead_lettered.attempts == 1


async def test_end_counts_attempts_calls_and_events_and_has_the_winners_text() -> None:
    stage = Stage(CUT_BEFORE, CUT_AFTER, [tokens("Once ", "upon"), ENDED_WELL])

    await stage.carry(tags={"team": "blue"})

    end = stage.publisher.end()
    assert (end.attempt, end.seq) == (2, 4)
    assert end.data.status == EndStatus.COMPLETED
    assert (end.data.attempts, end.data.calls, end.data.events) == (2, 3, end.seq + 1)
    assert end.data.text == "Once upon"
    assert end.data.tags == {"team": "blue"}
    assert not end.data.recovered
    assert 0 <= end.data.duration_seconds < 20


@pytest.mark.parametrize("facts", [MessageFacts(), MessageFacts(carried=JobState(attempt=2))])
async def test_job_that_expired_in_the_queue_ends_without_a_call(facts: MessageFacts) -> None:
    stage = Stage()
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()

    delivery = await stage.carry(facts=facts, expiresAt=past)

    before = facts.carried.attempt
    attempt = before + 1 if before else 0
    assert stage.publisher.shown() == [(attempt, 0, "error"), (attempt, 1, "end")]
    end = stage.publisher.end()
    assert (end.data.status, end.data.attempts, end.data.calls) == (EndStatus.EXPIRED, before, 0)
    assert delivery.dead_lettered is not None
    assert delivery.dead_lettered.kind == FailureKind.EXPIRED


async def test_start_tells_tags_and_redelivery() -> None:
    stage = Stage(WELL)

    await stage.carry(facts=MessageFacts(redelivered=True), tags={"team": "blue"})

    assert stage.publisher.data("start") == [
        {"tags": {"team": "blue"}, "redelivered": True, "upstream": None}
    ]
    assert stage.publisher.end().attempt == 2


async def test_job_without_a_name_is_put_again_to_get_one() -> None:
    stage = Stage()

    delivery = await stage.carry(jobId=None, chatId=None)

    assert delivery.requeued == JobState()
    assert stage.publisher.history == ["requeue"]


@pytest.mark.parametrize(
    ("body", "chat_id", "job_id"),
    [
        (a_job(question=None), "chat", "job"),
        (a_job(question=None, chatId=None), "job", "job"),
        (a_job(question=None, jobId="a b"), "chat", "message"),
        (b"{", "message", "message"),
    ],
)
async def test_job_that_is_none_is_told_to_its_chat_and_parked(
    body: bytes, chat_id: str, job_id: str
) -> None:
    stage = Stage()

    delivery = await stage.carry(body, MessageFacts(message_id="message", correlation_id="c-1"))

    assert stage.publisher.history == FAILED
    assert stage.publisher.addresses == [Address(chat_id, "", 0, "c-1")]
    assert stage.publisher.shown() == [(0, 0, "error"), (0, 1, "end")]
    end = stage.publisher.end()
    assert (end.job_id, end.data.status) == (job_id, EndStatus.REJECTED)
    assert (end.data.attempts, end.data.calls, end.data.events) == (0, 0, 2)
    assert delivery.dead_lettered is not None
    assert (delivery.dead_lettered.kind, delivery.dead_lettered.attempts) == (
        FailureKind.INVALID_JOB,
        0,
    )


async def test_job_that_is_too_long_is_parked_as_such() -> None:
    delivery = await Stage().carry(question="x" * MAX_JOB_BYTES)

    assert delivery.dead_lettered is not None
    assert delivery.dead_lettered.kind == FailureKind.TOO_LARGE


async def test_leaving_worker_tells_the_chat_and_puts_the_job_again() -> None:
    stage = Stage([tokens("half"), HANG])

    delivery = await stage.interrupted()

    assert stage.publisher.history == ["start", "token", "retry", "3 confirmed", "requeue"]
    (retry,) = stage.publisher.data("retry")
    assert (retry["kind"], retry["nextAttempt"], retry["delaySeconds"]) == ("shutdown", 2, 0)
    facts = facts_after(delivery)
    assert (facts.carried.attempt, facts.carried.calls) == (1, 1)
    assert not facts.carried.side_effect
    assert stage.predictions.open_calls == 0


async def test_next_worker_goes_on_where_the_first_one_left() -> None:
    left = await Stage([tokens("half"), HANG]).interrupted()
    stage = Stage(WELL)

    await stage.carry(facts=facts_after(left))

    end = stage.publisher.end()
    assert end.attempt == 2
    assert (end.data.attempts, end.data.calls, end.data.text) == (2, 2, "Once")


async def test_next_worker_keeps_the_first_ones_deadline() -> None:
    first = await Stage([HANG]).interrupted()
    stage = Stage()
    stage.relay.shut_down_runs()

    second = await stage.carry(facts=facts_after(first))

    assert facts_after(second).carried.deadline == facts_after(first).carried.deadline


async def test_next_worker_runs_no_tool_again() -> None:
    left = await Stage([USED_TOOLS, HANG]).interrupted()
    stage = Stage(WELL)

    delivery = await stage.carry(facts=facts_after(left))

    assert stage.predictions.calls == []
    assert delivery.dead_lettered is not None
    assert delivery.dead_lettered.kind == FailureKind.REPEAT_UNSAFE
    assert stage.publisher.shown() == [(2, 0, "error"), (2, 1, "end")]
    assert (stage.publisher.end().data.attempts, stage.publisher.end().data.calls) == (1, 1)


async def test_tool_of_an_earlier_attempt_is_carried_along() -> None:
    left = await Stage(CUT_AFTER_TOOL, [HANG]).interrupted(idempotent=True)

    assert facts_after(left).carried.side_effect


async def test_job_that_comes_while_leaving_is_put_again_uncalled() -> None:
    stage = Stage(WELL)
    stage.relay.shut_down_runs()

    delivery = await stage.carry()

    assert stage.predictions.calls == []
    assert facts_after(delivery).carried.calls == 0
    assert stage.publisher.history[-1] == "requeue"


async def test_fault_of_our_own_fails_its_job_alone_and_tells_no_content() -> None:
    stage = Stage([tokens("half"), ZeroDivisionError(SECRET)], WELL)

    with capture_logs() as logs:
        first = await stage.carry(jobId="job-1")
        second = await stage.carry(jobId="job-2")

    assert first.dead_lettered is not None
    assert first.dead_lettered.kind == FailureKind.INTERNAL
    assert second.dead_lettered is None
    ends = [event for event in stage.publisher.events() if event.event == "end"]
    assert [end.wire()["data"]["status"] for end in ends] == ["failed", "completed"]
    everything = [repr(logs), repr(first.dead_lettered), *map(repr, stage.publisher.published)]
    assert SECRET not in "".join(everything)
    (fault,) = [line for line in logs if line["event"] == "job.fault"]
    assert fault["error"] == "ZeroDivisionError"


@pytest.mark.parametrize("scripts", [[WELL], [errors.BadRequest("x")], [CUT_AFTER_TOOL]])
async def test_job_whose_end_is_not_confirmed_is_not_settled(scripts: list[Script]) -> None:
    stage = Stage(*scripts)
    stage.publisher.end_lost = ConnectionError("gone")

    with pytest.raises(ConnectionError, match="gone"):
        await stage.carry()

    assert stage.publisher.history[-1] == "end"


async def test_refused_job_whose_end_is_not_confirmed_is_not_settled() -> None:
    stage = Stage()
    stage.publisher.end_lost = ConnectionError("gone")

    with pytest.raises(ConnectionError):
        await stage.carry(b"{")

    assert stage.publisher.history[-1] == "end"


async def test_content_stays_out_of_the_logs() -> None:
    stage = Stage(
        [tokens(SECRET), CUT], [tokens(SECRET), frame("error", f"terminated {SECRET}")], WELL
    )

    with capture_logs() as logs:
        await stage.carry(question=SECRET, tags={"a": SECRET}, overrideConfig={"k": SECRET})
        await stage.carry(json.dumps({"jobId": "j", "question": [SECRET]}).encode())

    assert [line["event"] for line in logs].count("job.dead_lettered") == 1
    assert SECRET not in repr(logs)


AGAIN = MessageFacts(redelivered=True, deliveries_before=1)


async def test_job_that_comes_for_the_first_time_is_not_looked_up() -> None:
    stage = Stage(WELL)

    await stage.carry()

    assert stage.journal.asked == []


async def test_job_that_completed_before_is_acknowledged_and_not_run() -> None:
    stage = Stage(WELL)
    stage.journal.remembers = {"job": History(last_attempt=1, calls=1, status=EndStatus.COMPLETED)}

    delivery = await stage.carry(facts=AGAIN)

    assert delivery.history == ["ack"]
    assert (stage.predictions.calls, stage.publisher.published) == ([], [])


async def test_job_that_failed_before_is_parked_and_not_run() -> None:
    stage = Stage(WELL)
    failed = History(
        last_attempt=2, calls=2, status=EndStatus.FAILED, kind=FailureKind.TIMEOUT, message="late"
    )
    stage.journal.remembers = {"job": failed}

    delivery = await stage.carry(facts=AGAIN)

    assert delivery.dead_lettered == DeadLetterReason(FailureKind.TIMEOUT, "late", 2)
    assert (stage.predictions.calls, stage.publisher.published) == ([], [])


async def test_job_goes_on_with_the_attempt_after_the_last_one_remembered() -> None:
    stage = Stage(WELL)
    stage.journal.remembers = {"job": History(last_attempt=4, calls=2)}

    await stage.carry(facts=AGAIN)

    assert {attempt for attempt, _, _ in stage.publisher.shown()} == {5}


async def test_attempt_that_a_dead_worker_may_have_begun_is_not_used_again() -> None:
    stage = Stage(WELL)
    stage.journal.remembers = {"job": History(last_attempt=1, announced=2, calls=1)}

    await stage.carry(facts=AGAIN)

    assert {attempt for attempt, _, _ in stage.publisher.shown()} == {3}


async def test_attempt_that_was_left_to_the_next_worker_is_used() -> None:
    stage = Stage(WELL)
    stage.journal.remembers = {"job": History(last_attempt=1, announced=2, calls=1)}

    await stage.carry(facts=MessageFacts(carried=JobState(attempt=1, calls=1)))

    assert {attempt for attempt, _, _ in stage.publisher.shown()} == {2}


async def test_job_whose_dead_worker_used_a_tool_is_not_called_again() -> None:
    stage = Stage(WELL)
    stage.journal.remembers = {"job": History(last_attempt=1, calls=1, side_effect=True)}

    delivery = await stage.carry(facts=AGAIN)

    assert delivery.dead_lettered is not None
    assert delivery.dead_lettered.kind == FailureKind.REPEAT_UNSAFE
    assert stage.predictions.calls == []


async def test_job_of_which_nothing_can_be_known_now_waits_outside() -> None:
    stage = Stage(WELL)
    stage.journal.is_silent = True

    delivery = await stage.carry(facts=AGAIN)

    assert delivery.history == ["requeue"]
    assert delivery.delay
    assert stage.predictions.calls == []


async def test_job_that_waited_for_the_journal_is_looked_up_like_one_that_did_not() -> None:
    waiting, straight = Stage(WELL), Stage(WELL)
    waiting.journal.is_silent = True
    waited = facts_after(await waiting.carry(facts=AGAIN))
    known = History(last_attempt=1, announced=2, calls=1)

    waiting.journal.is_silent = False
    for stage, facts in ((waiting, waited), (straight, AGAIN)):
        stage.journal.remembers = {"job": known}
        await stage.carry(facts=facts)

    assert [{attempt for attempt, _, _ in it.publisher.shown()} for it in (waiting, straight)] == [
        {3}
    ] * 2


async def test_job_that_the_broker_gave_up_goes_back_while_nothing_can_be_known() -> None:
    stage = Stage()
    stage.journal.is_silent = True
    delivery = stage.delivery()

    await stage.dead_lettered.end(delivery)

    assert delivery.history == ["requeue unchanged"]
    assert stage.publisher.published == []


async def test_fault_while_a_job_is_settled_reaches_nobody_else() -> None:
    stage = Stage(errors.BadRequest("no"))
    delivery = stage.delivery()
    delivery.dead_letter_fails_with = TypeError("a header that cannot be written")

    await stage.relay.carry(delivery)

    assert delivery.history[-1] == "reject"


async def test_job_whose_burial_fails_for_a_fault_of_our_own_still_gets_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()

    async def look_up(*_: object) -> History:
        raise ValueError(SECRET)

    monkeypatch.setattr(stage.journal, "look_up", look_up)
    delivery = stage.delivery(facts=MessageFacts(dead_letter_reason="delivery_limit"))

    with capture_logs() as logs:
        await stage.dead_lettered.end(delivery)

    assert [event.event for event in stage.publisher.events()][-2:] == ["error", "end"]
    assert delivery.dead_lettered is not None
    assert delivery.dead_lettered.kind == FailureKind.INTERNAL
    assert SECRET not in str(logs)
