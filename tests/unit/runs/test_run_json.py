"""Jobs that ask for the whole JSON answer: nothing is seen of a call until it is over."""

import json

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.exchange import WholeAnswer
from aimicromind_worker.core.endpoint.failures import failure_of_status
from aimicromind_worker.core.endpoint.request import call_chat_id
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.runs.outcome import Completed
from tests.support.fakes import Run
from tests.unit.runs.test_run_recovery import FIRST_CALL, USED, Saved, message

ANSWER = {"text": "Once", "question": "Why?", "chatId": "c", "chatMessageId": "m", "n": [1, None]}
WHOLE = WholeAnswer(json.dumps(ANSWER).encode())
LOST = errors.EndpointUnavailable("no response")
LOST.run_goes_on = True
UNANSWERED = [LOST, errors.StreamCut("x"), failure_of_status(504, "")]
BUSY = failure_of_status(429, "")


def whole(run: Run) -> object:
    return json.loads(run.job.progress.attempt.answer.whole)


async def test_whole_answer_is_kept_and_shown_as_events_too() -> None:
    run = Run(WHOLE, answer="json")

    assert await run.outcome() == Completed()

    assert whole(run) == ANSWER
    assert run.publisher.data("token") == ["Once"]
    assert not run.predictions.calls[0].streams


async def test_job_that_does_not_ask_gets_no_whole_answer() -> None:
    run = Run(WHOLE)

    await run.outcome()

    assert run.job.progress.attempt.answer.whole == b""


@pytest.mark.parametrize("failure", UNANSWERED, ids=str)
async def test_call_without_an_answer_is_not_made_again(failure: CallFailed) -> None:
    run = Run(failure, WHOLE, answer="json", recovery_s=0.3)

    assert await run.failure() == FailureKind.REPEAT_UNSAFE

    assert run.calls == 1


@pytest.mark.parametrize("failure", UNANSWERED, ids=str)
async def test_call_without_an_answer_is_recovered(failure: CallFailed) -> None:
    saved = Saved({FIRST_CALL: message("Once", usedTools=USED)}, after_looks=1)
    run = Run(failure, memory=saved, answer="json")

    assert await run.outcome() == Completed()

    assert run.calls == 1
    assert whole(run) == {
        "text": "Once",
        "usedTools": USED,
        "chatId": FIRST_CALL,
        "chatMessageId": "m",
        "sessionId": "chat",
    }


@pytest.mark.parametrize("failure", UNANSWERED, ids=str)
async def test_job_that_may_be_repeated_is_called_again(failure: CallFailed) -> None:
    run = Run(failure, WHOLE, answer="json", idempotent=True, recovery_s=0.3)

    assert await run.outcome() == Completed()

    assert run.calls == 2


@pytest.mark.parametrize(
    "failure", [errors.EndpointUnavailable("refused", request_sent=False), BUSY], ids=str
)
async def test_call_that_was_refused_is_made_again(failure: CallFailed) -> None:
    run = Run(failure, WHOLE, answer="json")

    assert await run.outcome() == Completed()

    assert run.calls == 2


async def test_job_that_waits_after_a_refusal_is_called_later() -> None:
    later = MessageFacts(carried=JobState(attempt=1, calls=1, sent=True))

    run = Run(WHOLE, facts=later, answer="json")

    assert await run.outcome() == Completed()


async def test_call_lost_with_its_worker_is_recovered_or_not_made_again() -> None:
    lost = MessageFacts(redelivered=True, deliveries_before=1)
    saved = Saved({call_chat_id("job", 1, 1): message("Once")}, after_looks=3)
    found, gone = (
        Run(WHOLE, facts=lost, answer="json", memory=memory, recovery_s=recovery_s)
        for memory, recovery_s in ((saved, 5.0), (Saved({}), 0.3))
    )

    assert await found.outcome() == Completed()
    assert await gone.failure() == FailureKind.REPEAT_UNSAFE

    assert (found.calls, gone.calls) == (0, 0)


async def test_call_that_a_leaving_worker_broke_off_is_not_made_again() -> None:
    handed = MessageFacts(carried=JobState(attempt=1, calls=1, sent=True, open_attempt=1))
    run = Run(WHOLE, facts=handed, answer="json", memory=Saved({}), recovery_s=0.3)

    assert await run.failure() == FailureKind.REPEAT_UNSAFE

    assert run.calls == 0
