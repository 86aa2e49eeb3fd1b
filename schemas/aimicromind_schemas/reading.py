"""Apply the rule for consumers to events in the order of their delivery, without I/O.

The highest `attempt` of a job wins, the first `end` of a job ends it, a repeat changes nothing.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.vocabulary import TERMINAL

_JOBS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a job that were not delivered, and will not be.

    They were published before the reader began, nacked by its queue, or are no longer in the event
    log. The `end` of the job still has the whole text.
    """

    job_id: str
    """The job."""

    chat_id: str
    """Its conversation."""

    attempt: int
    """The attempt that has the gap."""

    missing: range
    """`seq` of the missing events."""


@dataclass(frozen=True, slots=True)
class Position:
    """The last event of a job that was read."""

    attempt: int
    """Attempt of the event, from 1."""

    seq: int
    """Place of the event in its attempt, from 0."""


class Reader:
    """Applies the rule to any number of jobs. Call `take` for each event, in order of delivery."""

    def __init__(self, jobs_kept: int = _JOBS_KEPT) -> None:
        """Begin without any event read.

        Args:
            jobs_kept: Number of jobs whose positions are remembered, the latest ones.
        """
        self._jobs_kept = jobs_kept
        self._read: OrderedDict[str, Position | None] = OrderedDict()

    def resume(self, job_id: str, after: Position) -> None:
        """Treat a job's events up to this position as read."""
        self._keep(job_id, after)

    def ended(self, job_id: str) -> bool:
        """Return whether the `end` of a job was read."""
        return job_id in self._read and self._read[job_id] is None

    def seen(self, job_id: str) -> bool:
        """Return whether any event of a job was read."""
        return job_id in self._read

    def knows(self, event: Event) -> bool:
        """Return whether `take` would return nothing for an event."""
        if self.ended(event.job_id):
            return True
        last = self._read.get(event.job_id)
        if last is None or event.event in TERMINAL:
            return False
        return (event.attempt, event.seq) <= (last.attempt, last.seq)

    def take(self, event: Event) -> list[Event | Gap]:
        """Read an event, and return it, with the gap before it if there is one.

        Returns:
            Nothing for a repeat, for an attempt older than one already read, and after the `end`.
        """
        if self.knows(event):
            return []
        last = self._read.get(event.job_id)
        ends = event.event in TERMINAL
        self._keep(event.job_id, None if ends else Position(event.attempt, event.seq))
        missing = _missing(event, last)
        if not missing:
            return [event]
        return [Gap(event.job_id, event.chat_id, event.attempt, missing), event]

    def _keep(self, job_id: str, position: Position | None) -> None:
        self._read[job_id] = position
        self._read.move_to_end(job_id)
        if len(self._read) > self._jobs_kept:
            self._read.popitem(last=False)


def _missing(event: Event, last: Position | None) -> range:
    if last is None or event.attempt > last.attempt:
        return range(event.seq)
    if event.attempt < last.attempt:
        # An `end` of a worker that did not know the newer attempt; it still ends the job.
        return range(0)
    return range(last.seq + 1, event.seq)
