"""Protocols for what `runs/` needs to publish the events of an attempt."""

from typing import Protocol

from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.numbering import NumberedEvent


class AttemptEvents(Protocol):
    """The publisher of one attempt's events, in order."""

    @property
    def full(self) -> bool:
        """Whether the window is full, in which case `room` must be awaited before `publish`."""

    @property
    def handle(self) -> str | None:
        """The handle of a job whose first event is published next; None if unknown."""

    async def room(self) -> None:
        """Wait until the window takes another event."""

    def record(self, record: NumberedEvent) -> None:
        """Write the record of the next event to the journal, without waiting for its confirm."""

    def publish(self, event: NumberedEvent) -> None:
        """Publish one event without waiting for its confirm."""

    async def confirmed(self) -> None:
        """Wait until the broker has answered for every event and record that was published.

        Raises:
            ConnectionError: It did not answer in time.
        """


class Publisher(Protocol):
    """The publisher of a worker's events."""

    def attempt_publisher(self, address: Address) -> AttemptEvents:
        """Return the publisher of one attempt's events."""
