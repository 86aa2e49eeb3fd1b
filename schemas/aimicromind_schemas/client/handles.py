"""Handles of jobs: short texts that say where in the event log the events of a job begin."""

from typing import Final, Self

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.messages.worker_events import EndEvent, StartEvent
from aimicromind_schemas.routing import Names

_WITH_HANDLE: Final = (StartEvent, EndEvent)


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


async def handle_before(_connection: ClientConnection, _names: Names, _chat_id: str) -> str | None:
    """Return a handle for a job that is submitted next; None where the event log cannot tell."""
    return None


def handle_in(event: Event) -> str | None:
    """Return the handle that a `start` or `end` has; None for others."""
    if not isinstance(event, _WITH_HANDLE):
        return None
    handle = getattr(event.data, "handle", None)
    return handle if isinstance(handle, str) else None
