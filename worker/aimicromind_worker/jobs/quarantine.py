"""Keep suspect jobs apart: they came again after a worker was lost, and one may have ended it."""

from collections.abc import Iterator
from contextlib import contextmanager

from aimicromind_worker.core.job.admission import Ticket

_SECOND_CRASH = 2


class Quarantine:
    """Keeps a suspect job that was lost twice apart from all other suspect jobs.

    The broker counts a loss for every job that the worker had, also for one that only waited
    there. Jobs that were lost once at most may run together. A job that was lost twice shares its
    worker with no suspect job. When it has just been lost, it waits on the broker first: the others
    that were lost with it come at the same time, and one of them may end this worker at once.
    """

    def __init__(self) -> None:
        self._running = 0
        self._apart = False

    @contextmanager
    def admitted(self, ticket: Ticket) -> Iterator[bool]:
        """Admit a job for the body, unless it has to wait until others have left."""
        if not ticket.before.crashes:
            yield True
            return
        last_chance = ticket.before.crashes >= _SECOND_CRASH
        just_lost = last_chance and ticket.facts.failures_before > 0
        if self._apart or just_lost or (last_chance and self._running):
            yield False
            return
        self._running += 1
        self._apart = last_chance
        try:
            yield True
        finally:
            self._running -= 1
            self._apart = False
