"""Count what became of the events of a worker."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class EventCounts:
    """One for the worker; its numbers only grow. The publishers alone write it.

    Attributes:
        refused: Nacks of the broker; an event can have several.
        sent_again: Sendings after the first: of what was nacked, of what followed it in its
            chat, and of what a lost connection left unconfirmed.
        passed_over: Events, or copies for a `reply_to`, that are not sent again: a queue nacked
            them, the broker closes the connection for them, or the window of copies was full.
        ends_straight: `end`s that were sent straight to endings and journal.
        reconnected: How often the connection of the events was opened again.
        published: Events by name, copies for a `reply_to` included; names that are not ours
            count as `other`.
    """

    refused: int = 0
    sent_again: int = 0
    passed_over: int = 0
    ends_straight: int = 0
    reconnected: int = 0
    published: Counter[str] = field(default_factory=Counter)

    def of_refusals(self) -> dict[str, int]:
        """Return what queues nacked, and what became of it."""
        return {
            "refused": self.refused,
            "sent_again": self.sent_again,
            "passed_over": self.passed_over,
            "ends_straight": self.ends_straight,
        }
