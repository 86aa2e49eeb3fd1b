"""Stop calling an endpoint that is down for all flows, and find out when it is back.

- *Closed*: calls are made.
- *Open*: no call is begun. Jobs wait in the worker, which thus takes no more. The endpoint is
  pinged. Each ping that is answered lets one waiting job call, as a *probe*.
- A call that is answered closes the breaker.

Two calls in a row that never reached the endpoint open the breaker at once. Five in a row that a
gateway answered, or nobody, only raise a *suspicion*: one sick flow causes them, too. Then a ping
decides.
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

# Counted in a row over all jobs.
_UNREACHED_IN_A_ROW = 2
_UNANSWERED_IN_A_ROW = 5
_SILENT = "the endpoint does not answer"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 5.0


class ObservedCall:
    """One call, whose first sign of the endpoint is reported to the circuit breaker."""

    def __init__(self, breaker: "CircuitBreaker") -> None:
        self._breaker = breaker
        self._reported = False

    def answered(self) -> None:
        """Report that the endpoint answered; what follows in this call does not count."""
        if not self._reported:
            self._reported = True
            self._breaker.answered()

    def failed(self, failure: CallFailed) -> None:
        """Report a failure of the call, unless the endpoint answered it before."""
        if not failure.request_sent or failure.speaks_for_server:
            if not self._reported:
                self._reported = True
                self._breaker.not_answered(failure)
        elif failure.http_status is not None:
            self.answered()


class CircuitBreaker:
    """The circuit breaker of a process. Use it from the event loop."""

    def __init__(self) -> None:
        self._unreached = self._unanswered = 0
        self._reason: str | None = None
        # While open: whether the next job may probe, the tasks that probe, and the jobs that wait.
        self._may_probe = False
        self._probing: set[asyncio.Task[object] | None] = set()
        self._waiting: deque[tuple[str, asyncio.Future[bool]]] = deque()
        self._probed = ""
        self._doubtful, self._closed = asyncio.Event(), asyncio.Event()

    def obstacle(self) -> str | None:
        """Return why no jobs are run; None if they are, or if the next job would be a probe."""
        return None if self._may_probe else self._reason

    @asynccontextmanager
    async def gate(
        self, flow: str, cancelled: asyncio.Future[None], patience: timedelta
    ) -> AsyncIterator[bool]:
        """Wait until a job may run, then run it in the body, in the task that entered.

        Args:
            flow: The job's flow.
            cancelled: A future that ends the wait once it is done.
            patience: The longest wait until calls are made again.

        Yields:
            Whether the job may run.
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
        """End all waits; the waiting jobs may not run."""
        self._wake_all(passes=False)

    def _wake_all(self, *, passes: bool) -> None:
        while self._waiting:
            self._waiting.popleft()[1].set_result(passes)

    def _wake_a_probe(self) -> bool:
        """Wake one waiting job, if possible of another flow than the last probe's.

        Returns:
            Whether a job was woken.
        """
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
            EndpointDown: The breaker is open, and this task does not probe.
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
        """Close the breaker, because the endpoint answered. For `ObservedCall`."""
        self._unreached = self._unanswered = 0
        if self._reason is not None:
            self._reason, self._may_probe = None, False
            self._closed.set()
            self._wake_all(passes=True)

    def not_answered(self, failure: CallFailed) -> None:
        """Count a call without an answer; open, or ask for a ping. For `ObservedCall`."""
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
        """Find out whether an endpoint is down, and when it is back, until cancelled.

        Args:
            answers: A ping that returns whether the server answers at all.
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
            # Each answered ping adds one probe, because a probe may be silent for long.
            if self._reason is not None and await answers() and self._reason is not None:
                self._may_probe = not self._wake_a_probe()
        log.info("endpoint.back", after_s=round(monotonic() - began, 3))
