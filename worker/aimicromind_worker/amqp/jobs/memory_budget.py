"""How many bytes of jobs a worker may hold, and which jobs it requeued for want of room."""

from collections import OrderedDict
from hashlib import sha256

from aimicromind_schemas.client.transport.message_guard import LONGEST_BODY_BYTES, MessageGuard

_REMEMBERED = 10_000


class MemoryBudget:
    """The budget of one connection that jobs come by. Use it from the event loop only.

    A body counts from the moment when its size is known, before any of it is kept.

    Attributes:
        held: Bytes of the bodies that are held, or are coming.
    """

    def __init__(self, limit: int, guard: MessageGuard) -> None:
        """Begin with nothing.

        Args:
            limit: Most bytes. A body that is longer is held alone.
            guard: Of the connection.
        """
        self.held = 0
        self._limit = limit
        self._guard = guard

    def watch(self, channel: int) -> None:
        """Count the bodies of a channel; cut those for which there is no room."""
        self._guard.rooms[channel] = self._take

    def share(self, holders: int) -> int:
        """Return the bytes for each of so many that hold bodies."""
        return self._limit // holders

    def fits_any_body(self) -> bool:
        """Return whether there is room for any body."""
        return not self.held or self._limit - self.held >= LONGEST_BODY_BYTES

    def release(self, size: int) -> None:
        """Count a body no more."""
        self.held -= size

    def _take(self, size: int) -> bool:
        if self.held and self.held + size > self._limit:
            return False
        self.held += size
        return True


class BudgetRequeues:
    """The copies of jobs that this worker requeued only because it had no room.

    The broker counts each as a delivery, which says nothing against the job.
    """

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str | None, str], int] = OrderedDict()

    def note(self, message_id: str | None, digest: str) -> None:
        """Count one; the digest is the body's SHA-256 in hexadecimal."""
        copy = (message_id, digest)
        self._times[copy] = self._times.pop(copy, 0) + 1
        if len(self._times) > _REMEMBERED:
            self._times.popitem(last=False)

    def times(self, message_id: str | None, body: bytes) -> int:
        """Return how often a copy was requeued."""
        if not self._times:
            return 0
        return self._times.get((message_id, sha256(body).hexdigest()), 0)
