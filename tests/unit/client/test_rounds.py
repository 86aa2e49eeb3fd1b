"""Followers that read what they missed leave the event loop to others in between."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any, Self, cast

from aimicromind_schemas import Event
from aimicromind_schemas.client.following import Following, Sources
from aimicromind_schemas.client.live.rounds import Rounds
from aimicromind_schemas.client.past.sources import Missed
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.reading import Reader
from tests.unit.client.deliveries import end, token

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


class Past:
    """A source that has all events of a job at once."""

    is_whole = True
    progress = 1.0

    def __init__(self, events: list[Event]) -> None:
        self._events = events

    async def ask(self, _: Missed) -> "Past":
        return self

    async def events(self) -> AsyncGenerator[Event, None]:
        for event in self._events:
            yield event

    def close(self) -> None:
        """Nothing to close."""


async def test_followers_that_read_a_long_past_let_the_event_loop_go_on() -> None:
    events: list[Event] = [*(token("job", seq) for seq in range(1_000)), end("job", 1_000)]
    rounds = Rounds()

    async def joined(_: object) -> None:
        """There is nothing to subscribe to."""

    live = SimpleNamespace(rounds=rounds, join=joined, leave=lambda _: None)
    sources = Sources([cast("Any", Past(events))], [], None, None, None, "log")

    async def follow() -> int:
        wanted = Wanted.of("chat", "job")
        following = Following(
            cast("Any", live), sources, wanted, Reader(), "job", ended=lambda _: None
        )
        await following.open()
        async with aclosing(following.items()) as items:
            return len([item async for item in items])

    with LoopRounds() as seen:
        counts = await asyncio.gather(*(follow() for _ in range(40)))

    assert counts == [1_001] * 40
    # 40 followers with five turns each.
    assert seen.count >= 40 * 5 // AT_A_TIME
