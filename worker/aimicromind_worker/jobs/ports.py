"""What jobs need of the broker: deliveries, the pool's memory of jobs, chat locks."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Protocol

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.job.history import History
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState


class Delivery(Protocol):
    """One message of the jobs queue. It is settled once, by one of the coroutines."""

    @property
    def body(self) -> bytes:
        """The message body."""

    @property
    def facts(self) -> MessageFacts:
        """What the message says beside its body."""

    async def ack(self) -> None:
        """Acknowledge the delivery."""

    async def requeue(self, state: JobState, delay: timedelta = timedelta()) -> None:
        """Publish the job again with this state, at once or behind a delay; acknowledge this."""

    async def dead_letter(
        self, kind: FailureKind, message: str, attempts: int, job_id: str | None = None
    ) -> None:
        """Publish the job as a dead letter, under this id if it has none; acknowledge this."""

    async def reject(self) -> None:
        """Reject the delivery: the broker dead-letters it."""

    async def requeue_unchanged(self) -> None:
        """Requeue the job as it is."""


class JobHistory(Protocol):
    """The pool's memory of jobs."""

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Return what is known of a job that was put on the queue at that time."""

    async def end_of(self, job_id: str) -> bytes | None:
        """Return the end that a look-up has found, None if it is there no more."""


class HeldChat(Protocol):
    """A chat lock while it is held."""

    on_loss: Callable[[], None]


class Chats(Protocol):
    """The pool's rule of one job per chat at a time."""

    def hold(
        self, chat_id: str, patience: timedelta
    ) -> AbstractAsyncContextManager[HeldChat | None]:
        """Hold a chat's lock for the body; None where another worker has it."""
