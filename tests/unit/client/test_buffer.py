import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.live.buffer import Buffer
from tests.unit.client.deliveries import delivery, end, token

TAKE, BEGIN_AGAIN = "take", "begin again"
_steps = st.lists(st.sampled_from(["token", "end", TAKE, BEGIN_AGAIN]), max_size=60)


def _labels(deliveries: Sequence[Delivery]) -> list[str]:
    return [it.labels.message_id for it in deliveries]


@given(steps=_steps, most=st.integers(1, 5))
def test_follower_gets_what_was_not_missed_in_order_and_each_end(
    steps: list[str], most: int
) -> None:
    buffer = Buffer(most_messages=most)
    put: list[str] = []
    taken: list[str] = []
    ends: list[str] = []
    for seq, step in enumerate(steps):
        if step == TAKE:
            if len(buffer):
                taken += _labels([buffer.take()])
        elif step == BEGIN_AGAIN:
            if not len(buffer):
                ends += _labels(buffer.begin_again())
        else:
            event = token("job", seq) if step == "token" else end(f"job-{seq}", 0)
            buffer.put(delivery(event))
            put += _labels([delivery(event)])
            assert len(buffer) <= most
    while len(buffer):
        taken += _labels([buffer.take()])
    ends += _labels(buffer.begin_again())

    assert taken == [it for it in put if it in taken]
    assert not set(taken) & set(ends)
    last_ends = [it for it in put if it.endswith(":end")][-1:]
    assert set(last_ends) <= {*taken, *ends}


@given(sizes=st.lists(st.integers(0, 5_000), max_size=40))
def test_buffer_holds_no_more_bytes_than_its_limit_and_one_message(sizes: list[int]) -> None:
    buffer, most_bytes = Buffer(most_bytes=10_000), 10_000
    largest = 0
    for seq, size in enumerate(sizes):
        one = delivery(token("job", seq, data="x" * size))
        largest = max(largest, one.size_bytes)
        buffer.put(one)

    held = 0
    while len(buffer):
        held += buffer.take().size_bytes
    assert held <= max(most_bytes, largest)


@pytest.mark.parametrize("count", [1, 5_000])
def test_ends_that_are_kept_beside_what_is_missed_are_bounded(count: int) -> None:
    buffer = Buffer(most_messages=10)
    buffer.miss()
    for number in range(count):
        buffer.put(delivery(end(f"job-{number}", 0)))

    kept = _labels(buffer.begin_again())

    assert len(kept) == min(count, 10)
    assert kept[-1] == f"job-{count - 1}:end"


def test_repeat_of_an_end_is_kept_once() -> None:
    buffer = Buffer()
    buffer.miss()
    for _ in range(3):
        buffer.put(delivery(end("job", 7)))

    assert _labels(buffer.begin_again()) == ["job:end"]


async def test_follower_learns_of_what_it_missed_behind_what_came_before() -> None:
    buffer = Buffer(most_messages=2)
    for seq in range(4):
        buffer.put(delivery(token("job", seq)))

    came = [await buffer.next() for _ in range(3)]

    assert [it and it.labels.message_id for it in came] == ["job:1:0", "job:1:1", None]


async def test_waiting_follower_gets_what_comes() -> None:
    buffer = Buffer()
    waiting = asyncio.create_task(buffer.next())
    await asyncio.sleep(0)

    buffer.put(delivery(token("job", 0)))
    came = await asyncio.wait_for(waiting, 5)

    assert came is not None
    assert came.event() == token("job", 0)


async def test_wait_that_is_cancelled_loses_nothing() -> None:
    buffer = Buffer()
    waiting = asyncio.create_task(buffer.next())
    await asyncio.sleep(0)
    buffer.put(delivery(token("job", 0)))
    waiting.cancel()
    await asyncio.wait([waiting])

    assert len(buffer) == 1
