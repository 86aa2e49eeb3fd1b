"""Flows with documents of a conversation are called with its chatId, and never get mixed answers.

The scripted endpoint mixes up what runs of equal chatId say, as the real one does.
"""

import asyncio
import signal
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_testing import (
    Call,
    Script,
    Step,
    answer,
    error_answer,
    status_answer,
)
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.process.test_cancel import by_job, cancel
from tests.support.consumer import Consumer

_TOKENS = 40
_RATE = 20
_WITHIN_S = 40.0
# More than a run takes, so that who waits for this and who waits for the answer can be told apart.
_ATTEMPT_S = 6


either_way = pytest.mark.parametrize(
    "readable", [True, False], ids=["messages can be read", "no key"]
)


@pytest.fixture
def readable() -> bool:
    """Tell whether there is a key, by which it can be seen that an answer is saved."""
    return True


@pytest.fixture
def api_key(*, readable: bool) -> str | None:
    return "k3y" if readable else None


@pytest.fixture(autouse=True)
def documents(stage: Stage) -> None:
    """Have a flow that answers about documents of the conversation."""
    stage.endpoint.flow("documents", _spoken(), own_documents=True)


def _spoken(tokens: int = _TOKENS) -> Script:
    """Answer with words that tell whose they are."""

    def steps(call: Call) -> Iterable[Step]:
        said = answer(tokens, rate=_RATE, token=lambda number: f"{call.question}{number} ")
        return said.steps(call)

    return Script(steps)


def _whole(job: Job, tokens: int = _TOKENS) -> str:
    return "".join(f"{job.fields['question']}{number} " for number in range(tokens))


def _turns(*questions: str, flow: str = "documents") -> list[Job]:
    first = a_job(flow)
    return [a_job(flow, question=question, chatId=first.chat_id) for question in questions]


async def _began_to_answer(consumer: Consumer, job: Job) -> None:
    await consumer.saw(job.job_id, "token")


def _check_wait(stage: Stage, *, readable: bool) -> None:
    """Check that the second call began once the run of the first one could say no more."""
    before, after = stage.endpoint.calls[:2]
    assert before.run_ended is not None
    assert before.ended is not None
    assert after.started > before.run_ended
    if readable:
        assert after.started < before.run_ended + _ATTEMPT_S
    else:
        assert after.started >= before.ended + _ATTEMPT_S - 0.1


async def test_call_gets_the_conversations_chat_id_where_the_flow_needs_it(stage: Stage) -> None:
    stage.endpoint.flow("plain", _spoken(1))
    stage.endpoint.flow("documents", _spoken(1), own_documents=True)
    await stage.ready_worker()
    (needs_it,), (plain,) = _turns("a"), _turns("b", flow="plain")
    with stage.listen() as consumer:
        stage.submit(needs_it, plain)
        every = await stage.ended(consumer, needs_it, plain)

    asked = {call.flow: call for call in stage.endpoint.calls}
    assert asked["documents"].chat_id == needs_it.chat_id
    assert asked["plain"].chat_id != plain.chat_id
    for job, seen in zip((needs_it, plain), every, strict=True):
        told = seen.only("metadata")
        assert told["chatId"] == job.chat_id
        assert told["endpointChatId"] == asked[job.flow].chat_id


async def test_turns_of_a_conversation_follow_each_other_at_once(stage: Stage) -> None:
    stage.endpoint.flow("documents", _spoken(3), own_documents=True)
    await stage.ready_worker()
    turns = _turns("a", "b", "c")
    with stage.listen() as consumer:
        for turn in turns:
            stage.submit(turn)
            (seen,) = await stage.ended(consumer, turn)
            assert seen.end["text"] == _whole(turn, 3)

    began = [call.started for call in stage.endpoint.calls]
    assert began[-1] - began[0] < _ATTEMPT_S


@either_way
async def test_cut_answer_is_not_mixed_with_its_own_repeat(stage: Stage, *, readable: bool) -> None:
    stage.endpoint.flow("documents", _spoken().cut(after_sends=5), _spoken(), own_documents=True)
    await stage.ready_worker(ATTEMPT_TIMEOUT_SECONDS=_ATTEMPT_S)
    (job,) = _turns("a")
    with stage.listen() as consumer:
        stage.submit(job)
        (seen,) = await stage.ended(consumer, job, within_s=_WITHIN_S)

    assert (seen.end["status"], seen.end["text"]) == ("completed", _whole(job))
    if readable:
        assert (len(stage.endpoint.calls), seen.end["recovered"]) == (1, True)
    else:
        _check_wait(stage, readable=readable)


@either_way
async def test_turn_after_a_cancelled_one_holds_nothing_of_it(
    stage: Stage, *, readable: bool
) -> None:
    await stage.ready_workers(2, ATTEMPT_TIMEOUT_SECONDS=_ATTEMPT_S)
    first, second = _turns("a", "b")
    with stage.listen() as consumer:
        stage.submit(first)
        await _began_to_answer(consumer, first)
        cancel(stage, by_job(first))
        (cancelled,) = await stage.ended(consumer, first)
        stage.submit(second)
        (seen,) = await stage.ended(consumer, second, within_s=_WITHIN_S)

    assert cancelled.end["status"] == "cancelled"
    assert (seen.end["text"], seen.end["calls"]) == (_whole(second), 1)
    assert seen.shown(1)[0] == "start"
    _check_wait(stage, readable=readable)


async def test_flow_of_another_kind_does_not_wait_for_the_conversation(stage: Stage) -> None:
    stage.endpoint.flow("plain", _spoken(3))
    await stage.ready_worker(ATTEMPT_TIMEOUT_SECONDS=_ATTEMPT_S)
    (first,) = _turns("a")
    other = a_job("plain", question="b", chatId=first.chat_id)
    with stage.listen() as consumer:
        stage.submit(first)
        await _began_to_answer(consumer, first)
        cancel(stage, by_job(first))
        await stage.ended(consumer, first)
        stage.submit(other)
        (seen,) = await stage.ended(consumer, other)

    assert seen.end["text"] == _whole(other, 3)
    cut, plain = stage.endpoint.calls
    assert cut.run_ended is None or plain.started < cut.run_ended


@either_way
async def test_killed_workers_run_is_waited_for(stage: Stage, *, readable: bool) -> None:
    killed = await stage.ready_worker(ATTEMPT_TIMEOUT_SECONDS=_ATTEMPT_S)
    first, second = _turns("a", "b")
    with stage.listen() as consumer:
        stage.submit(first)
        await _began_to_answer(consumer, first)
        killed.signal(signal.SIGKILL)
        await killed.exits()
        await stage.ready_worker(ATTEMPT_TIMEOUT_SECONDS=_ATTEMPT_S)
        (seen,) = await stage.ended(consumer, first, within_s=_WITHIN_S)
        stage.submit(second)
        (after,) = await stage.ended(consumer, second, within_s=_WITHIN_S)

    assert (seen.end["status"], seen.end["text"]) == ("completed", _whole(first))
    assert (after.end["status"], after.end["text"]) == ("completed", _whole(second))
    if readable:
        assert (len(stage.endpoint.calls), seen.end["recovered"]) == (2, True)
    else:
        _check_wait(stage, readable=readable)


@either_way
async def test_run_that_a_leaving_worker_broke_off_is_waited_for(
    stage: Stage, *, readable: bool
) -> None:
    await stage.ready_workers(2, ATTEMPT_TIMEOUT_SECONDS=_ATTEMPT_S, DRAIN_SECONDS=1)
    (job,) = _turns("a")
    with stage.listen() as consumer:
        stage.submit(job)
        await _began_to_answer(consumer, job)
        (await stage.workers.holder(job.job_id)).signal(signal.SIGTERM)
        (seen,) = await stage.ended(consumer, job, within_s=_WITHIN_S)

    assert (seen.end["status"], seen.end["text"]) == ("completed", _whole(job))
    if readable:
        assert (len(stage.endpoint.calls), seen.end["recovered"]) == (1, True)
    else:
        _check_wait(stage, readable=readable)


async def test_turn_after_a_failed_run_does_not_wait(stage: Stage) -> None:
    failing = error_answer("Error: 400 the model refuses", tokens=2)
    stage.endpoint.flow("documents", failing, _spoken(3), own_documents=True)
    await stage.ready_worker(ATTEMPT_TIMEOUT_SECONDS=_ATTEMPT_S)
    first, second = _turns("a", "b")
    with stage.listen() as consumer:
        stage.submit(first)
        (failed,) = await stage.ended(consumer, first)
        began = time.monotonic()
        stage.submit(second)
        (seen,) = await stage.ended(consumer, second)

    assert failed.end["status"] == "failed"
    assert seen.end["text"] == _whole(second, 3)
    assert time.monotonic() - began < _ATTEMPT_S / 2


async def test_turn_whose_time_ends_while_it_waits_expires(stage: Stage) -> None:
    stage.endpoint.flow("documents", answer(1).delayed(30).forgotten(), own_documents=True)
    await stage.ready_worker(ATTEMPT_TIMEOUT_SECONDS=30)
    first, second = _turns("a", "b")
    soon = datetime.now(UTC) + timedelta(seconds=6)
    second = Job({**second.fields, "expiresAt": soon.isoformat()})
    with stage.listen() as consumer:
        stage.submit(first)
        await stage.endpoint.called(1)
        cancel(stage, by_job(first))
        await stage.ended(consumer, first)
        stage.submit(second)
        (seen,) = await stage.ended(consumer, second)

    assert seen.end["status"] == "expired"
    assert len(stage.endpoint.calls) == 1


async def test_flow_is_not_called_before_it_is_known_whose_documents_it_uses(
    stage: Stage,
) -> None:
    stage.endpoint.flow("documents", _spoken(1), own_documents=status_answer(503))
    await stage.ready_worker()
    (job,) = _turns("a")
    with stage.listen() as consumer:
        stage.submit(job)
        await stage.endpoint.until(
            lambda: any("chatflows-uploads" in it.path for it in stage.endpoint.other_requests)
        )
        await asyncio.sleep(0.5)
        assert stage.endpoint.calls == []
        stage.endpoint.flow("documents", _spoken(1), own_documents=True)
        (seen,) = await stage.ended(consumer, job)

    (call,) = stage.endpoint.calls
    assert (call.chat_id, seen.end["calls"]) == (job.chat_id, 1)
