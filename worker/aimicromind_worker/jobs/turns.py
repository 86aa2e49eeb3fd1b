"""Order the jobs of each chat within one worker, and bound how many jobs run at a time.

Invariants:

- At most one job of a chat has its turn, and at most `slots` jobs in all.
- The jobs of a chat get their turns in the order of their deliveries.
- A job that waits for its chat holds no slot. If one is free, the worker takes one more job.
- The number of jobs that wait for chats is at most a quarter of the slots, but at least one is
  allowed. Others wait on the broker.
- A turn that is granted is either held or passed to the next job, also if the waiter is cancelled.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta

_PATIENCE = timedelta(seconds=5)
# At most `slots // _WAITING_PART` jobs wait for chats.
_WAITING_PART = 4
_SLOTS = "slots"

WhileWaiting = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(slots=True)
class _Semaphore:
    held: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class _Semaphores:
    """A fair semaphore for each key; an unused key takes no memory."""

    def __init__(self, holders: int, max_waiters: int) -> None:
        """Begin with no keys.

        Args:
            holders: The most holders of one key at a time.
            max_waiters: The most waiters, over all keys.
        """
        self._holders = holders
        self._max_waiters = max_waiters
        self._by_key: dict[str, _Semaphore] = {}
        self.waiters = 0

    @asynccontextmanager
    async def turn(
        self,
        key: str,
        patience: timedelta,
        cancelled: asyncio.Future[None],
        while_waiting: WhileWaiting,
    ) -> AsyncIterator[bool]:
        """Hold a key while the body runs.

        Args:
            key: The key to hold.
            patience: The longest wait.
            cancelled: A future that ends the wait once it is done.
            while_waiting: A context that is entered during the wait.

        Yields:
            Whether the key is held.
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
        semaphore = self._by_key.setdefault(key, _Semaphore())
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
        """End all waits; the waiters do not get their turn."""
        for semaphore in self._by_key.values():
            for each in semaphore.waiting:
                each.cancel()

    def _release(self, key: str) -> None:
        semaphore = self._by_key[key]
        while semaphore.waiting:
            following = semaphore.waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        semaphore.held -= 1
        if not semaphore.held:
            del self._by_key[key]


class Turns:
    """Turns for the jobs that this worker has: first the chat's, then a slot."""

    def __init__(
        self, slots: int, take_one_more: WhileWaiting = nullcontext, patience: timedelta = _PATIENCE
    ) -> None:
        """Begin with no jobs.

        Args:
            slots: The most jobs that have their turn at a time.
            take_one_more: A context during which the worker takes one more job.
            patience: The longest wait for the chat, and again for a slot.
        """
        self._slots = slots
        self._take_one_more = take_one_more
        self._patience = patience
        self._present = 0
        self._of_chats = _Semaphores(1, max(1, slots // _WAITING_PART))
        self._of_slots = _Semaphores(slots, slots)

    @asynccontextmanager
    async def turn(self, chat_id: str, cancelled: asyncio.Future[None]) -> AsyncIterator[bool]:
        """Hold a chat and a slot while the body runs.

        Args:
            chat_id: The job's chat.
            cancelled: A future that ends the wait once it is done.

        Yields:
            Whether both are held.
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
        # One more job is of use only while a slot is free for it.
        if self._present - self._of_chats.waiters < self._slots:
            async with self._take_one_more():
                yield
        else:
            yield

    def end_waits(self) -> None:
        """End all waits; the waiting jobs do not get their turn."""
        self._of_chats.end_waits()
        self._of_slots.end_waits()


def _granted(turn: asyncio.Future[None]) -> bool:
    """Return whether a turn was granted; if not, withdraw the request for it."""
    return not turn.cancel() and not turn.cancelled()
