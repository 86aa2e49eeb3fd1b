"""A period of nacks begins with the first, and ends when its queue takes again for a while."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.amqp.events.nack_period import EndedPeriod, NackPeriod

PATIENCE = timedelta(seconds=2)


def test_patience_runs_from_the_first_nack_whatever_follows() -> None:
    period = NackPeriod("events", PATIENCE)

    begins = [period.on_nack("token", now_s) for now_s in (100.0, 101.0, 101.5)]

    assert begins == [True, False, False]
    assert period.patience_left_s(101.5) == 0.5
    assert period.patience_left_s(102.5) == 0


def test_no_patience_is_left_before_the_first_nack() -> None:
    assert NackPeriod("events", PATIENCE).patience_left_s(100.0) == 0


def test_confirm_of_another_event_tells_nothing_of_the_queue() -> None:
    period = NackPeriod("events", PATIENCE)
    period.on_nack("token", 0.0)

    other = period.on_ack("start", 100.0)
    same = period.on_ack("token", 100.0)

    assert other is None
    assert same == EndedPeriod(nacked_for_s=0.0, passed_over=0)
    assert period.began_s is None


def test_end_of_a_period_reports_its_length_and_what_was_passed_over() -> None:
    period = NackPeriod("events", PATIENCE)
    period.on_nack("token", 0.0)
    period.on_nack("token", 3.0)
    first = [period.on_pass_over(), period.on_pass_over()]

    ended = period.on_ack("token", 13.0)

    assert first == [True, False]
    assert ended == EndedPeriod(nacked_for_s=3.0, passed_over=2)


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 9.9)), max_size=50))
def test_period_does_not_end_within_five_times_the_patience_of_a_nack(
    answers: list[tuple[bool, float]],
) -> None:
    period, now_s = NackPeriod("events", PATIENCE), 0.0
    period.on_nack("token", now_s)

    for is_ack, after_s in answers:
        ended = period.on_ack("token", now_s + after_s) if is_ack else None
        if not is_ack:
            now_s += after_s
            period.on_nack("token", now_s)
        assert ended is None
