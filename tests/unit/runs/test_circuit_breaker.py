import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest

from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import (
    BadRequest,
    EndpointDown,
    EndpointUnavailable,
    HeadersOverdue,
    StreamCut,
)
from aimicromind_worker.core.endpoint.failures import failure_of_status
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from tests.support.builders import LIFETIME
from tests.support.waiting import until

REFUSED = EndpointUnavailable("no route", request_sent=False)
BUSY = failure_of_status(503, "busy")
LOST = EndpointUnavailable("no response")
LOST.speaks_for_server = True
LATE = HeadersOverdue(LIFETIME)
WITHIN_S = 10.0


def fails(breaker: CircuitBreaker, failure: CallFailed, *, answered: bool = False) -> None:
    with suppress(type(failure)), breaker.asking() as asking:
        if answered:
            asking.answered()
        raise failure


def succeeds(breaker: CircuitBreaker) -> None:
    with breaker.asking() as asking:
        asking.answered()


def lets_call(breaker: CircuitBreaker) -> bool:
    try:
        with breaker.asking():
            return True
    except EndpointDown:
        return False


async def test_calls_stop_after_two_that_never_reached_the_endpoint() -> None:
    breaker = CircuitBreaker()
    for _ in range(2):
        assert lets_call(breaker)
        assert breaker.obstacle() is None
        fails(breaker, REFUSED)

    assert not lets_call(breaker)
    assert breaker.obstacle() == REFUSED.words


@pytest.mark.parametrize("failure", [BUSY, LATE, LOST], ids=str)
@pytest.mark.parametrize("server_answers", [True, False])
async def test_calls_without_an_answer_stop_where_the_server_does_not_answer_either(
    failure: CallFailed,
    server_answers: bool,  # noqa: FBT001 - given by pytest
) -> None:
    at = Installation()
    at.answers = server_answers
    watch = asyncio.create_task(at.breaker.watch(at.ask))
    for _ in range(4):
        fails(at.breaker, failure)
    await asyncio.sleep(0)
    assert not at.asked

    fails(at.breaker, failure)
    await at.until(lambda: at.asked > 0)

    assert lets_call(at.breaker) == server_answers
    assert (at.breaker.obstacle() is None) == server_answers
    watch.cancel()


@pytest.mark.parametrize("text", ["503", "fetch failed", "502 Bad Gateway", "ECONNREFUSED"])
async def test_error_of_a_flow_says_nothing_of_the_server(text: str) -> None:
    at = Installation()
    at.answers = False
    watch = asyncio.create_task(at.breaker.watch(at.ask))
    for _ in range(9):
        fails(at.breaker, failure_of_status(500, text))
    await asyncio.sleep(0)

    assert lets_call(at.breaker)
    assert not at.asked
    watch.cancel()


@pytest.mark.parametrize("status", [502, 503, 504, 520, 521, 522, 523, 524, 525, 526, 527, 530])
def test_gateways_speak_for_the_server(status: int) -> None:
    assert failure_of_status(status, "").speaks_for_server
    assert not failure_of_status(500, f"HTTP {status}").speaks_for_server


async def test_answers_in_between_keep_calls_going() -> None:
    breaker = CircuitBreaker()
    for _ in range(9):
        fails(breaker, REFUSED)
        succeeds(breaker)

    assert lets_call(breaker)


async def test_refusals_of_a_request_are_answers() -> None:
    breaker = CircuitBreaker()
    for _ in range(9):
        fails(breaker, REFUSED)
        fails(breaker, BadRequest("no question", http_status=400))

    assert lets_call(breaker)


@pytest.mark.parametrize("failure", [StreamCut("reset"), EndpointUnavailable("overloaded")])
async def test_what_fails_after_an_answer_says_nothing_of_the_endpoint(failure: CallFailed) -> None:
    breaker = CircuitBreaker()
    for _ in range(9):
        fails(breaker, failure, answered=True)

    assert lets_call(breaker)


async def test_answer_to_a_call_that_was_under_way_lets_calls_go_on() -> None:
    breaker = CircuitBreaker()
    with breaker.asking() as slow:
        opens(breaker)
        assert not lets_call(breaker)
        slow.answered()

    assert lets_call(breaker)


def opens(breaker: CircuitBreaker) -> None:
    for _ in range(2):
        fails(breaker, REFUSED)


class Installation:
    """A breaker under watch, an endpoint that answers as told, and jobs at the gate."""

    def __init__(self) -> None:
        self.breaker = CircuitBreaker()
        self.answers = True
        self.asked = 0
        self.flows = ["flow"]
        self.passed: list[int] = []
        self.refused: list[int] = []
        self.goes_on = asyncio.Event()
        self.called_off: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._came = asyncio.Event()

    async def ask(self) -> bool:
        self.asked += 1
        self._came.set()
        return self.answers

    @asynccontextmanager
    async def watching(self, jobs: int = 0, patience: timedelta = LIFETIME) -> AsyncIterator[None]:
        """Let the breaker be watched, and so many jobs come to its gate once it is open."""
        watch = asyncio.create_task(self.breaker.watch(self.ask))
        opens(self.breaker)
        tasks = [asyncio.create_task(self._job(number, patience)) for number in range(jobs)]
        try:
            yield
        finally:
            for task in (watch, *tasks):
                task.cancel()
            await asyncio.gather(watch, *tasks, return_exceptions=True)

    async def _job(self, number: int, patience: timedelta) -> None:
        flow = self.flows[number % len(self.flows)]
        async with self.breaker.gate(flow, self.called_off, patience) as passes:
            (self.passed if passes else self.refused).append(number)
            self._came.set()
            if passes:
                await self.goes_on.wait()
                succeeds(self.breaker)

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                self._came.clear()
                await self._came.wait()


async def test_one_job_finds_out_whether_the_endpoint_is_back_and_the_others_follow() -> None:
    at = Installation()
    async with at.watching(jobs=3):
        assert at.breaker.obstacle() is not None
        await at.until(lambda: bool(at.passed))
        assert at.passed == [0]
        assert not lets_call(at.breaker)

        at.goes_on.set()
        await at.until(lambda: len(at.passed) == 3)

    assert at.passed == [0, 1, 2]
    assert lets_call(at.breaker)


async def test_probe_that_is_silent_holds_up_no_other_probe() -> None:
    at = Installation()
    async with at.watching(jobs=2):
        await at.until(lambda: len(at.passed) == 2)

        assert not lets_call(at.breaker)


async def test_probes_take_turns_among_the_flows() -> None:
    at = Installation()
    at.flows = ["sick", "sick", "well"]
    async with at.watching(jobs=6):
        await at.until(lambda: len(at.passed) == 2)

    assert at.passed == [0, 2]


async def test_calls_that_fail_late_do_not_put_off_the_next_probe() -> None:
    at = Installation()
    async with at.watching(jobs=1):
        failing = asyncio.create_task(_fails_again_and_again(at.breaker))
        await at.until(lambda: bool(at.passed))
        failing.cancel()


async def _fails_again_and_again(breaker: CircuitBreaker) -> None:
    while True:
        breaker.not_answered(REFUSED)
        await asyncio.sleep(0.05)


async def test_probe_without_an_answer_does_not_call_again() -> None:
    at = Installation()
    async with at.watching():
        await until(lambda: at.breaker.obstacle() is None)
        async with at.breaker.gate("flow", at.called_off, timedelta()):
            fails(at.breaker, BUSY)
            assert not lets_call(at.breaker)


async def test_next_job_is_a_probe_where_none_waits() -> None:
    at = Installation()
    async with at.watching():
        await until(lambda: at.breaker.obstacle() is None)
        async with at.breaker.gate("flow", at.called_off, timedelta()) as passes:
            assert passes
            assert lets_call(at.breaker)
            assert at.breaker.obstacle() is not None


async def test_nobody_passes_while_nothing_answers_at_all() -> None:
    at = Installation()
    at.answers = False
    async with at.watching(jobs=2, patience=timedelta(seconds=1.5)):
        await at.until(lambda: len(at.refused) == 2)

    assert not at.passed


async def test_those_who_wait_can_be_sent_away() -> None:
    at = Installation()
    at.answers = False
    async with at.watching(jobs=2):
        await asyncio.sleep(0)
        at.breaker.end_waits()
        await at.until(lambda: len(at.refused) == 2)


async def test_those_who_have_nothing_to_wait_for_leave_at_once() -> None:
    at = Installation()
    at.answers = False
    async with at.watching(jobs=2):
        await asyncio.sleep(0)
        at.called_off.set_result(None)
        await at.until(lambda: len(at.refused) == 2)
