"""The checker finds what is wrong with a job's events, and nothing where nothing is."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.builders import MODERATE
from tests.support.checker import Broken, Span
from tests.unit.checker.made_up import Tale, a_message, again, good_tale, rules, run_of

TOKENS = st.lists(st.integers(1, 6), min_size=1, max_size=3)
PLACE = st.integers(0, 1 << 16)


@MODERATE
@given(tokens=TOKENS)
def test_good_run_is_accepted(tokens: list[int]) -> None:
    run_of(good_tale(*tokens)).judge()


@MODERATE
@given(tokens=TOKENS, place=PLACE, since=PLACE)
def test_equal_copies_are_accepted(tokens: list[int], place: int, since: int) -> None:
    tale = good_tale(*tokens)
    until = place % len(tale.messages) + 1
    tale.messages[until:until] = tale.messages[since % until : until]

    run_of(tale).judge()


@MODERATE
@given(tokens=TOKENS, place=PLACE)
def test_any_lost_event_is_found(tokens: list[int], place: int) -> None:
    tale = good_tale(*tokens)
    # That a `retry` was the last of its attempt is not told by anything that follows.
    places = [number for number, it in enumerate(tale.messages) if it.name != "retry"]
    lost = tale.messages.pop(places[place % len(places)])

    assert ("I1" if lost.name == "end" else "I2") in rules(run_of(tale))


@MODERATE
@given(tokens=TOKENS, place=PLACE)
def test_any_two_events_that_change_places_are_found(tokens: list[int], place: int) -> None:
    tale = good_tale(*tokens)
    place %= len(tale.messages) - 1
    here, there = tale.messages[place], tale.messages[place + 1]
    tale.messages[place : place + 2] = [replace(there, at=here.at), replace(here, at=there.at)]

    assert rules(run_of(tale)) & {"I2", "I3"}


@MODERATE
@given(tokens=TOKENS, place=PLACE, later=PLACE)
def test_any_changed_copy_is_found(tokens: list[int], place: int, later: int) -> None:
    tale = good_tale(*tokens)
    place %= len(tale.messages) - 1
    copy = again(tale.messages[place], data="changed")
    tale.messages.insert(place + 1 + later % (len(tale.messages) - place), copy)

    assert "I2" in rules(run_of(tale))


@MODERATE
@given(tokens=TOKENS, place=PLACE)
def test_any_foreign_token_is_found(tokens: list[int], place: int) -> None:
    tale = good_tale(*tokens)
    spoken = [number for number, it in enumerate(tale.messages) if it.name == "token"]
    here = spoken[place % len(spoken)]
    tale.messages[here] = again(tale.messages[here], data="job-2/1/0 ")

    assert "I4" in rules(run_of(tale))


@MODERATE
@given(tokens=TOKENS, place=PLACE)
def test_any_event_after_the_end_is_found(tokens: list[int], place: int) -> None:
    tale = good_tale(*tokens)
    last = max(message.attempt for message in tale.messages)
    attempt = place % (last + 1) + 1
    seq = sum(message.attempt == attempt for message in tale.messages)
    tale.says(attempt, seq, "token", "late ")

    assert "I3" in rules(run_of(tale))


def test_late_events_are_accepted_while_a_worker_is_fenced_off() -> None:
    tale = good_tale(2, 3)
    late = tale.says(1, 4, "token", "late ")
    tale.calls[0] = replace(tale.calls[0], says=None)

    assert rules(run_of(tale, fencing=[Span(late.at - 0.001, late.at + 0.001)])) == set()
    assert rules(run_of(tale, fencing=[Span(late.at + 0.001)])) == {"I3"}


def test_older_attempt_that_speaks_after_a_newer_one_began_is_found() -> None:
    tale = good_tale(2, 3)
    newer = next(place for place, it in enumerate(tale.messages) if it.attempt == 2)
    tale.messages.insert(newer + 1, a_message(tale, 1, 4, "token", "late ", 101.0))

    assert "I3" in rules(run_of(tale))


def test_attempts_that_are_mixed_are_found() -> None:
    tale = Tale()
    tale.attempt(1, 2, of=4)
    tale.attempt(2, 3)
    other = next(it for it in tale.messages if (it.attempt, it.name) == (1, "token"))
    mixed = next(
        place for place, it in enumerate(tale.messages) if (it.attempt, it.event["seq"]) == (2, 2)
    )
    tale.messages[mixed] = again(tale.messages[mixed], data=other.data)
    tale.end()

    assert rules(run_of(tale)) == {"I4"}


def test_lost_job_is_found() -> None:
    tale = Tale()

    assert rules(run_of(tale)) == {"I1"}


def test_job_that_the_broker_never_confirmed_may_come_to_nothing() -> None:
    tale = Tale()
    run = run_of(tale)
    run.asked[tale.job_id].confirmed_at = None

    run.judge()


def test_two_ends_that_differ_are_found() -> None:
    tale = good_tale()
    tale.messages.append(again(tale.messages[-1], data={**tale.messages[-1].data, "text": "no"}))

    assert rules(run_of(tale)) == {"I1"}


def test_repeated_end_may_differ_in_its_counts() -> None:
    tale = good_tale()
    counted = {**tale.messages[-1].data, "calls": 7, "durationSeconds": 9.5}
    tale.messages.append(again(tale.messages[-1], data=counted))

    run_of(tale).judge()


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"events": 7}, "I3"),
        ({"attempts": 2}, "I3"),
        ({"calls": 0}, "I3"),
        ({"calls": 2}, "I3"),
        ({"text": "job-1/1/0 job-1/1/1 "}, "I4"),
        ({"status": "fine"}, "form"),
        ({"tags": {"a": "b"}}, "form"),
    ],
)
def test_end_that_says_something_wrong_is_found(changed: dict[str, object], rule: str) -> None:
    tale = good_tale()
    end = tale.messages.pop()
    tale.messages.append(again(end, data={**end.data, **changed}))

    assert rule in rules(run_of(tale))


def test_answer_that_is_not_whole_is_not_completed() -> None:
    tale = Tale()
    tale.attempt(1, 3, of=4)
    tale.end()

    assert rules(run_of(tale)) == {"I4"}


def test_two_starts_are_found() -> None:
    tale = Tale()
    tale.attempt(1, 1)
    tale.says(1, 2, "start", {})
    tale.end()

    assert rules(run_of(tale)) == {"I2"}


def test_output_without_a_start_is_found() -> None:
    tale = Tale()
    tale.says(1, 0, "token", "a ")
    tale.end("failed")

    assert "I2" in rules(run_of(tale, calls=None))


def test_end_of_a_job_that_is_not_run_again_counts_no_attempt_for_it() -> None:
    tale = Tale()
    tale.attempt(1, 2, of=3)
    tale.says(2, 0, "error", {"kind": "repeat_unsafe", "message": "no"})
    tale.end("failed", attempts=1)

    run_of(tale).judge()


def test_event_of_a_job_that_nobody_asked_for_is_found() -> None:
    tale, other = good_tale(), Tale("job-2", "chat-2")
    tale.messages.append(other.says(1, 0, "start", {}))

    assert rules(run_of(tale)) == {"form"}


@pytest.mark.parametrize("name", ["message_id", "type", "timestamp", "headers", "delivery_mode"])
def test_message_whose_properties_are_wrong_is_found(name: str) -> None:
    tale = good_tale()
    here = tale.messages[1]
    properties = {**here.properties, name: {} if name == "headers" else "other"}
    tale.messages[1] = replace(here, properties=properties)

    assert "form" in rules(run_of(tale))


def test_verdict_names_invariant_job_attempt_and_place() -> None:
    tale = good_tale(3)
    del tale.messages[2]

    with pytest.raises(Broken, match="I2 job-1 attempt 1: seq 2 never came"):
        run_of(tale).judge()
