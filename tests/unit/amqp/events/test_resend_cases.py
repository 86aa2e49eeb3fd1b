"""What follows single orders of confirms, nacks, returns and losses."""

from aimicromind_worker.amqp.events.steps import SEND, SETTLE
from tests.unit.amqp.events.one_address import PATIENCE_S, OneAddress, a_message


def test_event_that_is_sent_and_confirmed_allocates_no_action() -> None:
    at = OneAddress()
    message = a_message(at.sound, at.buffer, 0)

    on_publish, on_ack = at.buffer.on_publish(message), at.buffer.on_ack(message)

    assert on_publish is SEND
    assert on_ack is SETTLE


def test_what_follows_a_nacked_event_is_held_until_that_one_is_confirmed() -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.arrive()
    at.answer()
    at.takes = True

    at.say()
    held = list(at.good)
    at.rest()

    assert held == [0]
    assert at.good == [0, 0, 1]
    assert at.bad == [0, 1]


def test_nacked_event_is_sent_again_only_when_all_else_is_answered() -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.arrive()
    at.takes = True
    at.say()
    at.arrive()
    at.answer()

    at.tick()
    with_one_in_flight = at.in_flight
    at.rest()

    assert with_one_in_flight == 1
    assert at.good == [0, 1, 0, 1]
    assert at.bad == [1, 0, 1]


def test_what_is_held_when_patience_ends_is_sent_in_order_however_it_was_confirmed() -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.arrive()
    at.takes = True
    at.say()
    at.say()
    at.arrive()
    at.answer()
    at.answer(1)
    at.answer()

    at.now_s = PATIENCE_S
    at.rest()

    assert at.good == [0, 1, 2, 0, 1, 2]


def test_late_confirm_of_an_event_before_the_nacked_one_settles_it() -> None:
    at = OneAddress()
    at.say()
    at.arrive()
    at.takes = False
    at.say()
    at.arrive()
    at.answer(1)
    at.takes = True

    at.answer()
    at.rest()

    assert at.good == [0, 1, 1]
    assert at.settled == [0, 1]


def test_later_nacks_are_passed_over_at_once() -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.rest()

    at.say()
    at.arrive()
    at.answer()
    at.say()
    at.arrive()

    assert at.passed_over == [0, 1]
    assert at.good[-2:] == [1, 2]
    assert at.good.count(1) == 1


def test_end_that_is_passed_over_goes_straight_until_the_endings_take_it() -> None:
    at = OneAddress()
    at.takes = False
    at.say(is_end=True)
    at.now_s = PATIENCE_S
    for _ in range(3):
        at.arrive()
        while at.due_answers:
            at.answer()
        at.now_s += PATIENCE_S
        at.tick()
    unsettled = list(at.settled)

    at.takes = True
    at.rest()

    assert at.passed_over == [0]
    assert unsettled == []
    assert at.endings == [0]
    assert at.settled == [0]


def test_record_goes_to_the_journal_at_once_while_a_nacked_event_is_held() -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.arrive()
    at.answer()

    at.record()
    at.say()
    at.arrive()

    assert at.journal == [-1]
    assert at.good == [0]


def test_nack_of_a_record_begins_no_period_and_its_confirm_ends_none() -> None:
    at = OneAddress()
    at.journal_takes = False
    at.record()
    at.arrive()
    at.answer()
    begun = at.nack_period.began_s

    at.takes, at.journal_takes = False, True
    at.say()
    at.arrive()
    at.answer()
    at.now_s = 100 * PATIENCE_S
    at.tick()
    at.arrive()
    at.answer()

    assert begun is None
    assert at.journal == at.settled == [-1]
    assert at.nack_period.began_s == 0


def test_end_that_was_returned_before_a_loss_goes_to_its_address_again() -> None:
    at = OneAddress()
    at.routes = False
    at.say(is_end=True)
    at.arrive()
    at.lose()

    at.routes = True
    at.rest()

    assert at.good == [0]
    assert at.endings == []


def test_dropped_event_does_not_keep_a_nacked_one_from_being_sent_again() -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.arrive()
    at.fail()
    at.say(failing=True)
    at.answer()
    at.takes = True

    at.tick()
    at.arrive()

    assert at.bad == [0]


def test_queue_that_took_events_for_a_while_is_waited_for_again() -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.rest()
    at.takes = True
    at.now_s += 5 * PATIENCE_S
    at.say()
    at.arrive()
    at.answer()

    at.takes = False
    at.say()
    at.arrive()
    at.answer()
    at.takes = True
    at.rest()

    assert at.bad == [1, 2]
    assert at.passed_over == [0]


def test_queue_that_takes_and_nacks_in_turns_is_not_waited_for_again() -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.rest()
    for _ in range(20):
        at.takes = not at.takes
        at.now_s += 0.5
        at.say()
        at.arrive()
        at.answer()

    assert len(at.passed_over) == 11
    assert not at.buffer.is_holding
