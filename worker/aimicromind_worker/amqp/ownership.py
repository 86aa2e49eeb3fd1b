"""Say whether the jobs we hold are still ours: nothing is published once that is in doubt.

The broker gives the jobs of a silent connection to others 2 to 3 heartbeat intervals after it
last heard from it. So we ask it something on the connection that the jobs come by, and each
answer is good for one interval, counted from when we asked.
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
    """The jobs are no longer ours; the broker gives them to whoever has a connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the jobs are no longer ours: {reason}")


class JobOwnership:
    """Stands open while the broker is known to keep our jobs for us. One for a session."""

    def __init__(self, interval: timedelta) -> None:
        """Stand open for one heartbeat interval; the connection was opened just now."""
        self._interval_s = interval.total_seconds()
        self._open_until = monotonic() + self._interval_s
        self._reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._on_shut: list[Callable[[], None]] = []

    def is_open(self) -> bool:
        """Return whether something may be published now."""
        # The monotonic clock also runs while this process is stopped.
        return monotonic() < self._open_until

    def when_shut(self, act: Callable[[], None]) -> None:
        """Register a callback for the moment when ownership is lost."""
        self._on_shut.append(act)

    def shut(self, reason: str) -> None:
        """Shut for good; only the first reason counts."""
        if self._reason.done():
            return
        self._open_until = float("-inf")
        self._reason.set_result(reason)
        for act in self._on_shut:
            act()

    async def until_shut(self) -> Never:
        """Wait until the jobs are lost.

        Raises:
            JobsLost: Always, in the end.
        """
        raise JobsLost(await asyncio.shield(self._reason))

    async def watch(self, consuming: AbstractConnection) -> None:
        """Ask the broker again and again until ownership is lost; shut it if no answer comes."""
        consuming.close_callbacks.add(lambda _, error: self.shut(_sentence(error)))
        try:
            async with asyncio.timeout(self._interval_s * _ANSWERED_WITHIN):
                channel = await consuming.channel(publisher_confirms=False)
            while not self._reason.done():
                await self._ask(channel)
                if self.is_open():
                    await asyncio.sleep(self._interval_s * _ASKED_EVERY)
        except TimeoutError:
            self.shut("the broker does not answer on the connection that they come by")
        except (AMQPError, RuntimeError) as error:
            # So aio_pika reports a call on what has closed meanwhile; ChannelInvalidStateError.
            self.shut(_sentence(error))

    async def _ask(self, channel: AbstractChannel) -> None:
        asked = monotonic()
        answer = asyncio.ensure_future(channel.set_qos(1))
        look_s = self._interval_s * _ANSWERED_WITHIN / _LOOKS
        try:
            # Look by look: time in which this whole process was stopped is one look.
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
