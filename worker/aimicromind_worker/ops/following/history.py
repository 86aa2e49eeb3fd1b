"""Tell earlier events from live ones, and show how much of the event log is read."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

from aimicromind_schemas import Event, Gap
from aimicromind_schemas.client.following import Followed
from aimicromind_worker.ops.following.views import View
from aimicromind_worker.ops.progress import progress

_LOOK_S = 0.1


async def told(items: Followed, view: View) -> AsyncGenerator[Event | Gap, None]:
    """Yield what a follower yields, and tell a view where earlier and live events begin."""
    history = _History(items, view)
    history.note()
    looking = asyncio.create_task(history.until_live())
    try:
        async for item in items:
            history.note()
            yield item
            history.count += 1
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


class _History:
    """Where a follower is.

    Attributes:
        count: The number of items that were shown.
    """

    def __init__(self, items: Followed, view: View) -> None:
        self.count = 0
        self._items = items
        self._view = view
        self._is_live = True

    def note(self) -> None:
        """Inform the view where earlier events, or live ones, begin here."""
        is_live = self._items.progress >= 1
        if is_live == self._is_live:
            return
        self._is_live = is_live
        if is_live:
            self._view.tell(f"live from here, after {self.count:,} earlier events")
        else:
            self._view.tell("earlier events")

    async def until_live(self) -> None:
        """Show how much is read, and tell of the live events before the first one comes."""
        if self._items.progress < 1:
            with progress("reading the event log", 100, beside_lines=True) as bar:
                while (share := self._items.progress) < 1:
                    bar.reach(int(share * 100))
                    await asyncio.sleep(_LOOK_S)
        self.note()
