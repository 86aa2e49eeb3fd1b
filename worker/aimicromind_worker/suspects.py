"""Jobs that came again after the loss of a worker: one of them may be what brought it down."""

from collections.abc import Iterator
from contextlib import contextmanager

from aimicromind_worker.attempt import Limits
from aimicromind_worker.core.admission import Ticket

_SECOND_CRASH = 2


class Suspects:
    """Keeps a suspect that could not survive another loss apart from all other suspects.

    The broker counts a loss for every job that the worker had. Healthy jobs, and suspects of
    one loss, can bear that; a job of the last chance shares its worker with no suspect.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._running = 0
        self._apart = False

    @contextmanager
    def admitted(self, ticket: Ticket) -> Iterator[bool]:
        """Admit a job for the body, unless it has to wait until others have left."""
        if not ticket.crashes:
            yield True
            return
        last_chance = self._is_last_chance(ticket)
        if self._apart or (last_chance and self._running):
            yield False
            return
        self._running += 1
        self._apart = last_chance
        try:
            yield True
        finally:
            self._running -= 1
            self._apart = False

    def _is_last_chance(self, ticket: Ticket) -> bool:
        calls_left = ticket.max_calls(self._limits.max_calls) - ticket.calls_before
        return ticket.crashes >= _SECOND_CRASH or calls_left <= 1
