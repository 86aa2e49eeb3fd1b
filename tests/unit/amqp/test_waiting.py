"""What has waited too long for an answer is found, however many channels there are."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.amqp.waiting import AnswerWatch

_LIMIT_S = 4.0


def ticks_until_overdue(watch: AnswerWatch, *oldest: object) -> int:
    return next(it for it in count(1) if watch.on_tick(oldest, 1, may_answer=True))


def test_message_is_overdue_after_the_limit_and_each_connection_gets_twice_as_long() -> None:
    watch = AnswerWatch(_LIMIT_S)
    waited_s = []
    for _ in range(4):
        waited_s.append(ticks_until_overdue(watch, "message") - 1)
        watch.restart()
    assert waited_s == [4, 8, 16, 32]


def test_limit_starts_anew_after_ten_minutes_without_a_missing_answer() -> None:
    watch = AnswerWatch(_LIMIT_S)
    ticks_until_overdue(watch, "message")
    watch.restart()
    for _ in range(601):
        assert not watch.on_tick((), 1, may_answer=True)
    assert ticks_until_overdue(watch, "message") - 1 == _LIMIT_S


def test_time_of_an_alarm_does_not_count() -> None:
    watch = AnswerWatch(_LIMIT_S)
    assert not any(watch.on_tick(["message"], 1, may_answer=False) for _ in range(100))
    assert ticks_until_overdue(watch, "message") == _LIMIT_S


def test_message_that_waits_is_found_beside_a_channel_that_goes_on() -> None:
    watch = AnswerWatch(_LIMIT_S)
    overdue = [watch.on_tick((f"event {it}", "job"), 1, may_answer=True) for it in range(5)]
    assert overdue == [False] * 4 + [True]


@given(st.lists(st.integers(1, 4), max_size=20))
def test_messages_that_are_answered_within_the_limit_are_never_overdue(waits: list[int]) -> None:
    watch = AnswerWatch(_LIMIT_S)
    for number, ticks in enumerate(waits):
        for _ in range(ticks):
            assert not watch.on_tick([number], 1, may_answer=True)
