from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.job.retry import (
    RETRY_DELAYS,
    CallAgain,
    Decision,
    GiveUp,
    NewAttempt,
    Requeue,
    RetryPolicy,
    Situation,
)
from tests.support.builders import MODERATE

SECOND = timedelta(seconds=1)
POLICY = RetryPolicy(
    first_wait=SECOND,
    longest_wait=30 * SECOND,
    longest_retry_after=60 * SECOND,
    longest_stay=5 * SECOND,
)
NOTHING_YET = Situation(
    calls=1,
    max_calls=3,
    unreached=0,
    doubtful=0,
    output=False,
    side_effect=False,
    blind=False,
    idempotent=None,
    left=timedelta(hours=1),
    attempt_time=10 * SECOND,
    hold_left=timedelta(hours=1),
)
CUT = errors.StreamCut("x")
UNSENT = errors.EndpointUnavailable("x", request_sent=False)
OVERDUE = errors.AttemptOverdue(SECOND)
PASSING = [
    CUT,
    UNSENT,
    OVERDUE,
    errors.EndpointUnavailable("x"),
    errors.RateLimited("x"),
    errors.HeadersOverdue(SECOND),
    errors.StreamStalled(SECOND),
    errors.StreamMixed(),
    errors.NoAnswer(),
]
DOUBTFUL = errors.EndpointError("x")
LASTING = [
    errors.RunAborted("x"),
    errors.Unauthorized("x"),
    errors.Forbidden("x"),
    errors.ChatflowNotFound("flow"),
    errors.BadRequest("x"),
    errors.Misconfigured("x"),
    errors.RedirectRefused("x", http_status=302),
    errors.FrameTooLarge(1),
    errors.AnswerTooLarge(1),
    errors.RequestTooLarge(),
]

situations = st.builds(
    Situation,
    calls=st.integers(0, 100),
    max_calls=st.integers(1, 100),
    doubtful=st.integers(0, 5),
    output=st.booleans(),
    side_effect=st.booleans(),
    idempotent=st.sampled_from([None, True, False]),
    left=st.timedeltas(timedelta(seconds=-10), timedelta(hours=1)),
    attempt_time=st.timedeltas(timedelta(seconds=1), timedelta(minutes=10)),
    hold_left=st.timedeltas(timedelta(seconds=-10), timedelta(hours=1)),
)
waits_asked = st.none() | st.timedeltas(timedelta(), timedelta(days=1))
failures = st.sampled_from([*PASSING, DOUBTFUL, *LASTING]) | st.builds(
    lambda wait: errors.RateLimited("x", retry_after=wait), waits_asked
)
jitters = st.floats(0, 1)


def decide(failure: CallFailed, **known: Any) -> Decision:  # noqa: ANN401 - as in Situation
    return POLICY.decide(failure, replace(NOTHING_YET, **known), 0.5)


def given_up(failure: CallFailed, **known: Any) -> FailureKind:  # noqa: ANN401 - as in Situation
    decision = decide(failure, **known)
    assert isinstance(decision, GiveUp)
    return decision.kind


@pytest.mark.parametrize("failure", [f for f in PASSING if f is not OVERDUE], ids=str)
def test_passing_failure_is_tried_again_silently_before_output(failure: CallFailed) -> None:
    assert decide(failure) == CallAgain(SECOND / 2)


@pytest.mark.parametrize("failure", PASSING, ids=str)
def test_passing_failure_after_output_is_a_new_attempt(failure: CallFailed) -> None:
    assert decide(failure, output=True) == NewAttempt(SECOND / 2)


def test_attempt_whose_time_is_over_is_followed_by_a_new_one() -> None:
    assert decide(OVERDUE, output=False) == NewAttempt(SECOND / 2)


@pytest.mark.parametrize("failure", LASTING, ids=str)
@pytest.mark.parametrize("idempotent", [None, True, False])
def test_lasting_failure_is_final(failure: CallFailed, idempotent: bool | None) -> None:  # noqa: FBT001 - given by pytest
    decision = decide(failure, idempotent=idempotent)

    assert decision == GiveUp(failure.kind, str(failure))


def test_unknown_error_is_tried_once_more_and_only_before_output() -> None:
    assert decide(DOUBTFUL, doubtful=1) == CallAgain(SECOND / 2)
    assert given_up(DOUBTFUL, doubtful=2, calls=2) == FailureKind.ENDPOINT_ERROR
    assert given_up(DOUBTFUL, doubtful=1, output=True) == FailureKind.ENDPOINT_ERROR
    assert given_up(DOUBTFUL, doubtful=1, output=True, idempotent=True) == "endpoint_error"


def test_unknown_error_between_others_counts_only_itself() -> None:
    assert decide(CUT, doubtful=2, calls=2) == CallAgain(2 * SECOND)


def test_calls_are_limited() -> None:
    assert isinstance(decide(CUT, calls=2, max_calls=3), CallAgain)
    assert given_up(CUT, calls=3, max_calls=3) == FailureKind.STREAM_CUT
    assert given_up(CUT, calls=1, max_calls=1) == FailureKind.STREAM_CUT


def test_side_effect_forbids_another_call() -> None:
    decision = decide(CUT, output=True, side_effect=True)

    assert isinstance(decision, GiveUp)
    assert decision.kind == FailureKind.REPEAT_UNSAFE
    assert str(CUT) in decision.message


def test_idempotent_job_is_called_again_whatever_ran() -> None:
    decision = decide(CUT, output=True, side_effect=True, idempotent=True)

    assert isinstance(decision, NewAttempt)


def test_job_that_must_not_run_twice_is_not_called_again() -> None:
    assert given_up(CUT, idempotent=False) == FailureKind.REPEAT_UNSAFE
    assert given_up(errors.RateLimited("x"), idempotent=False) == FailureKind.REPEAT_UNSAFE


def test_job_that_must_not_run_twice_is_called_where_nothing_was_sent() -> None:
    assert isinstance(decide(UNSENT, idempotent=False), CallAgain)


def test_wait_that_does_not_fit_in_the_jobs_time_ends_it() -> None:
    assert given_up(CUT, left=SECOND / 2) == FailureKind.STREAM_CUT
    assert isinstance(decide(CUT, left=SECOND), CallAgain)


def test_waits_grow_up_to_the_longest_and_long_ones_leave_the_worker() -> None:
    waits = [
        POLICY.decide(CUT, replace(NOTHING_YET, calls=calls, max_calls=99), 1)
        for calls in (1, 2, 3, 4, 50)
    ]

    assert waits == [
        CallAgain(SECOND),
        CallAgain(4 * SECOND),
        Requeue(30 * SECOND),
        Requeue(30 * SECOND),
        Requeue(30 * SECOND),
    ]


@pytest.mark.parametrize(
    ("asked", "following"),
    [
        (0, CallAgain(timedelta())),
        (5, CallAgain(5 * SECOND)),
        (6, Requeue(10 * SECOND)),
        (10, Requeue(10 * SECOND)),
        (11, Requeue(30 * SECOND)),
        (60, Requeue(60 * SECOND)),
        (61, Requeue(60 * SECOND)),
        (86_400, Requeue(60 * SECOND)),
    ],
)
def test_wait_that_the_endpoint_asks_for_picks_the_rung_and_is_capped(
    asked: int, following: Decision
) -> None:
    busy = errors.RateLimited("x", retry_after=asked * SECOND)

    assert POLICY.decide(busy, NOTHING_YET, 0) == following


def test_attempt_that_would_be_held_too_long_is_made_elsewhere() -> None:
    assert decide(CUT, output=True, hold_left=11 * SECOND) == NewAttempt(SECOND / 2)
    assert decide(CUT, output=True, hold_left=10 * SECOND) == Requeue(2 * SECOND)


def test_silent_call_of_the_same_attempt_needs_no_more_time_than_that_has() -> None:
    assert decide(CUT, hold_left=SECOND) == CallAgain(SECOND / 2)


@MODERATE
@given(failure=failures, now=situations, jitter=jitters)
def test_nothing_is_repeated_that_may_not_be(
    failure: CallFailed, now: Situation, jitter: float
) -> None:
    assume(now.side_effect and now.idempotent is not True)

    assert isinstance(POLICY.decide(failure, now, jitter), GiveUp)


@MODERATE
@given(failure=failures, now=situations, jitter=jitters)
def test_there_are_never_more_calls_than_allowed(
    failure: CallFailed, now: Situation, jitter: float
) -> None:
    assume(now.calls >= now.max_calls)

    assert isinstance(POLICY.decide(failure, now, jitter), GiveUp)


@MODERATE
@given(failure=failures, now=situations, jitter=jitters)
def test_waits_are_within_bounds(failure: CallFailed, now: Situation, jitter: float) -> None:
    decision = POLICY.decide(failure, now, jitter)

    if isinstance(decision, GiveUp):
        return
    assert decision.after < now.left
    if isinstance(decision, Requeue):
        assert decision.after in RETRY_DELAYS
        return
    assert decision.after <= POLICY.longest_stay
    asked = min(failure.retry_after or timedelta(), POLICY.longest_retry_after)
    assert asked <= decision.after <= asked + POLICY.longest_wait


@MODERATE
@given(failure=failures, now=situations, jitter=jitters)
def test_output_is_never_followed_silently(
    failure: CallFailed, now: Situation, jitter: float
) -> None:
    decision = POLICY.decide(failure, replace(now, output=True), jitter)

    assert not isinstance(decision, CallAgain)


def test_endpoint_that_cannot_be_reached_is_tried_ever_less_often() -> None:
    waits = [
        POLICY.decide(UNSENT, replace(NOTHING_YET, calls=0, unreached=times), 1)
        for times in (1, 2, 3, 50)
    ]

    assert waits == [CallAgain(SECOND), CallAgain(4 * SECOND), *[Requeue(30 * SECOND)] * 2]


@pytest.mark.parametrize(
    ("left_s", "following"),
    [(31, Requeue(30 * SECOND)), (29, Requeue(10 * SECOND)), (3, Requeue(2 * SECOND))],
)
def test_job_waits_for_an_endpoint_that_cannot_be_reached_to_the_end_of_its_time(
    left_s: int, following: Requeue
) -> None:
    now = replace(NOTHING_YET, calls=0, unreached=9, left=left_s * SECOND)

    assert POLICY.decide(UNSENT, now, 1) == following


def test_job_whose_calls_are_held_up_comes_back_soon_to_wait() -> None:
    assert POLICY.decide(errors.EndpointDown(), NOTHING_YET, 1) == Requeue(2 * SECOND)


def test_job_of_a_flow_without_a_key_waits_and_fails_at_the_end_of_its_time() -> None:
    refused = errors.Unauthorized("x")
    now = replace(NOTHING_YET, calls=9, key_refused=True)

    assert POLICY.decide(refused, now, 1) == Requeue(10 * SECOND)
    assert isinstance(POLICY.decide(refused, replace(now, left=SECOND), 1), GiveUp)
    assert isinstance(POLICY.decide(refused, replace(now, key_refused=False), 1), GiveUp)


def test_job_of_a_crowd_that_fails_makes_room() -> None:
    assert decide(CUT) == CallAgain(SECOND / 2)
    assert decide(CUT, crowded=True) == Requeue(2 * SECOND)
