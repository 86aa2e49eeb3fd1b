import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

from aimicromind_worker.breaker import Breaker
from aimicromind_worker.core.errors import (
    BadRequest,
    CallFailed,
    EndpointDown,
    EndpointUnavailable,
    HeadersOverdue,
    StreamCut,
)
from tests.support.builders import LIFETIME

REFUSED = EndpointUnavailable("no route", request_sent=False)
BUSY = EndpointUnavailable("busy", http_status=503)
LATE = HeadersOverdue(LIFETIME)
WITHIN_S = 10.0


def fails(breaker: Breaker, failure: CallFailed, *, answered: bool = False) -> None:
    with suppress(type(failure)), breaker.asking() as asking:
        if answered:
            asking.answered()
        raise failure


def succeeds(breaker: Breaker) -> None:
    with breaker.asking() as asking:
        asking.answered()


@pytest.mark.parametrize(("failure", "in_a_row"), [(REFUSED, 2), (BUSY, 5), (LATE, 5)])
def test_calls_stop_after_so_many_without_an_answer(failure: CallFailed, in_a_row: int) -> None:
    breaker = Breaker()
    for _ in range(in_a_row):
        assert breaker.lets_call
        assert breaker.obstacle() is None
        fails(breaker, failure)

    with pytest.raises(EndpointDown), breaker.asking():
        pytest.fail("a call was made")
    assert breaker.obstacle() == str(failure)


def test_answers_in_between_keep_calls_going() -> None:
    breaker = Breaker()
    for _ in range(9):
        fails(breaker, REFUSED)
        succeeds(breaker)

    assert breaker.lets_call


def test_refusals_of_a_request_are_answers() -> None:
    breaker = Breaker()
    for _ in range(9):
        fails(breaker, REFUSED)
        fails(breaker, BadRequest("no question", http_status=400))

    assert breaker.lets_call


@pytest.mark.parametrize("failure", [StreamCut("reset"), EndpointUnavailable("overloaded")])
def test_what_fails_after_an_answer_says_nothing_of_the_endpoint(failure: CallFailed) -> None:
    breaker = Breaker()
    for _ in range(9):
        fails(breaker, failure, answered=True)

    assert breaker.lets_call


def test_answer_to_a_call_that_was_under_way_lets_calls_go_on() -> None:
    breaker = Breaker()
    with breaker.asking() as slow:
        fails(breaker, REFUSED)
        fails(breaker, REFUSED)
        assert not breaker.lets_call
        slow.answered()

    assert breaker.lets_call


class FakeIntake:
    """Notes what is asked of it."""

    def __init__(self) -> None:
        self.state = "open"
        self.changed = asyncio.Event()

    def _becomes(self, state: str) -> None:
        self.state = state
        self.changed.set()

    async def until(self, state: str) -> None:
        async with asyncio.timeout(WITHIN_S):
            while self.state != state:
                self.changed.clear()
                await self.changed.wait()

    async def pause(self) -> None:
        self._becomes("paused")

    async def resume(self) -> None:
        self._becomes("open")

    @asynccontextmanager
    async def one_at_a_time(self) -> AsyncIterator[None]:
        self._becomes("one")
        yield
        self._becomes("paused")


class Watched:
    """A breaker under watch whose endpoint answers as told."""

    def __init__(self) -> None:
        self.breaker = Breaker()
        self.intake = FakeIntake()
        self.answers = True

    async def _answers(self) -> bool:
        return self.answers

    @contextmanager
    def watching(self) -> Iterator[None]:
        task = asyncio.create_task(self.breaker.watch(self.intake, self._answers))
        try:
            yield
        finally:
            task.cancel()

    async def opened(self) -> None:
        for _ in range(2):
            fails(self.breaker, REFUSED)
        await self.intake.until("paused")


async def test_one_job_at_a_time_finds_out_whether_the_endpoint_is_back() -> None:
    watched = Watched()
    with watched.watching():
        await watched.opened()
        await watched.intake.until("one")
        assert watched.breaker.obstacle() is None
        with watched.breaker.asking() as probe:
            assert not watched.breaker.lets_call
            probe.answered()
            await watched.intake.until("open")

    assert watched.breaker.lets_call


async def test_probe_without_an_answer_pauses_again() -> None:
    watched = Watched()
    with watched.watching():
        await watched.opened()
        await watched.intake.until("one")
        fails(watched.breaker, BUSY)
        await watched.intake.until("paused")
        assert watched.breaker.obstacle() is not None
        await watched.intake.until("one")
        succeeds(watched.breaker)
        await watched.intake.until("open")


async def test_probe_that_says_nothing_leaves_the_next_job_to_find_out() -> None:
    watched = Watched()
    with watched.watching():
        await watched.opened()
        await watched.intake.until("one")
        with pytest.raises(asyncio.CancelledError), watched.breaker.asking():
            raise asyncio.CancelledError

        assert watched.breaker.lets_call
        assert watched.intake.state == "one"


async def test_no_job_is_a_probe_while_nothing_answers_at_all() -> None:
    watched = Watched()
    watched.answers = False
    with watched.watching():
        await watched.opened()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await watched.intake.until("one")

        assert not watched.breaker.lets_call
