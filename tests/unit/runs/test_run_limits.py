import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_schemas.journal.history import History
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.retry import RETRY_DELAYS, RetryPolicy
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.runs.outcome import Completed, Delayed, Unfinished, Waits
from tests.support.builders import tokens
from tests.support.fakes import (
    CUT,
    CUT_AFTER,
    CUT_BEFORE,
    HANG,
    WELL,
    Run,
)


async def test_job_whose_time_is_over_is_not_run() -> None:
    run = Run(WELL, expiresAt=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())

    assert await run.failure() == FailureKind.EXPIRED

    assert (run.calls, run.job.progress.attempt.number, run.job.progress.tally().attempts) == (
        0,
        0,
        0,
    )


async def test_job_whose_time_ends_is_broken_off() -> None:
    ends = datetime.now(UTC) + timedelta(seconds=0.2)
    run = Run([tokens("half"), HANG], expiresAt=ends.isoformat())

    assert await run.failure() == FailureKind.EXPIRED

    assert run.publisher.shown() == [(1, 0, "start"), (1, 1, "token")]


async def test_attempt_whose_time_is_over_is_followed_by_another() -> None:
    run = Run([HANG], WELL, limits={"attempt_timeout": timedelta(seconds=0.1)})

    assert await run.outcome() == Completed()

    assert run.publisher.data("retry")[0]["kind"] == "timeout"
    assert run.publisher.shown()[-1] == (2, 2, "metadata")


async def test_wait_before_an_attempt_is_not_taken_from_its_time() -> None:
    wait = timedelta(seconds=0.4)
    busy = errors.RateLimited("x", retry_after=wait)
    policy = RetryPolicy(timedelta(), timedelta(), longest_retry_after=wait)
    run = Run([tokens("half"), busy], WELL, policy=policy, timeoutSeconds=0.3)

    assert await run.outcome() == Completed()

    assert run.publisher.data("retry")[0]["delaySeconds"] == 0.4
    assert [name for _, _, name in run.publisher.shown()].count("retry") == 1


async def test_question_before_the_call_takes_no_attempt() -> None:
    run = Run(WELL, timeoutSeconds=0.1)
    run.predictions.thinks_for_s = 0.2

    assert await run.outcome() == Completed()

    assert run.publisher.data("retry") == []


async def test_run_can_be_handed_back_while_it_waits_for_the_endpoint() -> None:
    run = Run([tokens("half"), HANG])
    running = asyncio.create_task(run.outcome())
    await run.predictions.began.wait()
    await asyncio.sleep(0)

    run.job.shut_down()
    run.job.shut_down()

    assert await running == Unfinished()


async def test_run_can_be_handed_back_while_it_waits_to_call_again() -> None:
    hour = timedelta(hours=1)
    policy = RetryPolicy(hour, hour, longest_stay=hour)
    run = Run(CUT_AFTER, policy=policy, limits={"attempt_timeout": 9 * hour, "hold": 99 * hour})
    running = asyncio.create_task(run.outcome())
    await run.predictions.began.wait()
    await asyncio.sleep(0.01)
    waiting = run.publisher.data("retry")

    run.job.shut_down()

    assert await running == Unfinished()
    assert len(waiting) == 1
    assert run.job.progress.attempt.number == 2


async def test_job_that_must_wait_long_leaves_its_slot() -> None:
    busy = errors.RateLimited("later", retry_after=timedelta(seconds=7))
    policy = RetryPolicy(timedelta(), timedelta())
    run = Run([tokens("half"), busy], policy=policy)

    assert await run.outcome() == Delayed(busy.kind, str(busy), timedelta(seconds=10))

    assert run.calls == 1


async def test_job_that_was_held_for_long_leaves_its_slot_between_attempts() -> None:
    attempt = timedelta(seconds=10)
    limits = {"attempt_timeout": attempt, "hold": attempt}
    run = Run([tokens("half"), CUT], limits=limits)

    assert await run.outcome() == Delayed(CUT.kind, str(CUT), RETRY_DELAYS[0])


@pytest.mark.parametrize(
    ("facts", "lives"),
    [
        (MessageFacts(deliveries_before=4, failures_before=4), True),
        (MessageFacts(deliveries_before=5, failures_before=5), False),
        (MessageFacts(deliveries_before=2, failures_before=2, carried=JobState(crashes=3)), False),
        (MessageFacts(deliveries_before=9), True),
    ],
)
async def test_job_that_loses_one_worker_after_the_other_is_given_up(
    facts: MessageFacts,
    lives: bool,  # noqa: FBT001 - given by pytest
) -> None:
    run = Run(WELL, facts=facts)

    if lives:
        assert await run.outcome() == Completed()
    else:
        assert await run.failure() == FailureKind.DELIVERY_LIMIT
        assert run.calls == 0


async def test_run_that_was_handed_back_before_it_began_makes_no_call() -> None:
    run = Run(WELL)
    run.job.shut_down()

    assert await run.job.run() == Waits(timedelta())

    assert run.calls == 0


async def test_outcome_that_is_known_is_not_handed_back() -> None:
    run = Run(WELL)
    outcome = await run.outcome()

    run.job.shut_down()
    await asyncio.sleep(0)

    assert outcome == Completed()


async def test_job_from_another_worker_goes_on_with_the_next_attempt() -> None:
    run = Run(CUT_AFTER, WELL, facts=MessageFacts(carried=JobState(attempt=4, calls=1)))

    assert await run.outcome() == Completed()

    assert {attempt for attempt, _, _ in run.publisher.shown()} == {5, 6}
    assert run.job.progress.tally().calls == 3
    assert run.job.progress.tally().attempts == 6


async def test_calls_of_earlier_workers_count() -> None:
    facts = MessageFacts(carried=JobState(attempt=1, calls=2))
    run = Run(CUT_BEFORE, WELL, facts=facts)

    assert await run.failure() == FailureKind.STREAM_CUT

    assert (run.calls, run.job.progress.tally().calls) == (1, 3)


@pytest.mark.parametrize(
    ("failed", "lost", "crashes", "max_calls", "left"),
    [
        pytest.param(0, 1, 1, 1, 1, id="the first loss costs nothing, with one call"),
        pytest.param(0, 1, 1, 2, 2, id="with two"),
        pytest.param(2, 1, 1, 3, 1, id="beside calls that failed by themselves"),
        pytest.param(3, 1, 1, 3, 0, id="which count all the same"),
        pytest.param(0, 2, 2, 3, 1, id="the second loss counts"),
        pytest.param(0, 2, 2, 2, 1, id="it leaves one call"),
        pytest.param(0, 2, 2, 1, 1, id="even to a job that has but one"),
        pytest.param(1, 2, 2, 3, 1, id="which failed before"),
        pytest.param(0, 3, 3, 1, 0, id="the third one was the job's own"),
        pytest.param(0, 3, 3, 4, 1, id="and counts, like those before"),
        pytest.param(0, 1, 3, 1, 1, id="a broker that restarts counts more losses than calls"),
        pytest.param(0, 3, 0, 1, 1, id="lost with the broker, no worker's life"),
    ],
)
async def test_call_lost_with_a_worker_is_not_held_against_the_job_too_early(
    failed: int, lost: int, crashes: int, max_calls: int, left: int
) -> None:
    history = History(lost + failed, calls=lost + failed, calls_lost=lost - 1, is_open=True)
    facts = MessageFacts(deliveries_before=max(crashes, 1), failures_before=crashes)
    run = Run(*[CUT_BEFORE] * 5, facts=facts, history=history, limits={"max_calls": max_calls})

    kind = await run.failure()

    assert run.calls == left
    assert kind == (FailureKind.STREAM_CUT if left else FailureKind.DELIVERY_LIMIT)
    assert run.job.progress.tally().calls == lost + failed + left


async def test_call_that_a_leaving_worker_broke_off_is_forgiven_once() -> None:
    facts = MessageFacts(
        redelivered=True, failures_before=1, carried=JobState(calls=1, uncounted=1)
    )
    history = History(1, calls=1, is_open=True)
    run = Run(*[CUT_BEFORE] * 3, facts=facts, history=history, limits={"max_calls": 1})

    assert await run.failure() == FailureKind.STREAM_CUT

    assert run.calls == 1


async def test_job_whose_calls_were_all_begun_by_workers_that_died_is_not_called_again() -> None:
    run = Run(WELL, facts=MessageFacts(redelivered=True, carried=JobState(attempt=3, calls=3)))

    assert await run.failure() == FailureKind.DELIVERY_LIMIT

    assert (run.calls, run.job.progress.tally().calls) == (0, 3)


async def test_call_that_a_leaving_worker_broke_off_is_not_held_against_the_job() -> None:
    facts = MessageFacts(carried=JobState(attempt=1, calls=3, uncounted=1))
    run = Run(CUT_BEFORE, WELL, facts=facts)

    assert await run.failure() == FailureKind.STREAM_CUT

    assert (run.calls, run.job.progress.tally().calls) == (1, 4)


CALLED = [
    MessageFacts(carried=JobState(attempt=1, calls=1, side_effect=True)),
    MessageFacts(redelivered=True, carried=JobState(attempt=1, calls=1, side_effect=True)),
]


@pytest.mark.parametrize("facts", CALLED)
@pytest.mark.parametrize("idempotent", [None, False])
async def test_nothing_is_called_again_after_a_carried_side_effect(
    facts: MessageFacts,
    idempotent: bool | None,  # noqa: FBT001 - given by pytest
) -> None:
    run = Run(WELL, facts=facts, idempotent=idempotent)

    assert await run.failure() == FailureKind.REPEAT_UNSAFE

    assert (run.calls, run.job.progress.attempt.number) == (0, 2 + facts.redelivered)


async def test_idempotent_job_goes_on_after_a_carried_side_effect() -> None:
    run = Run(CUT_AFTER, WELL, facts=CALLED[0], idempotent=True)

    assert await run.outcome() == Completed()

    assert run.job.progress.side_effect


@pytest.mark.parametrize(
    "facts",
    [
        MessageFacts(carried=JobState(attempt=1, sent=True)),
        MessageFacts(redelivered=True, deliveries_before=1),
        MessageFacts(redelivered=True),
    ],
)
async def test_job_that_is_not_idempotent_is_not_called_after_another_worker(
    facts: MessageFacts,
) -> None:
    assert await Run(WELL, facts=facts, idempotent=False).failure() == FailureKind.REPEAT_UNSAFE
