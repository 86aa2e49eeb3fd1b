"""What runs need of whoever publishes their events."""

from typing import Protocol

from aimicromind_worker.core.endpoint.exchange import (
    Address,
)
from aimicromind_worker.core.job.numbering import NumberedEvent


class AttemptEvents(Protocol):
    """The way of one attempt's events to the broker, in order."""

    @property
    def full(self) -> bool:
        """Whether to wait for `room` before the next event."""

    async def room(self) -> None:
        """Wait until another event may be published."""

    def publish(self, event: NumberedEvent) -> None:
        """Send one event on its way."""

    async def confirmed(self) -> None:
        """Wait until the broker has answered for all of them."""


class Publisher(Protocol):
    """The broker, as events need it."""

    def lane(self, address: Address) -> AttemptEvents:
        """Open a lane for one attempt."""
