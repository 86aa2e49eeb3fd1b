"""What has waited too long for an answer is found, however many channels there are."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.amqp.waiting import AnswerWatch, Waiting

_LIMIT_S = 4
_MESSAGE = Waiting("message", overtaken=True)


def seconds_until_overdue(watch: AnswerWatch, *oldest: Waiting) -> int:
    """Return how long these wait from the first tick on, at one tick a second."""
    return next(it for it in count() if watch.on_tick(oldest, 1, may_answer=True))


def test_message_is_overdue_after_the_limit_and_each_connection_gets_twice_as_long() -> None:
    watch = AnswerWatch(_LIMIT_S)
    waited_s = []
    # The last ones are longer than the time after which the limit may start anew.
    for _ in range(10):
        waited_s.append(seconds_until_overdue(watch, _MESSAGE))
        watch.restart()
    assert waited_s == [_LIMIT_S * 2**it for it in range(10)]


def test_message_is_given_four_times_as_long_while_no_later_one_is_answered() -> None:
    watch = AnswerWatch(_LIMIT_S)
    assert seconds_until_overdue(watch, Waiting("message", overtaken=False)) == 16


def test_limit_starts_anew_after_ten_minutes_without_a_missing_answer() -> None:
    watch = AnswerWatch(_LIMIT_S)
    seconds_until_overdue(watch, _MESSAGE)
    watch.restart()
    for _ in range(601):
        assert not watch.on_tick((), 1, may_answer=True)
    assert seconds_until_overdue(watch, _MESSAGE) == _LIMIT_S


def test_time_of_an_alarm_does_not_count() -> None:
    watch = AnswerWatch(_LIMIT_S)
    assert not any(watch.on_tick([_MESSAGE], 1, may_answer=False) for _ in range(100))
    assert seconds_until_overdue(watch, _MESSAGE) == _LIMIT_S - 1


def test_message_that_waits_is_found_beside_a_channel_that_goes_on() -> None:
    watch = AnswerWatch(_LIMIT_S)
    overdue = [
        watch.on_tick((Waiting(f"event {it}", overtaken=False), _MESSAGE), 1, may_answer=True)
        for it in range(5)
    ]
    assert overdue == [False] * 4 + [True]


@given(st.lists(st.tuples(st.integers(1, _LIMIT_S), st.booleans()), max_size=20))
def test_messages_that_are_answered_within_the_limit_are_never_overdue(
    waits: list[tuple[int, bool]],
) -> None:
    watch = AnswerWatch(_LIMIT_S)
    for number, (ticks, overtaken) in enumerate(waits):
        for _ in range(ticks):
            assert not watch.on_tick([Waiting(number, overtaken)], 1, may_answer=True)
