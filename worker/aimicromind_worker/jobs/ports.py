"""Protocols for what `jobs/` needs of the broker: deliveries, the journal and chat locks."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from aimicromind_schemas import FailureKind
from aimicromind_schemas.journal.history import History, StoredEnd
from aimicromind_worker.core.chats.actions import LockAnswer
from aimicromind_worker.core.chats.messages import TakeMail
from aimicromind_worker.core.chats.return_address import ReturnAddress
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState


class Delivery(Protocol):
    """One delivery of a job. Exactly one of its coroutines settles it, once.

    Each coroutine raises `ConnectionError` if the connection to the broker is lost.
    """

    @property
    def body(self) -> bytes:
        """The message body."""

    @property
    def facts(self) -> MessageFacts:
        """The message's properties, headers and delivery count."""

    async def ack(self) -> None:
        """Acknowledge the delivery."""

    async def requeue(self, state: JobState, delay: timedelta = timedelta()) -> None:
        """Publish the job again with this state, at once or delayed; acknowledge the delivery."""

    async def dead_letter(
        self, kind: FailureKind, message: str, attempts: int, job_id: str | None = None
    ) -> None:
        """Publish the job as a dead letter and acknowledge the delivery.

        Args:
            kind: Why the job failed.
            message: The same as a sentence.
            attempts: How many attempts were begun.
            job_id: The dead letter's `message_id` if the job has none.
        """

    async def reject(self) -> None:
        """Reject the delivery: the broker dead-letters it."""

    async def requeue_unchanged(self) -> None:
        """Requeue the message unchanged, by `basic.reject`."""


class JobHistory(Protocol):
    """The pool's memory of jobs."""

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Return what is known of a job.

        Args:
            job_id: The job.
            since: The time of its submission, aware; None if unknown.
        """

    def recall(self, job_id: str) -> History | None:
        """Return what is known of a job by now, without asking; None if nothing is."""

    def is_behind(self, job_id: str) -> bool:
        """Return whether a job has ended, or waits after a failure of its own, as is known now."""

    async def look_up_unended(self, job_id: str, since: datetime | None) -> History:
        """Return the history of a job of which no `end` was published, whatever is recorded.

        Args:
            job_id: The job.
            since: See `look_up`.
        """

    async def end_of(self, job_id: str, ended_at: datetime | None) -> StoredEnd:
        """Return the `end` that was published of a job.

        Args:
            job_id: The job.
            ended_at: The time of its record, aware; None if unknown.
        """


class Chats(Protocol):
    """The chats as the broker has them: of each, a lock that is a mailbox, too.

    Each coroutine raises `ConnectionError` if the connection to the broker is lost.
    """

    @property
    def worker(self) -> str:
        """The queue that this worker is told by."""

    async def lock(
        self, chat_id: str, take_mail: TakeMail, on_loss: Callable[[], None]
    ) -> LockAnswer:
        """Ask for a chat's lock, once.

        Args:
            chat_id: The chat, which no other task of this process may hold or ask for.
            take_mail: A callback with each message to the holder, while the lock is held.
            on_loss: A callback for a lock that the broker takes away.
        """

    async def unlock(self, chat_id: str) -> None:
        """Release a lock. A message that comes at the same moment may be lost."""

    async def tell_holder(self, chat_id: str, message: bytes) -> bool:
        """Send a message to the holder of a chat, and return whether there is one."""

    async def tell_worker(self, worker: str, message: bytes) -> None:
        """Send a message to the queue of a worker, which may be gone."""


class Reports(Protocol):
    """What sends the status of this worker to those who asked."""

    def may_publish(self) -> bool:
        """Return whether an answer may be sent now, without a delay of the events."""

    def avoids(self, queue: str) -> bool:
        """Return whether nothing is sent to a queue for now: earlier answers did harm."""

    def publish_report(self, to: ReturnAddress, body: bytes) -> None:
        """Send one answer, once."""


class Snapshots(Protocol):
    """What sends the answers to late followers, in order with the events of all jobs."""

    @property
    def part_bytes(self) -> int:
        """About the most bytes of one part."""

    def may_publish(self) -> bool:
        """Return whether another part may be sent now, without a delay of the events."""

    def avoids(self, queue: str) -> bool:
        """Return whether nothing is sent to a queue for now: earlier answers did harm."""

    def publish(self, to: ReturnAddress, chat_id: str, body: bytes) -> None:
        """Send one part of an answer, once."""
