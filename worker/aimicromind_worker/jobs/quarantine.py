"""Keep apart the jobs that may have ended the worker they were lost with.

A job is *suspect* once a worker was lost that had it. The broker counts a loss for every job of the
lost worker, also for jobs that only waited there. Invariants:

- Suspect jobs that were lost once may run together.
- A job that was lost at least twice shares its worker with no other suspect job.
- After such a loss the job first waits on the broker. The jobs that were lost with it come back at
  the same time, and one of them may end this worker at once.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from aimicromind_worker.core.job.admission import Ticket

_SECOND_CRASH = 2


class Quarantine:
    """The suspect jobs that run in this worker."""

    def __init__(self) -> None:
        self._running = 0
        self._apart = False

    @contextmanager
    def admitted(self, ticket: Ticket) -> Iterator[bool]:
        """Admit a job while the body runs.

        Yields:
            Whether the job may run now; if not, it must wait on the broker.
        """
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
