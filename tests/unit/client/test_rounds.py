"""Followers that read what they missed leave the event loop to others in between."""

import asyncio
from typing import Self

from aimicromind_schemas import CatchUpRequest
from aimicromind_schemas.client.live.rounds import Rounds
from aimicromind_schemas.client.past.worker_past import Answer, Shown
from tests.unit.client.deliveries import token

AT_A_TIME = 4


class LoopRounds:
    """Counts the rounds of the event loop during the body.

    Attributes:
        count: How many there were.
    """

    def __init__(self) -> None:
        self.count = 0
        self._goes_on = True

    def _next(self) -> None:
        self.count += 1
        if self._goes_on:
            asyncio.get_running_loop().call_soon(self._next)

    def __enter__(self) -> Self:
        self._next()
        return self

    def __exit__(self, *_: object) -> None:
        self._goes_on = False


async def test_few_go_on_in_each_round_and_in_their_order() -> None:
    rounds, went = Rounds(), list[tuple[int, int]]()

    async def go(number: int, seen: LoopRounds) -> None:
        await rounds.turn()
        went.append((number, seen.count))

    with LoopRounds() as seen:
        await asyncio.gather(*(go(number, seen) for number in range(30)))

    assert [number for number, _ in went] == list(range(30))
    in_rounds = [at for _, at in went]
    assert max(in_rounds.count(at) for at in in_rounds) <= AT_A_TIME


async def test_one_that_is_cancelled_holds_up_nobody() -> None:
    rounds = Rounds()
    gone = [asyncio.create_task(rounds.turn()) for _ in range(10)]
    await asyncio.sleep(0)
    for task in gone:
        task.cancel()
    async with asyncio.timeout(5):
        await asyncio.gather(*(rounds.turn() for _ in range(10)))
        await asyncio.wait(gone)


async def test_followers_that_read_a_long_answer_let_the_event_loop_go_on() -> None:
    answer = Answer(CatchUpRequest("chat", "job"))
    answer.events += [token("job", seq) for seq in range(1_001)]
    rounds = Rounds()

    async def follow() -> int:
        return len([event async for event in Shown(answer, rounds).events()])

    with LoopRounds() as seen:
        counts = await asyncio.gather(*(follow() for _ in range(40)))

    assert counts == [1_001] * 40
    # 40 followers with five turns each.
    assert seen.count >= 40 * 5 // AT_A_TIME
