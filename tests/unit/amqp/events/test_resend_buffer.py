"""Whatever a queue nacks: the others get all in order, and it does if it takes in time."""

from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.amqp.events.one_address import PATIENCE_S, TICK_S, OneAddress

# A number: one of the answers that are due is given, the last one if there are not so many.
Step = str | int
_STEPS = [
    *("say", "say", "end", "failing", "fail", "record", "journal"),
    *("arrive", "arrive", "turn", "tick", "wait"),
]


def scripts(*others: str) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.sampled_from([*_STEPS, *others]) | st.integers(0, 3), max_size=60)


def play(at: OneAddress, script: list[Step], *, longest_s: float = 1e9) -> None:
    for step in script:
        match step:
            case "say" | "end" | "failing":
                at.say(is_end=step == "end", failing=step == "failing")
            case int() if at.due_answers:
                at.answer(step)
            case "turn":
                at.takes = not at.takes
            case "unbind":
                at.routes = not at.routes
            case "journal":
                at.journal_takes = not at.journal_takes
            case "wait":
                at.now_s = min(at.now_s + TICK_S, longest_s)
            case "arrive" | "tick" | "lose" | "fail" | "record":
                getattr(at, step)()
            case _:
                pass


def sound(at: OneAddress, came: list[int]) -> list[int]:
    """Return what came of the attempt that does not fail, without repeats."""
    return [it for it in dict.fromkeys(came) if at.messages[it].attempt is at.sound]


def strictly(came: list[int], expected: list[int]) -> list[int]:
    """Return what a consumer has that takes nothing but the next event."""
    taken: list[int] = []
    for seq in came:
        if seq in expected[len(taken) : len(taken) + 1]:
            taken.append(seq)
    return taken


@given(scripts("lose"))
def test_others_get_every_event_in_order_whatever_one_queue_and_the_connection_do(
    script: list[Step],
) -> None:
    at = OneAddress()

    play(at, script)
    at.takes = at.journal_takes = True
    at.rest()

    assert sound(at, at.good) == sound(at, list(range(len(at.messages))))


# `OneAddress` checks each step: nothing is sent twice on one connection unless it was nacked or
# confirmed while something was held, and nothing is done with what is settled.
@given(scripts("lose", "unbind"))
def test_each_event_is_settled_once_and_nothing_is_left_in_flight_or_held(
    script: list[Step],
) -> None:
    at = OneAddress()

    play(at, script)
    at.takes = at.journal_takes = True
    at.rest()

    assert sorted(at.settled) == list(range(-at.records, len(at.messages)))
    assert at.in_flight == 0
    assert not at.buffer.needs_tick


@given(scripts("lose", "unbind"))
def test_end_is_settled_only_after_all_queues_or_the_endings_took_it(script: list[Step]) -> None:
    at = OneAddress()

    play(at, script)

    ends = [it for it in at.settled if it >= 0 and at.messages[it].is_end]
    assert {*ends} <= {*at.bad, *at.endings}


@given(scripts("lose", "unbind"))
def test_record_is_settled_only_after_the_journal_took_it(script: list[Step]) -> None:
    at = OneAddress()

    play(at, script)

    records = {it for it in at.settled if it < 0}
    assert records <= {*at.journal}
    assert not {*at.journal} & {*at.good, *at.bad}


@given(scripts("lose"))
def test_journal_that_nacks_nothing_has_each_record_in_order_whatever_queues_do(
    script: list[Step],
) -> None:
    at = OneAddress()

    play(at, [step for step in script if step != "journal"])
    at.takes = True
    at.rest()

    assert [*dict.fromkeys(at.journal)] == [*range(-1, -at.records - 1, -1)]


# `OneAddress` gives no confirm before the nack of an earlier event, see the module's invariants.
# The example: nacked for the first time so late that patience ends before the next tick.
@example(
    [
        *("turn", "say", "arrive", 0, "turn", "tick", "arrive", *["wait"] * 5),
        *(0, "turn", "say", "arrive", "wait", "wait"),
    ]
)
@given(scripts("lose"))
def test_queue_that_takes_again_in_time_has_it_all_in_order(script: list[Step]) -> None:
    at = OneAddress()

    play(at, script, longest_s=PATIENCE_S - TICK_S)
    at.takes = at.journal_takes = True
    at.rest()

    everything = sound(at, list(range(len(at.messages))))
    assert strictly(at.bad, everything) == everything
    assert not at.passed_over


@given(scripts())
def test_nothing_is_held_for_longer_than_patience_lasts(script: list[Step]) -> None:
    at = OneAddress()
    at.takes = False
    at.say()
    at.arrive()
    at.answer()
    play(at, script, longest_s=PATIENCE_S - TICK_S)

    at.now_s = PATIENCE_S
    at.tick()

    at.arrive()
    assert not at.buffer.is_holding
    assert sound(at, at.good) == sound(at, list(range(len(at.messages))))
