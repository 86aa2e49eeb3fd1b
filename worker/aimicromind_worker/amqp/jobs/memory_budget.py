"""Bound the bytes of jobs that a worker holds, and count the jobs requeued for that reason."""

from collections import OrderedDict
from hashlib import sha256

from aimicromind_schemas.client.transport.message_guard import LONGEST_BODY_BYTES, MessageGuard

_REMEMBERED = 10_000


class MemoryBudget:
    """The budget of one connection of jobs. Use it from the event loop only.

    A body counts as soon as its size is known, before any of it is kept.

    Attributes:
        held: The bytes of the bodies that are held or being received.
    """

    def __init__(self, limit: int, guard: MessageGuard) -> None:
        """Begin with no bodies.

        Args:
            limit: The most bytes. A longer body is held alone.
            guard: The message guard of the connection.
        """
        self.held = 0
        self._limit = limit
        self._guard = guard

    def watch(self, channel: int) -> None:
        """Count the bodies of a channel; above the budget, keep only a body's size and digest."""
        self._guard.admits[channel] = self._take

    def share(self, holders: int) -> int:
        """Return the bytes for each of a number of holders."""
        return self._limit // holders

    def fits_any_body(self) -> bool:
        """Return whether the budget takes a body of any size."""
        return not self.held or self._limit - self.held >= LONGEST_BODY_BYTES

    def release(self, size: int) -> None:
        """Stop counting a body of a size in bytes."""
        self.held -= size

    def _take(self, size: int) -> bool:
        if self.held and self.held + size > self._limit:
            return False
        self.held += size
        return True


class BudgetRequeues:
    """The jobs that this worker requeued only because of its budget.

    The broker counts each requeue as a delivery, which must not count against the job.
    """

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str | None, str], int] = OrderedDict()

    def note(self, message_id: str | None, digest: str) -> None:
        """Count a requeue.

        Args:
            message_id: The AMQP property.
            digest: The SHA-256 of the body in hexadecimal.
        """
        copy = (message_id, digest)
        self._times[copy] = self._times.pop(copy, 0) + 1
        if len(self._times) > _REMEMBERED:
            self._times.popitem(last=False)

    def times(self, message_id: str | None, body: bytes) -> int:
        """Return how often this worker requeued a message for its budget.

        Args:
            message_id: The AMQP property.
            body: The whole body.
        """
        if not self._times:
            return 0
        return self._times.get((message_id, sha256(body).hexdigest()), 0)
