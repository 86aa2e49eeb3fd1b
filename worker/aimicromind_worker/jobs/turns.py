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

Meanwhile = Callable[[], AbstractAsyncContextManager[None]]


@dataclass(slots=True)
class _Line:
    held: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class _Lines:
    """Who holds each key and who waits for it; a key that nobody uses takes no memory."""

    def __init__(self, holders: int, room: int) -> None:
        """Begin with no keys.

        Args:
            holders: How many may hold a key at a time.
            room: How many may wait, over all keys.
        """
        self._holders = holders
        self._room = room
        self._lines: dict[str, _Line] = {}
        self.waiters = 0

    @asynccontextmanager
    async def turn(
        self, key: str, patience: timedelta, called_off: asyncio.Future[None], meanwhile: Meanwhile
    ) -> AsyncIterator[bool]:
        """Hold the key for the body; False where the turn did not come.

        Args:
            key: Whose turn.
            patience: How long to wait for it.
            called_off: Done once there is nothing to wait for any more.
            meanwhile: What is entered as long as it is waited for.
        """
        if not await self._came(key, patience, called_off, meanwhile):
            yield False
            return
        try:
            yield True
        finally:
            self._pass_on(key)

    async def _came(
        self, key: str, patience: timedelta, called_off: asyncio.Future[None], meanwhile: Meanwhile
    ) -> bool:
        line = self._lines.setdefault(key, _Line())
        if line.held < self._holders:
            line.held += 1
            return True
        if self.waiters >= self._room:
            return False
        mine = asyncio.get_running_loop().create_future()
        line.waiting.append(mine)
        self.waiters += 1
        try:
            async with meanwhile():
                await asyncio.wait(
                    (mine, called_off),
                    timeout=patience.total_seconds(),
                    return_when=asyncio.FIRST_COMPLETED,
                )
        except BaseException:
            if _came(mine):
                self._pass_on(key)
            raise
        finally:
            self.waiters -= 1
        return _came(mine)

    def end_waits(self) -> None:
        """End all waits: no more turns are given."""
        for line in self._lines.values():
            for each in line.waiting:
                each.cancel()

    def _pass_on(self, key: str) -> None:
        line = self._lines[key]
        while line.waiting:
            following = line.waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        line.held -= 1
        if not line.held:
            del self._lines[key]


class Turns:
    """Gives turns to the jobs that this worker has."""

    def __init__(
        self, slots: int, stand_in: Meanwhile = nullcontext, patience: timedelta = _PATIENCE
    ) -> None:
        """Prepare.

        Args:
            slots: How many jobs may have their turn at a time.
            stand_in: Takes one job more for as long as it is entered.
            patience: How long a job waits for its chat, and then for a slot.
        """
        self._slots = slots
        self._stand_in = stand_in
        self._patience = patience
        self._came = 0
        self._of_chats = _Lines(1, max(1, slots // _WAITING_PART))
        self._of_slots = _Lines(slots, slots)

    @asynccontextmanager
    async def turn(self, chat_id: str, called_off: asyncio.Future[None]) -> AsyncIterator[bool]:
        """Hold a chat and a slot for the body; False where they did not come.

        Args:
            chat_id: Of the job.
            called_off: Done once there is nothing to wait for any more.
        """
        self._came += 1
        patience = self._patience
        try:
            async with self._of_chats.turn(chat_id, patience, called_off, self._waiting) as is_next:
                if not is_next:
                    yield False
                    return
                async with self._of_slots.turn(_SLOTS, patience, called_off, nullcontext) as came:
                    yield came
        finally:
            self._came -= 1

    @asynccontextmanager
    async def _waiting(self) -> AsyncIterator[None]:
        # Whoever stands in needs a slot: there is none if others that stood in have them all.
        if self._came - self._of_chats.waiters < self._slots:
            async with self._stand_in():
                yield
        else:
            yield

    def end_waits(self) -> None:
        """End all waits: no more turns are given."""
        self._of_chats.end_waits()
        self._of_slots.end_waits()


def _came(turn: asyncio.Future[None]) -> bool:
    """Return whether a turn came, and let it come no more."""
    return not turn.cancel() and not turn.cancelled()
