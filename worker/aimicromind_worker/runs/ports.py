"""What runs need of whoever publishes their events."""

from typing import Protocol

from aimicromind_worker.core.endpoint.exchange import (
    Address,
)
from aimicromind_worker.core.job.numbering import NumberedEvent


class AttemptEvents(Protocol):
    """Publishes one attempt's events, in order."""

    @property
    def full(self) -> bool:
        """Whether to wait for `room` before the next event."""

    async def room(self) -> None:
        """Wait until another event may be published."""

    def publish(self, event: NumberedEvent) -> None:
        """Publish one event."""

    async def confirmed(self) -> None:
        """Wait until the broker has answered for all of them."""


class Publisher(Protocol):
    """The broker, as events need it."""

    def lane(self, address: Address) -> AttemptEvents:
        """Return what publishes the events of one attempt."""
