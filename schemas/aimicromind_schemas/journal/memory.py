"""What a process knows of jobs from the journal that it reads.

Invariants:

- Milestones are taken in the order of the stream. One that was read before changes nothing.
- A job that is not known has said nothing since `complete_since`. Of a job from before that time,
  silence says nothing.
- Ended jobs are kept in a compact form, open ones whole. Both are bounded: beyond that, the oldest
  are forgotten, and `complete_since` moves on.
"""

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from aimicromind_schemas.journal.ended import Ended, EndedJobs
from aimicromind_schemas.journal.history import History, Milestone

MOST_OPEN: Final = 100_000
"""Jobs without an end that are kept: about 50 MB."""
_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


class _OpenJob(NamedTuple):
    history: History
    last: datetime


class JobMemory:
    """The jobs of one journal. Use it from one thread.

    Attributes:
        complete_since: All that was said since then is known; None: nothing is.
        newest: The time of the newest milestone; None before the first one.
    """

    def __init__(self, most_ended: int = 1_000_000, most_open: int = MOST_OPEN) -> None:
        """Begin with nothing.

        Args:
            most_ended: How many ended jobs are known at most, at least half of them for certain.
            most_open: How many open ones.
        """
        self.complete_since: datetime | None = None
        self.newest: datetime | None = None
        self._was_in_use = False
        self._forgotten_before = _EARLIEST
        self.ended = EndedJobs(most_ended)
        self._open: OrderedDict[str, _OpenJob] = OrderedDict()
        self._most_open = most_open

    @property
    def open(self) -> int:
        """How many jobs are known that have not ended."""
        return len(self._open)

    def take(self, milestone: Milestone) -> bool:
        """Take in the next milestone of any job.

        Returns:
            Whether the job is over with it, or delayed: another of its chat may begin.
        """
        job_id = milestone.job_id
        # A clock that is ahead says nothing of when workers were there.
        if milestone.time <= datetime.now(UTC):
            self.newest = max(self.newest or milestone.time, milestone.time)
        known = self._open.pop(job_id, None)
        if known is None and self.ended.get(job_id) is not None:
            return False
        history = (known.history if known else History()).after(milestone)
        if history.status is None:
            self._open[job_id] = _OpenJob(history, milestone.time)
            if len(self._open) > self._most_open:
                _, forgotten = self._open.popitem(last=False)
                self._forget_before(forgotten.last)
            return history.is_delayed
        ended = Ended(history.status, history.kind, history.last_attempt, milestone.time)
        self._forget_before(self.ended.add(job_id, ended))
        return True

    def history(self, job_id: str) -> History | None:
        """Return what is known of a job; None if nothing is."""
        known = self._open.get(job_id)
        if known is not None:
            return known.history
        ended = self.ended.get(job_id)
        if ended is None:
            return None
        return History(
            last_attempt=ended.attempt,
            status=ended.status,
            kind=ended.kind,
            ended_at=ended.time,
        )

    def note_complete(self, since: datetime, slack: timedelta) -> None:
        """Remember that what was said from then to now is known.

        Args:
            since: The time from which on all is known, aware.
            slack: By how much longer than the longest life of a job that reaches back.
        """
        self.complete_since = max(since, self._forgotten_before)
        # A job that returns now was lost with a worker that lived just before.
        self._was_in_use = self.newest is not None and datetime.now(UTC) - self.newest <= slack

    def covers(self, since: datetime, *, is_told: bool = True) -> bool:
        """Return whether a job that is not known has said nothing.

        Args:
            since: It has said nothing before this time.
            is_told: Whether that is the job's own time. If not, it is an older one, and it is
                enough that workers were there until just before the memory began: no job is held
                for longer than the memory reached back then.
        """
        if self.complete_since is None:
            return False
        return self.complete_since <= since or (not is_told and self._was_in_use)

    def clear(self) -> None:
        """Forget all: the journal is another one."""
        self.complete_since = self.newest = None
        self._was_in_use = False
        self._forgotten_before = _EARLIEST
        self.ended.clear()
        self._open.clear()

    def _forget_before(self, moment: datetime | None) -> None:
        if moment is None:
            return
        # Also while the journal is still read back, before anything counts as complete.
        self._forgotten_before = max(self._forgotten_before, min(moment, datetime.now(UTC)))
        if self.complete_since is not None:
            self.complete_since = max(self.complete_since, self._forgotten_before)
