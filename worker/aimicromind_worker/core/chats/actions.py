"""What `chat_turns` asks a worker to do, and the jobs that wait for their turn."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from heapq import nsmallest
from typing import Final

MOST_TOLD: Final = 50
"""Waiting jobs that one message names, the first of them."""


class LockAnswer(Enum):
    """What the broker answers to a request for a chat lock."""

    GRANTED = auto()
    HELD = auto()
    NO_ROOM = auto()


@dataclass(frozen=True, slots=True)
class WaitingJob:
    """A job that waits for its turn.

    Attributes:
        job_id: Its id.
        worker: Where it waits: the queue that its worker is told by.
        submitted_s: When it was submitted, in seconds since 1970; when it came, where not known.
        came_s: When it came to its worker, by the clock that all times here are of.
        after: The job before it in its chat; empty: none is named.
    """

    job_id: str
    worker: str
    submitted_s: float
    came_s: float
    after: str = ""


@dataclass(frozen=True, slots=True)
class AskLock:
    """Try to get the chat's lock; the answer goes to `locked`."""

    chat_id: str


@dataclass(frozen=True, slots=True)
class AskHolder:
    """Send the holder the jobs that wait here; returned, it says that nobody holds the chat."""

    chat_id: str
    jobs: tuple[WaitingJob, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """Run a job: its turn has come."""

    chat_id: str
    job_id: str


@dataclass(frozen=True, slots=True)
class NameNext:
    """Name a worker's job as the next, and who else waits; the lock was let go just before."""

    chat_id: str
    job: WaitingJob
    others: tuple[WaitingJob, ...]


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Answer a worker that asked too late: the chat's holder is another by now."""

    chat_id: str
    worker: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """Release the chat's lock."""

    chat_id: str


@dataclass(frozen=True, slots=True)
class NoteCopy:
    """Remember that a copy of the job that runs here waits in another worker."""

    chat_id: str
    job_id: str


Action = AskLock | AskHolder | Run | NoteCopy | NameNext | AskAgain | LetGo


def first_of(jobs: Iterable[WaitingJob]) -> tuple[WaitingJob, ...]:
    """Return the first jobs by time, at most `MOST_TOLD`."""
    return tuple(nsmallest(MOST_TOLD, jobs, key=by_time))


def by_time(job: WaitingJob) -> tuple[float, float, str]:
    """Return the place of a job among others that may run."""
    return (job.submitted_s, job.came_s, job.job_id)
