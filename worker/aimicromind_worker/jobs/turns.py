"""Give the jobs of this worker their turns: first in their chat, over all workers, then a slot.

`core/chats/turns.py` decides whose turn it is in a chat. Invariants:

- A job that waits for its chat holds no slot. If one is free, the worker takes one more job.
- At most `MOST_WAITING` jobs wait here for busy chats. Others wait on the broker.
- A job waits in this worker for a limited time, for its chat and for a slot together: the broker
  closes the channel of all jobs if one of them stays unacknowledged for too long.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Final, Never

from aimicromind_worker.core.chats.actions import AskLock, WaitingJob
from aimicromind_worker.core.chats.turns import ChatTurns
from aimicromind_worker.jobs.chat_driver import ChatDriver, TakeRequest
from aimicromind_worker.jobs.ports import Chats
from aimicromind_worker.jobs.registry import HeldChat, HeldJob

MOST_WAITING: Final = 1_000
"""Jobs that wait for busy chats in one worker."""
_BUSY_S: Final = 1.0
_BUSY_CHATS: Final = 10_000

WhileWaiting = Callable[[], AbstractAsyncContextManager[None]]


class _Place:
    """A job that wants its turn in its chat, or has it.

    Attributes:
        granted: Done once it is the job's turn.
        is_busy: Done once the job is known to wait for others.
        left: Done once the job has left.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.granted: asyncio.Future[None] = loop.create_future()
        self.is_busy: asyncio.Future[None] = loop.create_future()
        self.left: asyncio.Future[None] = loop.create_future()


class Turns:
    """The turns of one session. Make and use it in the event loop.

    Attributes:
        waiting: How many jobs wait here for busy chats.
    """

    def __init__(
        self,
        chats: Chats,
        is_behind: Callable[[str], bool],
        slots: int,
        patience: timedelta,
        take_one_more: WhileWaiting = nullcontext,
        take_request: TakeRequest = lambda *_: None,
    ) -> None:
        """Begin with no jobs.

        Args:
            chats: The locks and mailboxes of the chats.
            is_behind: Tells whether a job has ended, or waits after a failure of its own.
            slots: The most jobs that run at a time.
            patience: The longest time from a job's delivery to its turn.
            take_one_more: A context during which the worker takes one more job.
            take_request: A callback for the requests of late followers.
        """
        self.waiting = 0
        self._worker = chats.worker
        self._protocol = ChatTurns(chats.worker, is_behind, self._was_busy)
        self._driver = ChatDriver(chats, self._protocol, self._grant, self._note_busy, take_request)
        self._slots = slots
        self._free_slots = asyncio.Semaphore(slots)
        self._take_one_more = take_one_more
        self._patience = patience
        self._places: dict[tuple[str, str], _Place] = {}
        # By chat: the job for which the lock was asked for first.
        self._asking: dict[str, _Place] = {}
        self._no_waits: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended_at: OrderedDict[str, float] = OrderedDict()
        self._present = 0

    async def run(self) -> Never:
        """Wait until the chats can no longer be reached.

        Raises:
            ConnectionError: The connection to the broker is lost.
        """
        await self._driver.run()

    def take_message(self, body: bytes) -> None:
        """Take a message that another worker sent to this one."""
        self._driver.take_message(body)

    def end_waits(self) -> None:
        """End all waits; the waiting jobs do not get their turn."""
        if not self._no_waits.done():
            self._no_waits.set_result(None)

    def left_for(self, job: HeldJob) -> timedelta:
        """Return how much longer a job may wait in this worker."""
        return job.left_of(self._patience)

    def over(self, job_id: str, chat_id: str) -> None:
        """Take in that a job of any worker has ended, or waits after a failure of its own."""
        now = self._ended_at[chat_id] = monotonic()
        self._ended_at.move_to_end(chat_id)
        if len(self._ended_at) > _BUSY_CHATS:
            self._ended_at.popitem(last=False)
        self._driver.do(chat_id, self._protocol.over(job_id, now))

    @asynccontextmanager
    async def in_chat(self, job: HeldJob) -> AsyncIterator[HeldChat | None]:
        """Hold the turn of a job in its chat while the body runs.

        A second copy of a job waits until the first one has left.

        Yields:
            The chat; None if the job was cancelled, or must wait on the broker: too many jobs wait
            here, or it waited too long.
        """
        key = (job.ticket.chat_id, job.ticket.job_id)
        self._present += 1
        try:
            while (other := self._places.get(key)) is not None:
                if not await self._comes(other.left, job):
                    yield None
                    return
            async with self._in_line(job, key) as chat:
                yield chat
        finally:
            self._present -= 1

    @asynccontextmanager
    async def _in_line(self, job: HeldJob, key: tuple[str, str]) -> AsyncIterator[HeldChat | None]:
        chat_id, job_id = key
        place = self._places[key] = _Place()
        try:
            came = self._protocol.came(chat_id, self._waiting_job(job), monotonic())
            if any(isinstance(action, AskLock) for action in came):
                self._asking[chat_id] = place
            else:
                place.is_busy.set_result(None)
            self._driver.do(chat_id, came)
            await _first_of(place.granted, place.is_busy, job.cancelled, self._no_waits)
            has_come = await self._comes(place.granted, job)
            yield self._driver.held.get(chat_id) if has_come else None
        finally:
            del self._places[key]
            if self._asking.get(chat_id) is place:
                del self._asking[chat_id]
            place.left.set_result(None)
            self._driver.do(chat_id, self._protocol.left(chat_id, job_id, monotonic()))

    @asynccontextmanager
    async def slot(self, job: HeldJob) -> AsyncIterator[bool]:
        """Hold a slot while the body runs.

        Yields:
            Whether it is held; if not, the job was cancelled or waited too long, or all waits have
            ended.
        """
        if not await self._take_slot(job):
            yield False
            return
        try:
            yield True
        finally:
            self._free_slots.release()

    async def _take_slot(self, job: HeldJob) -> bool:
        if not self._free_slots.locked():
            return await self._free_slots.acquire()
        taking = asyncio.ensure_future(self._free_slots.acquire())
        try:
            await self._wait(taking, job)
        except asyncio.CancelledError:
            if not taking.cancel():
                self._free_slots.release()
            raise
        return not taking.cancel()

    async def _comes(self, end: asyncio.Future[None], job: HeldJob) -> bool:
        """Wait for a future, and return whether it is done; if not, the job must not wait on."""
        ends = (end, job.cancelled, self._no_waits)
        if any(it.done() for it in ends) or self.waiting >= MOST_WAITING:
            return end.done()
        self.waiting += 1
        try:
            # One more job is of use only while a slot is free for it.
            is_free = self._present - self.waiting < self._slots
            async with self._take_one_more() if is_free else nullcontext():
                await self._wait(end, job)
        finally:
            self.waiting -= 1
        return end.done()

    async def _wait(self, end: asyncio.Future[Any], job: HeldJob) -> None:
        left_s = self.left_for(job).total_seconds()
        await _first_of(end, job.cancelled, self._no_waits, timeout_s=left_s)

    def _waiting_job(self, job: HeldJob) -> WaitingJob:
        ticket = job.ticket
        submitted = ticket.facts.submitted_at or datetime.now(UTC)
        after = ticket.job.after or ""
        return WaitingJob(ticket.job_id, self._worker, submitted.timestamp(), monotonic(), after)

    def _grant(self, chat_id: str, job_id: str) -> None:
        place = self._places.get((chat_id, job_id))
        if place is not None and not place.granted.done():
            place.granted.set_result(None)

    def _note_busy(self, chat_id: str) -> None:
        place = self._asking.get(chat_id)
        if place is not None and not place.is_busy.done():
            place.is_busy.set_result(None)

    def _was_busy(self, chat_id: str) -> bool:
        return self._ended_at.get(chat_id, -_BUSY_S) > monotonic() - _BUSY_S


async def _first_of(*ends: asyncio.Future[Any], timeout_s: float | None = None) -> None:
    """Wait until one of several futures is done, or the time is over."""
    if not any(end.done() for end in ends):
        await asyncio.wait(ends, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
