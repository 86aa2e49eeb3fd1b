import asyncio

from aimicromind_worker.amqp.events.backpressure import Backpressure


async def _turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_those_who_wait_go_on_in_order_and_only_until_it_is_full_again() -> None:
    room, went_on = Backpressure(), list[int]()
    room.fill()

    async def publish(number: int) -> None:
        await room.wait()
        went_on.append(number)
        if number % 3 == 2:
            room.fill()

    waiting = [asyncio.create_task(publish(number)) for number in range(7)]
    await _turns()
    assert went_on == []
    for expected in ([0, 1, 2], [0, 1, 2, 3, 4, 5], list(range(7))):
        room.reopen()
        await _turns()
        assert went_on == expected
    await asyncio.gather(*waiting)


async def test_one_who_no_longer_waits_keeps_nobody_back() -> None:
    room = Backpressure()
    room.fill()
    waiting = [asyncio.create_task(room.wait()) for _ in range(4)]
    await _turns()
    waiting[0].cancel()
    await _turns()

    room.reopen()
    # It has been woken, and goes before it has gone on.
    waiting[1].cancel()
    await _turns()

    assert [each.done() for each in waiting] == [True] * 4
    assert [each.cancelled() for each in waiting] == [True, True, False, False]


async def test_with_room_nobody_waits() -> None:
    room = Backpressure()

    await asyncio.wait_for(room.wait(), 1)
