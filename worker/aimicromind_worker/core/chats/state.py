"""What a worker knows of one chat: who waits for it, and whether this worker holds it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aimicromind_worker.core.chats.actions import WaitingJob

UNKNOWN_S: Final = 30.0
"""A job waits so long for one before it that nobody knows, once the chat is free."""
_UNKNOWN_IN_ALL_S: Final = 150.0
"""The same, from its arrival: others of the chat may come in between for ever."""


@dataclass(slots=True)
class ChatState:
    """A chat as this worker sees it.

    Attributes:
        here: Jobs that wait in this worker.
        elsewhere: Jobs that wait in others, as the holder knows, or who was named by it.
        holds: Whether this worker holds the lock.
        asks: Whether it has asked for the lock, and no answer has come.
        is_named: Whether a holder named it before it asked.
        settles: Whether it holds the lock and listens for older jobs.
        idle_since_s: When this worker last got the lock, or a job of the chat last ended here.
        running: The job that it runs.
        repeats: How often the question to the holder was repeated since the chat last moved.
        awaits: The jobs that a job waits for here although the chat is free.
        unheld_since_s: When a question to the holder came back, and the lock was not asked for.
        due_s: When something is to be done in any case.
    """

    here: dict[str, WaitingJob] = field(default_factory=dict)
    elsewhere: dict[str, WaitingJob] = field(default_factory=dict)
    holds: bool = False
    asks: bool = False
    is_named: bool = False
    settles: bool = False
    idle_since_s: float = 0.0
    running: str = ""
    repeats: int = 0
    awaits: set[str] = field(default_factory=set)
    unheld_since_s: float = float("-inf")
    due_s: float = float("inf")

    def unknown_until_s(
        self, known: Mapping[str, WaitingJob], is_behind: Callable[[str], bool]
    ) -> dict[str, float]:
        """Return until when each job waits for the one before it; infinity: until that has run.

        While the chat is busy, that one may be on the queue, or have run in another worker.
        """

        def until_s(job: WaitingJob) -> float:
            if job.after in known:
                return float("inf")
            since_s = max(job.came_s, self.idle_since_s)
            return min(since_s + UNKNOWN_S, job.came_s + _UNKNOWN_IN_ALL_S)

        waiting = (it for it in known.values() if it.after and not is_behind(it.after))
        return {job.job_id: until_s(job) for job in waiting}
