"""Memory of the jobs that a client submitted: their chats, and when.

With it, a follower of such a job reads one chat, and the event log from the submission on.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from aimicromind_schemas.client.log_place import CLOCK_SLACK

_JOBS_KEPT: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Submitted:
    chat_id: str
    at: datetime


class SubmittedJobs:
    """Remembers the latest 10,000 jobs."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, _Submitted] = OrderedDict()

    def add(self, job_id: str, chat_id: str) -> None:
        """Remember a job that is submitted now."""
        self._jobs[job_id] = _Submitted(chat_id, datetime.now(UTC))
        if len(self._jobs) > _JOBS_KEPT:
            self._jobs.popitem(last=False)

    def chat_of(self, job_id: str | None) -> str | None:
        """Return the chat of a job; None where another client submitted it."""
        known = self._jobs.get(job_id or "")
        return None if known is None else known.chat_id

    def since(self, job_id: str | None) -> datetime | None:
        """Return a time before all events of a job, by any clock; None where it is unknown."""
        known = self._jobs.get(job_id or "")
        return None if known is None else known.at - CLOCK_SLACK
