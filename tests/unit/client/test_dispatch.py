from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.live.dispatch import Dispatch
from aimicromind_schemas.client.wanted import Wanted
from tests.unit.client.deliveries import delivery, end, token

CHATS, JOBS = ("a", "b"), ("job-1", "job-2")
_wanted = st.builds(
    lambda make, chat_id, job_id: make(chat_id, job_id),
    st.sampled_from([Wanted.of, Wanted.ends]),
    st.sampled_from([None, *CHATS]),
    st.sampled_from([None, *JOBS]),
)
_events = st.builds(
    lambda make, chat_id, job_id: make(job_id, 0, chat_id=chat_id),
    st.sampled_from([token, end]),
    st.sampled_from(CHATS),
    st.sampled_from(JOBS),
)


class _Taker:
    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.got: list[Delivery] = []

    def put(self, delivery: Delivery) -> None:
        self.got.append(delivery)

    def miss(self) -> None:
        """Nothing is missed here."""


@given(
    steps=st.lists(st.one_of(_wanted, st.integers(0, 20), _events.map(delivery)), max_size=60),
)
def test_each_taker_gets_what_it_wants_while_it_is_there(
    steps: list[Wanted | int | Delivery],
) -> None:
    dispatch = Dispatch()
    there: list[_Taker] = []
    expected: Counter[_Taker] = Counter()
    for step in steps:
        match step:
            case Wanted():
                taker = _Taker(step)
                dispatch.hold(step.binding)
                dispatch.add(taker)
                there.append(taker)
            case int() if there:
                taker = there.pop(step % len(there))
                dispatch.remove(taker)
                is_last = all(it.wanted.binding != taker.wanted.binding for it in there)
                assert dispatch.release(taker.wanted.binding) == is_last
            case Delivery():
                takers = [it for it in there if it.wanted.event(step) is not None]
                expected.update(takers)
                assert dispatch.route(step) == len(takers)
            case _:
                pass

    assert {it: len(it.got) for it in expected} == expected
    assert set(dispatch.keys) == {it.wanted.binding for it in there}
    assert set(dispatch.takers) == set(there)


def test_message_is_decoded_once_for_all_who_follow_its_chat() -> None:
    dispatch = Dispatch()
    takers = [_Taker(Wanted.of("a", None)) for _ in range(3)]
    for taker in takers:
        dispatch.add(taker)

    dispatch.route(delivery(token("job-1", 0, chat_id="a")))

    first, *others = (taker.got[0].event() for taker in takers)
    assert all(event is first for event in others)


def test_taker_that_leaves_while_it_takes_costs_the_others_nothing() -> None:
    dispatch = Dispatch()

    class _Leaving(_Taker):
        @override
        def put(self, delivery: Delivery) -> None:
            super().put(delivery)
            dispatch.remove(self)

    takers = [_Leaving(Wanted.of("a", None)) for _ in range(3)]
    for taker in takers:
        dispatch.add(taker)

    for seq in range(2):
        dispatch.route(delivery(token("job-1", seq, chat_id="a")))

    assert [len(taker.got) for taker in takers] == [1, 1, 1]
