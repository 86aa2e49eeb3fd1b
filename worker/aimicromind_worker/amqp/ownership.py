"""Decide whether this worker still owns its deliveries: without ownership, nothing is published.

The broker redelivers the jobs of a silent connection 2 to 3 heartbeat intervals after it last heard
from it. Invariants:

- The worker sends requests on the connection of the jobs, a quarter of an interval apart.
- Each answer proves ownership for one interval, counted from when the request was *sent*.
- Ownership thus ends at least one interval before the broker redelivers the jobs.
- Lost ownership is final for the session. The first reason is kept.
- The monotonic clock also runs while this process is stopped: a longer stop ends the ownership.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Never

from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError

_ASKED_EVERY = 0.25
_ANSWERED_WITHIN = 0.75
_LOOKS = 12


class JobsLost(ConnectionError):
    """This worker no longer owns its jobs; the broker redelivers them."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this worker no longer owns its jobs: {reason}")


class JobOwnership:
    """The ownership of a session's deliveries: open, and in the end shut for good."""

    def __init__(self, interval: timedelta) -> None:
        """Begin with ownership for one interval, since the connection was opened just now.

        Args:
            interval: The heartbeat interval of the connection of the jobs.
        """
        self._interval_s = interval.total_seconds()
        self._open_until = monotonic() + self._interval_s
        self._reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._on_shut: list[Callable[[], None]] = []

    def is_open(self) -> bool:
        """Return whether something may be published now."""
        return monotonic() < self._open_until

    def when_shut(self, act: Callable[[], None]) -> None:
        """Register a callback, which is called once when ownership is shut."""
        self._on_shut.append(act)

    def shut(self, reason: str) -> None:
        """End the ownership for good; only the first reason counts."""
        if self._reason.done():
            return
        self._open_until = float("-inf")
        self._reason.set_result(reason)
        for act in self._on_shut:
            act()

    async def until_shut(self) -> Never:
        """Wait until ownership is shut.

        Raises:
            JobsLost: Always, with the reason.
        """
        raise JobsLost(await asyncio.shield(self._reason))

    async def watch(self, consuming: AbstractConnection) -> None:
        """Send requests to the broker until ownership is shut; shut it if no answer comes.

        Args:
            consuming: The connection of the jobs.
        """
        consuming.close_callbacks.add(lambda _, error: self.shut(_sentence(error)))
        try:
            async with asyncio.timeout(self._interval_s * _ANSWERED_WITHIN):
                channel = await consuming.channel(publisher_confirms=False)
            while not self._reason.done():
                await self._ask(channel)
                if self.is_open():
                    await asyncio.sleep(self._interval_s * _ASKED_EVERY)
        except TimeoutError:
            self.shut("the broker does not answer on the connection of the jobs")
        except (AMQPError, RuntimeError) as error:
            # aio_pika raises RuntimeError for a call on a channel that has closed.
            self.shut(_sentence(error))

    async def _ask(self, channel: AbstractChannel) -> None:
        asked = monotonic()
        answer = asyncio.ensure_future(channel.set_qos(1))
        look_s = self._interval_s * _ANSWERED_WITHIN / _LOOKS
        try:
            # Short waits in a row: time in which this whole process was stopped counts as one wait.
            for _ in range(_LOOKS):
                await asyncio.wait(
                    (answer, self._reason), timeout=look_s, return_when=asyncio.FIRST_COMPLETED
                )
                if answer.done() or self._reason.done():
                    break
            else:
                raise TimeoutError
            if answer.cancelled():
                self.shut(_sentence(None))
            elif answer.done():
                answer.result()
            if not self._reason.done():
                self._open_until = asked + self._interval_s
        finally:
            answer.cancel()


def _sentence(error: BaseException | None) -> str:
    return str(error) or type(error).__name__ if error is not None else "the connection closed"
