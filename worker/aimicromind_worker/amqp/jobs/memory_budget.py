"""How many bytes of jobs a worker may hold, and how many it holds now."""

from aimicromind_schemas.client.transport.message_guard import LONGEST_BODY_BYTES, MessageGuard


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
        self._guard.admits[channel] = self._take

    def share(self, holders: int) -> int:
        """Return the bytes for each of so many that hold bodies."""
        return self._limit // holders

    def has_room(self) -> bool:
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
