import asyncio
from datetime import timedelta

import pytest

from aimicromind_worker.turns import Turns

LONG = timedelta(minutes=1)


class Users:
    """Tasks that take turns of one key, and note when they have it."""

    def __init__(self) -> None:
        self.turns = Turns(room=2)
        self.had: list[object] = []
        self.leave = asyncio.Event()
        self.called_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, name: str, patience: timedelta = LONG, key: str = "chat") -> asyncio.Task[None]:
        return asyncio.create_task(self._use(name, patience, key))

    async def _use(self, name: str, patience: timedelta, key: str) -> None:
        async with self.turns.turn(key, patience, self.called_off) as came:
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
    users = Users()
    holder = users.begin("a")
    hasty = users.begin("b", patience=timedelta(milliseconds=10))
    await hasty
    patient = users.begin("c")
    users.leave.set()
    await asyncio.gather(holder, patient)

    assert users.had == ["a", "not b", "c"]


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

    users.turns.send_away()
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
