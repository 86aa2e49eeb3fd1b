"""Stop calling an endpoint that is down for everybody, and find out when it is back.

Closed: calls are made. Open: none is begun, and no jobs are taken. Once the endpoint answers
anything at all, jobs are taken one at a time until a call of theirs decides.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from time import monotonic
from typing import Never, Protocol

import structlog

from aimicromind_worker.core.errors import (
    CallFailed,
    EndpointDown,
    EndpointUnavailable,
    HeadersOverdue,
    TlsRefused,
)

log = structlog.get_logger()

# In a row, over all jobs: calls that never reached the endpoint, and all without an answer.
_UNREACHED_IN_A_ROW = 2
_UNANSWERED_IN_A_ROW = 5
_NO_ANSWER = (EndpointUnavailable, HeadersOverdue, TlsRefused)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 5.0


class Intake(Protocol):
    """Where jobs come from."""

    async def pause(self) -> None:
        """Take no more jobs; those that came stay."""

    async def resume(self) -> None:
        """Take jobs again."""

    def one_at_a_time(self) -> AbstractAsyncContextManager[None]:
        """Take one job at a time while the body lasts; for a paused intake."""


class Asking:
    """One call, from before it is made."""

    def __init__(self, breaker: "Breaker") -> None:
        self._breaker = breaker
        self._told = False

    def answered(self) -> None:
        """Note that the endpoint answers, whatever follows."""
        if not self._told:
            self._told = True
            self._breaker.answered()

    def failed(self, failure: CallFailed) -> None:
        """Note a failure; once there was an answer, it says nothing of the endpoint."""
        if isinstance(failure, _NO_ANSWER):
            if not self._told:
                self._told = True
                self._breaker.not_answered(failure)
        elif failure.http_status is not None:
            self.answered()


class Breaker:
    """One for the process; use it from the event loop."""

    def __init__(self) -> None:
        self._unreached = self._unanswered = 0
        self._reason: str | None = None
        # While open: one call may be made, one is under way.
        self._may_probe = self._probing = False
        self._opened, self._decided = asyncio.Event(), asyncio.Event()

    def obstacle(self) -> str | None:
        """Say why no jobs are taken; None if they are."""
        probes = self._may_probe or self._probing
        return None if self._reason is None or probes else self._reason

    @property
    def lets_call(self) -> bool:
        """Whether a call may be begun now."""
        return self._reason is None or self._may_probe

    @contextmanager
    def asking(self) -> Iterator[Asking]:
        """Make a call in the body.

        Raises:
            EndpointDown: It must not be made.
        """
        if not self.lets_call:
            raise EndpointDown
        is_probe, self._may_probe = self._may_probe, False
        self._probing = self._probing or is_probe
        asking = Asking(self)
        try:
            yield asking
        except CallFailed as failure:
            asking.failed(failure)
            raise
        finally:
            if is_probe and self._probing:
                # It said nothing: the next job may.
                self._probing, self._may_probe = False, True

    def answered(self) -> None:
        """Close: the endpoint answers. For `Asking`."""
        self._unreached = self._unanswered = 0
        if self._reason is not None:
            self._reason = None
            self._decide()

    def not_answered(self, failure: CallFailed) -> None:
        """Count a call without an answer, and open if there are too many. For `Asking`."""
        self._unanswered += 1
        self._unreached += not failure.request_sent
        if self._reason is not None:
            self._decide()
        elif self._unreached >= _UNREACHED_IN_A_ROW or self._unanswered >= _UNANSWERED_IN_A_ROW:
            self._reason = str(failure)
            self._opened.set()

    def _decide(self) -> None:
        self._may_probe = self._probing = False
        self._decided.set()

    async def watch(self, intake: Intake, answers: Callable[[], Awaitable[bool]]) -> Never:
        """Pause the intake while the endpoint is down, and find out when it is back.

        Args:
            intake: Of all jobs.
            answers: Asks the endpoint for anything, whether it answers at all.

        Raises:
            ConnectionError: The broker is gone.
        """
        while True:
            await self._opened.wait()
            log.warning("endpoint.down", reason=self._reason)
            began = monotonic()
            await intake.pause()
            await self._until_back(intake, answers)
            self._opened.clear()
            await intake.resume()
            log.info("endpoint.back", after_s=round(monotonic() - began, 3))

    async def _until_back(self, intake: Intake, answers: Callable[[], Awaitable[bool]]) -> None:
        pause_s = _FIRST_PAUSE_S
        while self._reason is not None:
            self._decided.clear()
            # A call that was under way may still be answered.
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s * random.uniform(0.5, 1)):  # noqa: S311 - spreads probes
                    await self._decided.wait()
                    continue
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            if await answers() and self._reason is not None:
                self._may_probe = True
                async with intake.one_at_a_time():
                    await self._decided.wait()
