import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from aimicromind_worker.jobs.turns import Turns

LONG = timedelta(minutes=1)


class Users:
    """Tasks that take turns, and note when they have them."""

    def __init__(self, slots: int = 8, patience: timedelta = LONG) -> None:
        self.standing_in = 0
        self.turns = Turns(slots, self._stand_in, patience)
        self.had: list[object] = []
        self.leave = asyncio.Event()
        self.called_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @asynccontextmanager
    async def _stand_in(self) -> AsyncIterator[None]:
        self.standing_in += 1
        try:
            yield
        finally:
            self.standing_in -= 1

    def begin(self, name: str, key: str = "chat") -> asyncio.Task[None]:
        return asyncio.create_task(self._use(name, key))

    async def _use(self, name: str, key: str) -> None:
        async with self.turns.turn(key, self.called_off) as came:
            self.had.append(name if came else f"not {name}")
            if came:
                await self.leave.wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_turns_come_one_after_the_other_in_the_order_of_asking() -> None:
    users = Users()
    tasks = [users.begin(name) for name in "abc"]
    await _settle()
    assert users.had == ["a"]

    users.leave.set()
    await asyncio.gather(*tasks)

    assert users.had == ["a", "b", "c"]


async def test_keys_do_not_wait_for_each_other() -> None:
    users = Users()
    tasks = [users.begin("a"), users.begin("b", key="other")]
    await _settle()

    assert users.had == ["a", "b"]
    users.leave.set()
    await asyncio.gather(*tasks)


async def test_turn_that_does_not_come_in_time_passes_by() -> None:
    users = Users(patience=timedelta(milliseconds=10))
    holder = users.begin("a")
    await users.begin("b")
    users.leave.set()
    await holder
    await users.begin("c")

    assert users.had == ["a", "not b", "c"]


async def test_while_one_waits_for_its_chat_another_may_come_in_its_place() -> None:
    users = Users(slots=2)
    tasks = [users.begin(name) for name in "ab"]
    await _settle()
    assert users.standing_in == 1

    users.leave.set()
    await asyncio.gather(*tasks)

    assert users.standing_in == 0


async def test_no_more_have_their_turn_than_there_are_slots() -> None:
    users = Users(slots=2)
    first = users.begin("a")
    waits = users.begin("b")
    stands_in = users.begin("c", key="other")
    await _settle()
    first.cancel()
    await _settle()
    late = users.begin("d", key="third")
    await _settle()

    assert users.had == ["a", "c", "b"]
    users.leave.set()
    await asyncio.gather(first, waits, stands_in, late, return_exceptions=True)
    assert users.had == ["a", "c", "b", "d"]


async def test_nobody_stands_in_where_no_slot_would_be_free() -> None:
    users = Users(slots=8)
    tasks = [users.begin(name, key=name) for name in "abcdefgh"]
    tasks.append(users.begin("waits", key="a"))
    await _settle()

    assert users.standing_in == 0
    users.leave.set()
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_turn_of_a_cancelled_task_goes_to_the_next(leaver: int) -> None:
    users = Users()
    tasks = [users.begin(name) for name in "abc"]
    await _settle()

    tasks[leaver].cancel()
    users.leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    again = users.begin("d")
    await again

    left = [name for number, name in enumerate("abc") if number != leaver or number == 0]
    assert users.had == [*left, "d"]


async def test_turn_that_comes_to_a_task_as_it_is_cancelled_is_not_lost() -> None:
    users = Users()
    holder, following, last = (users.begin(name) for name in "abc")
    await _settle()

    users.leave.set()
    await holder
    following.cancel()
    await asyncio.gather(following, last, return_exceptions=True)

    assert users.had[-1] == "c"


async def test_those_who_wait_can_be_sent_away() -> None:
    users = Users()
    tasks = [users.begin(name) for name in "abc"]
    await _settle()

    users.turns.end_waits()
    await asyncio.gather(*tasks[1:])
    users.leave.set()
    await tasks[0]

    assert users.had == ["a", "not b", "not c"]


async def test_those_who_have_nothing_to_wait_for_leave_at_once() -> None:
    users = Users()
    tasks = [users.begin(name) for name in "abc"]
    await _settle()

    users.called_off.set_result(None)
    await asyncio.gather(*tasks[1:])
    free = users.begin("d", key="other")
    users.leave.set()
    await asyncio.gather(tasks[0], free)

    assert users.had == ["a", "not b", "not c", "d"]


async def test_who_finds_no_room_to_wait_is_told_at_once() -> None:
    users = Users()
    tasks = [users.begin(name) for name in "abc"]
    await _settle()

    await users.begin("d")
    await users.begin("e")
    other = users.begin("f", key="other")
    await _settle()
    users.leave.set()
    await asyncio.gather(other, *tasks)
    await users.begin("g")

    assert users.had == ["a", "not d", "not e", "f", "b", "c", "g"]
