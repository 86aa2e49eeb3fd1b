from collections.abc import Sequence
from functools import reduce
from typing import Any

import pytest

from aimicromind_schemas import EndStatus, FailureKind, encode, event_from
from aimicromind_schemas.journal.history import History, Milestone, read_milestone

FAILED = {"kind": "timeout", "message": "too late"}
ENDED = {
    "status": "completed",
    "attempts": 1,
    "calls": 1,
    "events": 3,
    "durationSeconds": 1.0,
    "text": "Once",
    "recovered": False,
    "tags": {},
}
RETRIED = {**FAILED, "nextAttempt": 2, "delaySeconds": 0.0}
START = {"tags": {}, "redelivered": False, "upstream": None}


def a_milestone(name: str, data: object, attempt: int = 1) -> Milestone:
    envelope: dict[str, Any] = {"jobId": "job", "chatId": "chat", "chatflowId": "flow", "seq": 0}
    time = "2026-11-22T13:20:00.123456Z"
    fields = {**envelope, "attempt": attempt, "time": time, "event": name, "data": data}
    milestone = read_milestone(encode(event_from(fields)).body)
    assert milestone is not None
    return milestone


def remembered(*milestones: Milestone) -> History:
    return reduce(History.after, milestones, History())


def test_nothing_is_known_of_a_job_without_milestones() -> None:
    assert remembered() == History(0, 0, 0, side_effect=False, status=None, kind=None, message="")


def test_last_attempt_is_the_highest_and_each_start_is_a_call() -> None:
    history = remembered(
        a_milestone("start", START),
        a_milestone("retry", RETRIED),
        a_milestone("start", START, attempt=2),
    )

    assert (history.last_attempt, history.calls, history.status) == (2, 2, None)


def test_milestones_that_come_again_count_once() -> None:
    first, second = a_milestone("start", START), a_milestone("start", START, attempt=2)

    history = remembered(first, first, second, first, second)

    assert (history.last_attempt, history.calls) == (2, 2)


@pytest.mark.parametrize(
    ("names", "lost", "is_open"),
    [
        (["start"], 0, True),
        (["start", "start"], 0, True),
        (["start", "retry"], 0, False),
        (["start", "error"], 0, False),
        (["start", "retry", "start 2"], 0, True),
        (["start", "start 2"], 1, True),
        (["start", "start 2", "start", "start 2"], 1, True),
        (["start", "start 2", "start 3", "retry 3"], 2, False),
    ],
)
def test_call_whose_attempt_was_neither_ended_nor_given_up_was_lost(
    names: list[str],
    lost: int,
    is_open: bool,  # noqa: FBT001 - given by pytest
) -> None:
    data = {"start": START, "retry": RETRIED, "error": FAILED}

    history = remembered(
        *(
            a_milestone(name, data[name], int(attempt or 1))
            for name, _, attempt in (each.partition(" ") for each in names)
        )
    )

    assert (history.calls_lost, history.is_open) == (lost, is_open)


def test_attempt_that_a_retry_announced_is_remembered() -> None:
    history = remembered(a_milestone("start", START), a_milestone("retry", RETRIED))

    assert (history.last_attempt, history.announced) == (1, 2)


def test_end_says_how_it_ended_and_error_says_why() -> None:
    history = remembered(
        a_milestone("start", START),
        a_milestone("error", FAILED),
        a_milestone("end", {**ENDED, "status": "failed"}),
    )

    assert (history.status, history.kind) == (EndStatus.FAILED, FailureKind.TIMEOUT)
    assert history.message == "too late"


def test_nothing_counts_after_the_first_end() -> None:
    ended = (a_milestone("start", START), a_milestone("end", ENDED))

    late = a_milestone("usedTools", [{"tool": "mail"}], attempt=7)

    assert remembered(*ended, late) == remembered(*ended)


def test_history_without_an_end_goes_on_after_its_record() -> None:
    told = (
        a_milestone("start", START),
        a_milestone("end", ENDED),
        a_milestone("start", START, attempt=2),
        a_milestone("usedTools", [{"tool": "mail"}], attempt=2),
        a_milestone("end", ENDED, attempt=2),
    )

    history = reduce(lambda it, milestone: it.after(milestone, ends=False), told, History())

    assert history == History(2, calls=2, calls_lost=1, is_open=True, side_effect=True)


@pytest.mark.parametrize(
    ("name", "data", "acted"),
    [
        ("usedTools", [{"tool": "mail"}], True),
        ("calledTools", [{"tool": "mail"}], True),
        ("calledTools", [], False),
        ("action", {"id": "a"}, True),
        ("usedTools", "of another shape", True),
        ("agent_trace", True, True),
        ("agent_trace", {"step": "tool_start"}, False),
    ],
)
def test_tool_that_ran_is_remembered(name: str, data: Sequence[object], *, acted: bool) -> None:
    assert remembered(a_milestone(name, data)).side_effect == acted


NAIVE = b'{"jobId":"j","attempt":3,"time":"2026-11-22T13:20:00","event":"start","data":null}'
NO_UTF8 = NAIVE.replace(b'00"', b'00Z"').replace(b"start", b"\xed\xa0\x80")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"jobId":"job"}', b"[" * 100_000, NAIVE, NO_UTF8]
)
def test_what_is_no_event_is_no_milestone(body: bytes) -> None:
    assert read_milestone(body) is None


@pytest.mark.parametrize("name", ["retry", "error", "end"])
def test_milestone_of_another_version_is_an_event_all_the_same(name: str) -> None:
    body = b'{"jobId":"j","attempt":3,"time":"2026-11-22T13:20:00Z","event":"%s","data":{"a":1}}'
    milestone = read_milestone(body % name.encode())

    assert milestone is not None
    assert History().after(milestone) == History(last_attempt=3)
