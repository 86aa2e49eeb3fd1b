"""Stop calling an endpoint that is down for everybody, and find out when it is back.

Closed: calls are made. Open: none is begun, and jobs wait where they are, so that no more are
taken. Once the endpoint answers anything at all, one of them may call; an answer closes.

Only what speaks for the server opens it. Calls that never reached it do so at once. Calls that a
gateway answered, or nobody, are a suspicion: one sick flow does that too, so the server is asked.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from time import monotonic
from typing import Never

import structlog

from aimicromind_worker.backoff import Backoff
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import EndpointDown

log = structlog.get_logger()

# In a row, over all jobs: calls that never reached the endpoint, and calls without an answer.
_UNREACHED_IN_A_ROW = 2
_UNANSWERED_IN_A_ROW = 5
_SILENT = "the endpoint does not answer"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 5.0


class ObservedCall:
    """One call, from before it is made."""

    def __init__(self, breaker: "CircuitBreaker") -> None:
        self._breaker = breaker
        self._reported = False

    def answered(self) -> None:
        """Record that the endpoint answers, whatever follows."""
        if not self._reported:
            self._reported = True
            self._breaker.answered()

    def failed(self, failure: CallFailed) -> None:
        """Record a failure; once there was an answer, it says nothing of the server."""
        if not failure.request_sent or failure.speaks_for_server:
            if not self._reported:
                self._reported = True
                self._breaker.not_answered(failure)
        elif failure.http_status is not None:
            self.answered()


class CircuitBreaker:
    """One for the process; use it from the event loop."""

    def __init__(self) -> None:
        self._unreached = self._unanswered = 0
        self._reason: str | None = None
        # While open: whether the next job may call, those that may, and those that wait.
        self._may_probe = False
        self._probing: set[asyncio.Task[object] | None] = set()
        self._waiting: deque[tuple[str, asyncio.Future[bool]]] = deque()
        self._probed = ""
        self._doubtful, self._closed = asyncio.Event(), asyncio.Event()

    def obstacle(self) -> str | None:
        """Return why no jobs are run; None if they are, or the next one would be."""
        return None if self._may_probe else self._reason

    @asynccontextmanager
    async def gate(
        self, flow: str, cancelled: asyncio.Future[None], patience: timedelta
    ) -> AsyncIterator[bool]:
        """Run a job in the body, from the task that enters it; False if it must not be.

        Args:
            flow: The job's.
            cancelled: Done once there is nothing to wait for any more.
            patience: How long to wait until calls are made again.
        """
        is_open = self._reason is not None
        if is_open and not self._may_probe and not await self._passes(flow, cancelled, patience):
            yield False
            return
        if self._reason is None:
            yield True
            return
        prober = asyncio.current_task()
        self._may_probe, self._probed = False, flow
        self._probing.add(prober)
        try:
            yield True
        finally:
            self._probing.discard(prober)

    async def _passes(
        self, flow: str, cancelled: asyncio.Future[None], patience: timedelta
    ) -> bool:
        mine: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((flow, mine))
        try:
            await asyncio.wait(
                (mine, cancelled),
                timeout=max(0.0, patience.total_seconds()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            return mine.done() and mine.result()
        finally:
            with suppress(ValueError):
                self._waiting.remove((flow, mine))

    def end_waits(self) -> None:
        """End all waits: nobody passes."""
        self._wake_all(passes=False)

    def _wake_all(self, *, passes: bool) -> None:
        while self._waiting:
            self._waiting.popleft()[1].set_result(passes)

    def _wake_a_probe(self) -> bool:
        """Wake the first that waits and is not of the flow that was probed last, if it can be."""
        others = (it for it in self._waiting if it[0] != self._probed)
        chosen = next(others, self._waiting[0] if self._waiting else None)
        if chosen is None:
            return False
        self._waiting.remove(chosen)
        self._probed = chosen[0]
        chosen[1].set_result(True)
        return True

    @contextmanager
    def asking(self) -> Iterator[ObservedCall]:
        """Make a call in the body.

        Raises:
            EndpointDown: It must not be made.
        """
        if self._reason is not None and asyncio.current_task() not in self._probing:
            raise EndpointDown
        call = ObservedCall(self)
        try:
            yield call
        except CallFailed as failure:
            call.failed(failure)
            raise

    def answered(self) -> None:
        """Close: the endpoint answers. For `ObservedCall`."""
        self._unreached = self._unanswered = 0
        if self._reason is not None:
            self._reason, self._may_probe = None, False
            self._closed.set()
            self._wake_all(passes=True)

    def not_answered(self, failure: CallFailed) -> None:
        """Count a call without an answer; too many open. For `ObservedCall`."""
        self._probing.discard(asyncio.current_task())
        if failure.request_sent:
            self._unanswered += 1
            if self._unanswered >= _UNANSWERED_IN_A_ROW:
                self._doubtful.set()
            return
        self._unreached += 1
        if self._unreached >= _UNREACHED_IN_A_ROW:
            self._open(failure.words)

    def _open(self, reason: str) -> None:
        if self._reason is None:
            self._reason = reason
            self._closed.clear()
            self._doubtful.set()

    async def watch(self, answers: Callable[[], Awaitable[bool]]) -> Never:
        """Find out whether an endpoint is down, and when it is back, for ever.

        Args:
            answers: Asks the server for anything, whether it answers at all.
        """
        while True:
            await self._doubtful.wait()
            if self._reason is None and not await answers():
                self._open(_SILENT)
            self._unanswered = 0
            if self._reason is not None:
                await self._until_back(answers)
            self._doubtful.clear()

    async def _until_back(self, answers: Callable[[], Awaitable[bool]]) -> None:
        log.warning("endpoint.down", reason=self._reason)
        began, backoff = monotonic(), Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while self._reason is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(backoff.pause()):
                    await self._closed.wait()
            # One more each time: a probe may be silent for long.
            if self._reason is not None and await answers() and self._reason is not None:
                self._may_probe = not self._wake_a_probe()
        log.info("endpoint.back", after_s=round(monotonic() - began, 3))
