"""Wait for the `end` of a job: live, or from the stream of endings where it may be there already.

Invariants:

- The live events are joined first, and the endings are searched then. Thus an `end` is found in
  one of the two, whenever it was published.
- An `end` that was expected before its job was submitted is live, and the endings are not read;
  unless the connection was lost meanwhile.
- What is expected, and what came and nobody asked for, is bounded. The oldest is forgotten; then
  the endings are searched, as for a job of another client.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.errors import BrokerGone, ClientError, EndNotReadable
from aimicromind_schemas.client.live.live_events import PAUSE_S, LiveEvents
from aimicromind_schemas.client.past.endings_search import EndingsSearch
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.worker_events import EndEvent

_MOST_EXPECTED: Final = 10_000
_EXPECTED_WITHIN_S: Final = 5.0
_MOST_KEPT_BYTES: Final = 32 * 1024 * 1024


class _Awaited:
    """The `end` of one job.

    Attributes:
        wanted: Which event.
        came: Done with its message.
        missed: Done once live messages were missed.
        is_sure: Whether it cannot have come before it was awaited.
    """

    def __init__(self, wanted: Wanted, leave: Callable[["_Awaited"], None]) -> None:
        self.wanted = wanted
        self.came: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self.missed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.is_sure = False
        self._leave = leave

    def put(self, delivery: Delivery) -> None:
        if not self.came.done() and self.wanted.event(delivery) is not None:
            self.came.set_result(delivery)
            self._leave(self)

    def miss(self) -> None:
        self.is_sure = False
        if not self.missed.done():
            self.missed.set_result(None)


class Results:
    """The ends of jobs. Any number of tasks may ask at once."""

    def __init__(self, live: LiveEvents, endings: EndingsSearch) -> None:
        self._live = live
        self._endings = endings
        self._expected: OrderedDict[str, _Awaited] = OrderedDict()
        self._kept_bytes = 0

    async def expect(self, job_id: str, chat_id: str) -> None:
        """Keep the `end` of a job that is not submitted yet; nothing where that is impossible."""
        if job_id in self._expected:
            return
        awaited = _Awaited(Wanted.ends(chat_id, job_id), self._leave)
        # The job is submitted all the same, and its `end` searched.
        with suppress(ClientError, TimeoutError, ValueError):
            async with asyncio.timeout(_EXPECTED_WITHIN_S):
                await self._live.join(awaited)
            awaited.is_sure = not awaited.missed.done()
            self._keep(job_id, awaited)

    def forget(self, job_id: str) -> None:
        """Keep no `end` of a job."""
        if (awaited := self._taken(job_id)) is not None:
            self._live.leave(awaited)

    async def end_of(
        self, job_id: str, chat_id: str | None, since: datetime | None = None
    ) -> EndEvent:
        """Wait for the `end` of a job.

        Args:
            job_id: The job.
            chat_id: Its chat; None: unknown.
            since: When it began; None: unknown.

        Raises:
            EndNotReadable: It has a shape that this version does not know.
            NothingToListenTo, BrokerUnreachable, BrokerRefused: See `LiveEvents.join`.
        """
        # While somebody waits for it, it must not be forgotten.
        expected = self._taken(job_id)
        awaited = expected or _Awaited(Wanted.ends(chat_id, job_id), self._live.leave)
        try:
            if expected is None:
                await self._live.join(awaited)
            event = (await self._either(awaited, job_id, since)).event()
        finally:
            if expected is None:
                self._live.leave(awaited)
            else:
                self._keep(job_id, awaited)
        if not isinstance(event, EndEvent):
            raise EndNotReadable(job_id)
        return event

    async def _either(self, awaited: _Awaited, job_id: str, since: datetime | None) -> Delivery:
        """Return the message of an `end`, live or found."""
        while not awaited.came.done():
            if awaited.missed.done():
                await self._live.restored(awaited)
                awaited.missed = asyncio.get_running_loop().create_future()
            if awaited.is_sure:
                await _first(awaited.came, awaited.missed)
                continue
            searching = asyncio.create_task(self._endings.find(job_id, since))
            try:
                await _first(awaited.came, awaited.missed, searching)
                if searching.done() and not awaited.missed.done():
                    if (found := searching.result()) is not None:
                        awaited.put(found)
                    awaited.is_sure = True
            except BrokerGone:
                await asyncio.sleep(PAUSE_S)
            finally:
                searching.cancel()
        return awaited.came.result()

    def _leave(self, awaited: _Awaited) -> None:
        self._live.leave(awaited)
        if self._expected.get(awaited.wanted.job_id or "") is awaited:
            self._kept_bytes += _bytes_of(awaited)
            self._bound()

    def _keep(self, job_id: str, awaited: _Awaited) -> None:
        self._expected[job_id] = awaited
        self._kept_bytes += _bytes_of(awaited)
        self._bound()

    def _taken(self, job_id: str) -> _Awaited | None:
        awaited = self._expected.pop(job_id, None)
        if awaited is not None:
            self._kept_bytes -= _bytes_of(awaited)
        return awaited

    def _bound(self) -> None:
        while len(self._expected) > _MOST_EXPECTED or self._kept_bytes > _MOST_KEPT_BYTES:
            self.forget(next(iter(self._expected)))


def _bytes_of(awaited: _Awaited) -> int:
    return awaited.came.result().size_bytes if awaited.came.done() else 0


async def _first(*waiting: asyncio.Future[Any]) -> None:
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
