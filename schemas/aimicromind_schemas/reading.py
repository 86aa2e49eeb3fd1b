"""The rule for consumers: events as they come → what to show.

The highest `attempt` of a job wins, the first `end` of a job ends it, a repeat changes nothing.
It does no I/O. One reader serves any number of jobs, whose events may be mixed.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.vocabulary import TERMINAL

_JOBS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class Gap:
    """Events of a job that did not come, and will not: what is shown of it is not whole.

    So is told what went by before one came, what a queue refused, and what the event log no
    longer had. The `end` of the job has its whole text all the same.
    """

    job_id: str
    """The job."""

    chat_id: str
    """Its conversation."""

    attempt: int
    """The attempt that has the gap."""

    missing: range
    """The `seq` of the events that are missing."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a job has been read: the last event that was taken."""

    attempt: int
    """Its attempt."""

    seq: int
    """Its place in the attempt."""


class Reader:
    """Applies the rule. Whoever reads calls `take` for each event in the order of arrival."""

    def __init__(self, jobs_kept: int = _JOBS_KEPT) -> None:
        """Begin with nothing read.

        Args:
            jobs_kept: Of how many jobs the position is remembered, the latest.
        """
        self._jobs_kept = jobs_kept
        self._read: OrderedDict[str, Position | None] = OrderedDict()

    def resume(self, job_id: str, after: Position) -> None:
        """Count a job's events as read, up to this one."""
        self._keep(job_id, after)

    def ended(self, job_id: str) -> bool:
        """Return whether the end of a job was taken."""
        return job_id in self._read and self._read[job_id] is None

    def seen(self, job_id: str) -> bool:
        """Return whether anything of a job was taken."""
        return job_id in self._read

    def knows(self, event: Event) -> bool:
        """Return whether `take` would give nothing for an event."""
        if self.ended(event.job_id):
            return True
        last = self._read.get(event.job_id)
        if last is None or event.event in TERMINAL:
            return False
        return (event.attempt, event.seq) <= (last.attempt, last.seq)

    def take(self, event: Event) -> list[Event | Gap]:
        """Return what to show for an event: nothing, itself, or a gap and then itself.

        Nothing: it is a repeat, of an attempt that a newer one replaced, or of a job that ended.
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
        # An end by one who did not know of the newer attempt; it ends the job all the same.
        return range(0)
    return range(last.seq + 1, event.seq)
