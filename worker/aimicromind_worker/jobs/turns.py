"""Turns within the process: one job of a chat at a time, and in all as many as there are slots.

Those of a chat come in the order in which the broker gave them. A job that waits for its chat
holds no slot: another one is taken in its place.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

_PATIENCE = timedelta(seconds=5)
# A long backlog of one chat waits on the broker, but for this part of the slots, at least one.
_WAITING_PART = 4
_SLOTS = "slots"

WhileWaiting = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(slots=True)
class _Semaphore:
    held: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class _Semaphores:
    """Who holds each key and who waits for it; a key that nobody uses takes no memory."""

    def __init__(self, holders: int, max_waiters: int) -> None:
        """Begin with no keys.

        Args:
            holders: How many may hold a key at a time.
            max_waiters: How many may wait, over all keys.
        """
        self._holders = holders
        self._max_waiters = max_waiters
        self._of_keys: dict[str, _Semaphore] = {}
        self.waiters = 0

    @asynccontextmanager
    async def turn(
        self,
        key: str,
        patience: timedelta,
        cancelled: asyncio.Future[None],
        while_waiting: WhileWaiting,
    ) -> AsyncIterator[bool]:
        """Hold the key for the body; False where the turn did not come.

        Args:
            key: Whose turn.
            patience: How long to wait for it.
            cancelled: Done once there is nothing to wait for any more.
            while_waiting: What is entered as long as it is waited for.
        """
        if not await self._acquire(key, patience, cancelled, while_waiting):
            yield False
            return
        try:
            yield True
        finally:
            self._release(key)

    async def _acquire(
        self,
        key: str,
        patience: timedelta,
        cancelled: asyncio.Future[None],
        while_waiting: WhileWaiting,
    ) -> bool:
        semaphore = self._of_keys.setdefault(key, _Semaphore())
        if semaphore.held < self._holders:
            semaphore.held += 1
            return True
        if self.waiters >= self._max_waiters:
            return False
        mine = asyncio.get_running_loop().create_future()
        semaphore.waiting.append(mine)
        self.waiters += 1
        try:
            async with while_waiting():
                await asyncio.wait(
                    (mine, cancelled),
                    timeout=patience.total_seconds(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
        except BaseException:
            if _granted(mine):
                self._release(key)
            raise
        finally:
            self.waiters -= 1
        return _granted(mine)

    def end_waits(self) -> None:
        """End all waits: no more turns are given."""
        for semaphore in self._of_keys.values():
            for each in semaphore.waiting:
                each.cancel()

    def _release(self, key: str) -> None:
        semaphore = self._of_keys[key]
        while semaphore.waiting:
            following = semaphore.waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        semaphore.held -= 1
        if not semaphore.held:
            del self._of_keys[key]


class Turns:
    """Gives turns to the jobs that this worker has."""

    def __init__(
        self, slots: int, take_one_more: WhileWaiting = nullcontext, patience: timedelta = _PATIENCE
    ) -> None:
        """Prepare.

        Args:
            slots: How many jobs may have their turn at a time.
            take_one_more: Takes one job more for as long as it is entered.
            patience: How long a job waits for its chat, and then for a slot.
        """
        self._slots = slots
        self._take_one_more = take_one_more
        self._patience = patience
        self._present = 0
        self._of_chats = _Semaphores(1, max(1, slots // _WAITING_PART))
        self._of_slots = _Semaphores(slots, slots)

    @asynccontextmanager
    async def turn(self, chat_id: str, cancelled: asyncio.Future[None]) -> AsyncIterator[bool]:
        """Hold a chat and a slot for the body; False where they did not come.

        Args:
            chat_id: Of the job.
            cancelled: Done once there is nothing to wait for any more.
        """
        self._present += 1
        patience = self._patience
        try:
            async with self._of_chats.turn(chat_id, patience, cancelled, self._waiting) as is_next:
                if not is_next:
                    yield False
                    return
                async with self._of_slots.turn(_SLOTS, patience, cancelled, nullcontext) as granted:
                    yield granted
        finally:
            self._present -= 1

    @asynccontextmanager
    async def _waiting(self) -> AsyncIterator[None]:
        # Whoever stands in needs a slot: there is none if others that stood in have them all.
        if self._present - self._of_chats.waiters < self._slots:
            async with self._take_one_more():
                yield
        else:
            yield

    def end_waits(self) -> None:
        """End all waits: no more turns are given."""
        self._of_chats.end_waits()
        self._of_slots.end_waits()


def _granted(turn: asyncio.Future[None]) -> bool:
    """Return whether a turn came, and let it come no more."""
    return not turn.cancel() and not turn.cancelled()
