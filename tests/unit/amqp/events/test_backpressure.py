import asyncio

from aimicromind_worker.amqp.events.backpressure import Backpressure, Window

_BYTES = 100


def fill(window: Backpressure) -> None:
    while not window.is_full:
        window.add(_BYTES)


def empty(window: Backpressure) -> None:
    while window.messages:
        window.remove(_BYTES)


async def _turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_those_who_wait_go_on_in_order_and_only_until_it_is_full_again() -> None:
    window, went_on = Backpressure(Window(messages=4)), list[int]()
    fill(window)

    async def publish(number: int) -> None:
        await window.wait()
        went_on.append(number)
        if number % 3 == 2:
            fill(window)

    waiting = [asyncio.create_task(publish(number)) for number in range(7)]
    await _turns()
    assert went_on == []
    for expected in ([0, 1, 2], [0, 1, 2, 3, 4, 5], list(range(7))):
        empty(window)
        await _turns()
        assert went_on == expected
    await asyncio.gather(*waiting)


async def test_one_who_no_longer_waits_keeps_nobody_back() -> None:
    window = Backpressure(Window(messages=4))
    fill(window)
    waiting = [asyncio.create_task(window.wait()) for _ in range(4)]
    await _turns()
    waiting[0].cancel()
    await _turns()

    empty(window)
    # It has been woken, and is cancelled before it has gone on.
    waiting[1].cancel()
    await _turns()

    assert [each.done() for each in waiting] == [True] * 4
    assert [each.cancelled() for each in waiting] == [True, True, False, False]


async def test_nobody_waits_while_the_window_is_not_full() -> None:
    window = Backpressure(Window())

    await asyncio.wait_for(window.wait(), 1)


async def test_window_is_full_at_its_messages_or_bytes_and_opens_at_three_quarters() -> None:
    by_messages = Backpressure(Window(messages=8))
    by_bytes = Backpressure(Window(size_bytes=8 * _BYTES))

    for window in (by_messages, by_bytes):
        for _ in range(7):
            window.add(_BYTES)
        below = window.is_full
        window.add(_BYTES)
        at_the_limit = window.is_full
        window.remove(_BYTES)
        above_three_quarters = window.is_full
        window.remove(_BYTES)

        assert (below, at_the_limit, above_three_quarters) == (False, True, True)
        assert not window.is_full
