"""The checker finds jobs that began before the one that they name (I9)."""

import pytest

from tests.support.checker import Asked, EndpointCall, Span
from tests.support.checker.fold import JobFold
from tests.support.checker.order import violations_of_order

ASKED = {
    "first": Asked("first", "chat", confirmed_at=0.0),
    "second": Asked("second", "chat", confirmed_at=0.1, after="first"),
}


def call(job_id: str, began: float) -> EndpointCall:
    return EndpointCall(job_id, f"{job_id}-{began}", "chat", began, began + 0.5)


def fold(*kinds: str) -> JobFold:
    job = JobFold("first")
    job.kinds.extend(kinds)
    return job


def said(
    calls: list[EndpointCall], *kinds: str, fencing: tuple[Span, ...] = ()
) -> list[tuple[str, str]]:
    found = violations_of_order({"first": fold(*kinds)}, ASKED, calls, fencing)
    return [(it.rule, it.job_id) for it in found]


def test_job_that_begins_after_the_one_it_names_is_fine() -> None:
    assert said([call("first", 1), call("second", 2)]) == []


@pytest.mark.parametrize("first", [[2.0], [0.2, 2.0]])
def test_job_that_begins_before_a_call_of_the_one_it_names_is_found(first: list[float]) -> None:
    calls = [call("second", 1), *(call("first", began) for began in first)]

    assert said(calls) == [("I9", "second")]
    assert said(calls, "shutdown") == [("I9", "second")]


def test_job_may_overtake_one_that_a_failure_delayed() -> None:
    assert said([call("second", 1), call("first", 2)], "stream_cut") == []


def test_job_may_begin_once_its_chat_was_idle_for_half_a_minute() -> None:
    assert said([call("second", 31), call("first", 32)]) == []
    busy = EndpointCall("second", "other", "chat", 31, 32)
    asked = ASKED | {"third": Asked("third", "chat", confirmed_at=0.0, after="first")}
    calls = [busy, call("third", 40), call("first", 41)]

    assert [it.job_id for it in violations_of_order({}, asked, calls, ())] == ["third"]


def test_job_may_begin_once_it_waited_two_minutes_and_a_half_in_a_busy_chat() -> None:
    others = [
        EndpointCall(f"other-{it}", f"other-{it}", "chat", it * 20, it * 20 + 19) for it in range(8)
    ]
    asked = ASKED | {it.job_id: Asked(it.job_id, "chat", confirmed_at=0.0) for it in others}

    def found(began: float) -> list[str]:
        calls = [*others, call("second", began), call("first", 200)]
        return [it.job_id for it in violations_of_order({}, asked, calls, ())]

    assert (found(140), found(150)) == (["second"], [])


def test_job_may_overtake_one_of_which_the_logs_say_that_a_failure_delayed_it() -> None:
    calls = [call("second", 1), call("first", 2)]

    assert [*violations_of_order({}, ASKED, calls, (), {"first"})] == []


def test_order_says_nothing_of_a_time_in_which_a_worker_could_not_know() -> None:
    assert said([call("second", 1), call("first", 2)], fencing=(Span(0.5, 1.5),)) == []
