"""The messages of a channel in confirm mode that the broker has not answered for."""

import asyncio
from collections import OrderedDict
from typing import Final

_CONFIRMED_WITHIN_S: Final = 60.0


class Unconfirmed:
    """Tags of messages, counted up as they are published. Its `take` is the channel's `on_ack`."""

    def __init__(self) -> None:
        self._tags: OrderedDict[int, None] = OrderedDict()
        self._published = 0
        self._news = asyncio.Event()

    def add(self) -> None:
        """Note that a message was published."""
        self._published += 1
        self._tags[self._published] = None

    def take(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - a callback
        """Take a confirm. Queues confirm in any order, thus one may come after a later one."""
        if multiple:
            while self._tags and next(iter(self._tags)) <= tag:
                self._tags.popitem(last=False)
        else:
            self._tags.pop(tag, None)
        self._news.set()

    async def until(self, left: int) -> None:
        """Wait until no more than so many are left.

        Raises:
            TimeoutError: They were not confirmed within 60 s.
        """
        async with asyncio.timeout(_CONFIRMED_WITHIN_S):
            while len(self._tags) > left:
                self._news.clear()
                await self._news.wait()
