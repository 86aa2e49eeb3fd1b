"""Followers that share a request to a worker, or ask while another's answer comes in."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aimicromind_schemas import Names
from aimicromind_schemas.client.live.buffer import Buffer
from aimicromind_schemas.client.live.rounds import Rounds
from aimicromind_schemas.client.past import worker_past
from aimicromind_schemas.client.past.sources import Missed
from aimicromind_schemas.client.past.worker_past import WorkerPast
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.catch_up import Snapshot
from tests.unit.client.deliveries import token


class Worker:
    """Answers requests when the test says so.

    Attributes:
        asked: The correlation ids of the requests.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self._takes: dict[str, Callable[[bytes], None]] = {}
        answers = SimpleNamespace(to=self._to)
        self.live = SimpleNamespace(answers=answers, queue_name="first", rounds=Rounds())
        monkeypatch.setattr(worker_past, "ask", self._ask)
        # No request is repeated.
        monkeypatch.setattr(worker_past, "_ANSWERED_WITHIN_S", 60.0)
        channel = SimpleNamespace(opened=self._opened)
        self.past = WorkerPast(cast("Any", self.live), cast("Any", channel), Names("test"))

    @contextmanager
    def _to(self, token: str, take: Callable[[bytes], None]) -> Iterator[None]:
        self._takes[token] = take
        yield

    async def _opened(self) -> None:
        pass

    async def _ask(self, *arguments: Any) -> bool:  # noqa: ANN401 - those of `ask`
        self.asked.append(arguments[4])
        return True

    def ask(self) -> asyncio.Task[Any]:
        missed = Missed(Wanted.of("chat", "job"), None, None, None, Buffer(), lambda _: False)
        return asyncio.create_task(self.past.ask(missed))

    async def requests(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.asked) < count:  # noqa: ASYNC110 - a list
                await asyncio.sleep(0)

    def answer(self, number: int, part: int, parts: int) -> None:
        events = (token("job", part).model_dump_json(by_alias=True).encode(),)
        snapshot = Snapshot("job", "chat", 1, events, part=part, parts=parts)
        self._takes[self.asked[number]](snapshot.encode())


async def test_followers_that_ask_before_an_answer_comes_share_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(monkeypatch)
    first, second = worker.ask(), worker.ask()
    await worker.requests(1)
    worker.answer(0, 1, 1)
    await asyncio.gather(first, second)

    assert len(worker.asked) == 1


async def test_follower_that_asks_while_an_answer_comes_in_harms_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(monkeypatch)
    first = worker.ask()
    await worker.requests(1)
    worker.answer(0, 1, 2)
    second = worker.ask()
    await worker.requests(2)
    worker.answer(1, 1, 1)
    await second
    worker.answer(0, 2, 2)
    await first

    assert first.result().attempt == second.result().attempt == 1


async def test_follower_on_a_new_queue_does_not_wait_for_the_answer_to_the_old_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker = Worker(monkeypatch)
    lost = worker.ask()
    await worker.requests(1)
    worker.live.queue_name = "second"
    again = worker.ask()
    await worker.requests(2)
    worker.answer(1, 1, 1)
    await again
    lost.cancel()
    await worker.past.close()
