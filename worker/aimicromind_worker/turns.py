"""Turns within the process: one holder for each key, the others in the order in which they came."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta


class Turns:
    """Turns of any number of keys; a key that nobody uses takes no room."""

    def __init__(self, room: int) -> None:
        """Give turns.

        Args:
            room: How many may wait, over all keys.
        """
        self._room = room
        self._waiters = 0
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def turn(
        self, key: str, patience: timedelta, called_off: asyncio.Future[None]
    ) -> AsyncIterator[bool]:
        """Hold the key's turn for the body; False where it did not come.

        Args:
            key: Whose turn.
            patience: How long to wait for it.
            called_off: Done once there is nothing to wait for any more.
        """
        if not await self._came(key, patience, called_off):
            yield False
            return
        try:
            yield True
        finally:
            self._pass_on(key)

    async def _came(self, key: str, patience: timedelta, called_off: asyncio.Future[None]) -> bool:
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return True
        if self._waiters >= self._room:
            return False
        mine = asyncio.get_running_loop().create_future()
        waiting.append(mine)
        self._waiters += 1
        try:
            await asyncio.wait(
                (mine, called_off),
                timeout=patience.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
        except asyncio.CancelledError:
            if _came(mine):
                self._pass_on(key)
            raise
        finally:
            self._waiters -= 1
        return _came(mine)

    def send_away(self) -> None:
        """Tell all who wait that their turn does not come."""
        for waiting in self._waiting.values():
            for each in waiting:
                each.cancel()

    def _pass_on(self, key: str) -> None:
        waiting = self._waiting[key]
        while waiting:
            following = waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        del self._waiting[key]


def _came(turn: asyncio.Future[None]) -> bool:
    """Say whether a turn came, and let it come no more."""
    return not turn.cancel() and not turn.cancelled()
