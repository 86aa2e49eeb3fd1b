"""Handles of jobs: short texts that say where in the event log the events of a job begin."""

import asyncio
import logging
from datetime import datetime
from typing import Final, Self

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.errors import ClientError
from aimicromind_schemas.client.streams.positions import handle_of
from aimicromind_schemas.handle import HandleUnreadable, time_in
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.messages.worker_events import EndEvent, StartEvent
from aimicromind_schemas.routing import Names

_log = logging.getLogger(__name__)

# A look-up takes some round trips, and serves all jobs of a partition for 5 s.
_WAITED_S: Final = 0.02
_MOST_LOOKUPS: Final = 100
_PAUSE_S: Final = 10.0


class Submitted(str):
    """The id of a job that was submitted: a string, with what helps to find its events later.

    Attributes:
        handle: Where its events begin in the event log; None where that is not known.
    """

    __slots__ = ("handle",)
    handle: str | None

    def __new__(cls, job_id: str, handle: str | None = None) -> Self:
        """Return the id with its handle."""
        submitted = super().__new__(cls, job_id)
        submitted.handle = handle
        return submitted


class Handles:
    """Looks up handles of jobs that are submitted next. It delays none by more than 20 ms."""

    def __init__(self, connection: ClientConnection, names: Names) -> None:
        """Prepare; nothing is sent yet.

        Args:
            connection: Where streams are read; it never publishes.
            names: Names of the installation.
        """
        self._connection = connection
        self._names = names
        self._lookups: set[asyncio.Task[str | None]] = set()
        self._not_before_s = 0.0
        # One channel at a time.
        self._lock = asyncio.Lock()

    async def before(self, chat_id: str) -> str | None:
        """Return a handle for a job that is submitted next to a chat; None if it is not known.

        A look-up that takes longer goes on, for later jobs.
        """
        is_paused = asyncio.get_running_loop().time() < self._not_before_s
        if is_paused or len(self._lookups) >= _MOST_LOOKUPS:
            return None
        lookup = asyncio.create_task(self._look_up(chat_id))
        self._lookups.add(lookup)
        lookup.add_done_callback(self._lookups.discard)
        await asyncio.wait((lookup,), timeout=_WAITED_S)
        return lookup.result() if lookup.done() and not lookup.cancelled() else None

    async def close(self) -> None:
        """End all look-ups."""
        for lookup in self._lookups:
            lookup.cancel()
        if self._lookups:
            await asyncio.wait(self._lookups)

    async def _look_up(self, chat_id: str) -> str | None:
        try:
            connection = await self._connection.connection()
            async with self._lock:
                return await handle_of(connection, self._names, chat_id)
        except (ClientError, TimeoutError):
            # The job is submitted all the same, and found by its time.
            self._not_before_s = asyncio.get_running_loop().time() + _PAUSE_S
            return None


def begin_of(handle: str) -> datetime | None:
    """Return when the job of a handle began; None, with a warning, for one that cannot be read."""
    try:
        return time_in(handle)
    except HandleUnreadable as error:
        _log.warning("%s", error)
        return None


def handle_in(event: Event) -> str | None:
    """Return the handle that a `start` or `end` has; None for others."""
    return event.data.handle if isinstance(event, StartEvent | EndEvent) else None
