"""The checker finds what is wrong with calls, probes, bounds and what a run leaves behind."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import MODERATE
from tests.support.checker import (
    Counter,
    EndpointCall,
    Gauge,
    Outage,
    Probe,
    Run,
    Span,
    Tolerance,
)
from tests.unit.checker.made_up import Tale, good_tale, rules, run_of

OUTAGE = Outage("a broker that is gone", began=10.0, cleared=20.0, red_within_s=3.0)
SPANS = st.tuples(st.floats(0, 100), st.floats(0.001, 10))


def calls_of(session: str, *spans: tuple[float, float]) -> list[EndpointCall]:
    return [
        EndpointCall("job-1", f"{session}-{number}", session, began, began + lasted)
        for number, (began, lasted) in enumerate(spans)
    ]


def rules_of_calls(calls: list[EndpointCall], **facts: object) -> set[str]:
    # That they are not in any end is not what these are about.
    tale = good_tale()
    run = run_of(tale, calls=calls, **facts)
    return {it.rule for it in run.violations() if it.rule not in {"I3", "I4"}}


@MODERATE
@given(spans=st.lists(SPANS, max_size=6))
def test_calls_of_one_conversation_may_not_be_live_at_once(
    spans: list[tuple[float, float]],
) -> None:
    calls = calls_of("chat", *spans)
    meet = any(
        one.began < (other.ended or 0) and other.began < (one.ended or 0)
        for place, one in enumerate(calls)
        for other in calls[:place]
    )

    assert rules_of_calls(calls) == ({"I5"} if meet else set())


def test_calls_of_two_conversations_may_be_live_at_once() -> None:
    assert rules_of_calls([*calls_of("a", (1, 5)), *calls_of("b", (2, 5))]) == set()


def test_two_live_calls_are_accepted_while_a_worker_is_fenced_off() -> None:
    calls = calls_of("chat", (1, 5), (4, 5))

    assert rules_of_calls(calls, fencing=[Span(3.5, 4.5)]) == set()
    assert rules_of_calls(calls, fencing=[Span(4.5, 6)]) == {"I5"}


def test_call_whose_end_is_not_known_lives_on() -> None:
    first, second = calls_of("chat", (1, 1), (4, 1))

    assert rules_of_calls([replace(first, ended=None), second]) == {"I5"}


def test_endpoint_chat_that_is_used_twice_is_found() -> None:
    first, second = calls_of("chat", (1, 1), (4, 1))

    assert rules_of_calls([first, replace(second, chat_id=first.chat_id)]) == {"I5"}


def test_call_for_no_job_is_found() -> None:
    (call,) = calls_of("chat", (1, 1))

    assert rules_of_calls([replace(call, job_id="another")]) == {"I5"}


def tale_of_lost_call() -> Tale:
    """Tell of a job whose first call showed nothing before its worker was killed."""
    tale = Tale()
    tale.calls.append(EndpointCall("job-1", "lost", "chat-1", 99.5, 99.9, ["never shown "]))
    tale.attempt(2, 3)
    tale.end(calls=1)
    return tale


def test_call_of_a_killed_worker_may_be_missing_in_the_count() -> None:
    killed = Tolerance(interruptions=[Span(99.9, 99.9)])

    run_of(tale_of_lost_call(), tolerance=killed).judge()


@pytest.mark.parametrize(
    "tolerance",
    [
        pytest.param(Tolerance(), id="no worker was killed"),
        pytest.param(Tolerance(interruptions=[Span(90.0, 91.0)]), id="before the job"),
        pytest.param(Tolerance(endpoint_down=[Span(99.9, 99.9)]), id="the endpoint was down"),
    ],
)
def test_call_may_not_be_missing_otherwise(tolerance: Tolerance) -> None:
    assert rules(run_of(tale_of_lost_call(), tolerance=tolerance)) == {"I3"}


def test_calls_that_the_endpoint_could_not_see_may_be_counted_while_it_is_down() -> None:
    tale = Tale()
    tale.attempt(1, 3)
    tale.end(calls=4)

    assert rules(run_of(tale)) == {"I3"}
    run_of(tale, tolerance=Tolerance(endpoint_down=[Span(99.0, 99.5)])).judge()


def probes(*told: tuple[float, bool | None]) -> list[Probe]:
    return [Probe("worker", at, ready, live=None if ready is None else True) for at, ready in told]


GOOD = ((9.0, True), (11.0, True), (14.0, False), (19.0, False), (25.0, True), (40.0, True))


def rules_of_probes(*told: tuple[float, bool | None]) -> set[str]:
    return rules(run_of(good_tale(), probes=probes(*told), outages=[OUTAGE]))


def test_worker_that_says_how_it_is_is_accepted() -> None:
    assert rules_of_probes(*GOOD) == set()


def test_worker_that_is_not_ready_in_time_is_found() -> None:
    assert rules_of_probes(*GOOD[:4], (31.0, True)) == {"I6"}


def test_worker_that_says_nothing_any_more_is_found() -> None:
    outage = replace(OUTAGE, workers=("worker",))
    run = run_of(good_tale(), probes=probes(*GOOD[:4]), outages=[outage])

    assert rules(run) == {"I6"}


def test_worker_that_is_green_while_it_cannot_work_is_found() -> None:
    assert rules_of_probes(*GOOD[:3], (15.0, True), *GOOD[3:]) == {"I6"}


def test_worker_that_says_it_is_dead_is_found() -> None:
    told = [*probes(*GOOD), Probe("worker", 50.0, ready=False, live=False)]

    assert rules(run_of(good_tale(), probes=told)) == {"I6"}


def test_worker_that_answers_no_probes_is_found() -> None:
    silence = [(50.0 + second, None) for second in range(3)]

    assert rules_of_probes(*GOOD, *silence) == {"I6"}
    assert rules_of_probes(*GOOD, *silence[:2]) == set()
    stopped = Outage("a worker that stands still", 50.0, 55.0, answers=False)
    told = probes(*GOOD, *silence, (56.0, True))
    assert rules(run_of(good_tale(), probes=told, outages=[stopped])) == set()


def test_figure_beyond_its_limit_is_found() -> None:
    gauges = [Gauge("memory", 1.0, 80.0), Gauge("memory", 2.0, 120.0)]

    run_of(good_tale(), gauges=gauges, limits={"memory": 120.0}).judge()
    assert rules(run_of(good_tale(), gauges=gauges, limits={"memory": 119.0})) == {"I7"}
    assert rules(run_of(good_tale(), gauges=gauges, limits={"other": 1.0})) == {"I7"}


@pytest.mark.parametrize("name", ["connections", "queue", "unacked"])
def test_leak_is_found(name: str) -> None:
    run_of(good_tale(), counters=[Counter(name, 2, 2)]).judge()
    assert rules(run_of(good_tale(), counters=[Counter(name, 2, 3)])) == {"I8"}


def test_figure_that_may_vary_has_a_slack() -> None:
    run_of(good_tale(), counters=[Counter("memory", 100, 104, slack=4)]).judge()
    assert rules(run_of(good_tale(), counters=[Counter("memory", 100, 105, slack=4)])) == {"I8"}


def test_run_that_nobody_listened_to_is_not_good() -> None:
    assert rules(Run()) == {"I1"}
