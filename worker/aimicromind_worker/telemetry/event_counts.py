"""Counters of the events that a worker publishes, and of those that queues nack."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class EventCounts:
    """Counters that only grow. One for the worker; only publishers write it.

    Attributes:
        refused: Nacks of the broker; an event can have several.
        sent_again: Events sent more than once: nacked ones, those that follow them in their chat,
            and those that a lost connection left unconfirmed.
        passed_over: Events and copies for a `reply_to` that are not sent again: a queue nacked
            them, the broker closes the connection for them, or the window of copies was full.
        ends_straight: `end`s that were sent directly to the endings.
        reconnected: New connections for events after the first.
        published: Events by name, copies for a `reply_to` included; unknown names count as
            `other`.
    """

    refused: int = 0
    sent_again: int = 0
    passed_over: int = 0
    ends_straight: int = 0
    reconnected: int = 0
    published: Counter[str] = field(default_factory=Counter)

    def of_refusals(self) -> dict[str, int]:
        """Return the counters of nacked events, by their public names."""
        return {
            "refused": self.refused,
            "sent_again": self.sent_again,
            "passed_over": self.passed_over,
            "ends_straight": self.ends_straight,
        }
