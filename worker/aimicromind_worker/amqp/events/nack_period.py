"""Decide how long nacked messages are sent again, and when a period of nacks is over.

A nack names no queue, and comes although other queues took the message. Thus one period covers all
messages that could have met the same queue. Pure: the time is an argument, in seconds that never
go back.

1. A period begins with a nack. From then on, nacked messages are sent again for a bounded time,
   the patience, once in a period.
2. It ends when a message like the last nacked one is confirmed and nothing was nacked for five
   times the patience.
"""

from datetime import timedelta
from typing import NamedTuple

# A queue that takes and nacks in turns costs the others no more than this part of their time.
_CALM_TIMES = 5


class EndedPeriod(NamedTuple):
    """A period that is over.

    Attributes:
        nacked_for_s: From its first nack to its last.
        passed_over: How many messages were not sent again.
    """

    nacked_for_s: float
    passed_over: int


class NackPeriod:
    """The nacks of one exchange, or of one queue.

    Attributes:
        to: What the messages are published to, for the log.
        patience: How long nacked messages are sent again, from the first of them.
        began_s: When it began; None while no queue nacks, as far as is known.
    """

    def __init__(self, to: str, patience: timedelta) -> None:
        self.to = to
        self.patience = patience
        self.began_s: float | None = None
        self._last_s = 0.0
        self._last_name = ""
        self._passed_over = 0

    def patience_left_s(self, now_s: float) -> float:
        """Return how long nacked messages are still sent again, 0 if no more."""
        if self.began_s is None:
            return 0.0
        return max(0.0, self.began_s + self.patience.total_seconds() - now_s)

    def on_nack(self, name: str, now_s: float) -> bool:
        """Take the nack of an event of this name; return whether a period begins."""
        self._last_s, self._last_name = now_s, name
        begins = self.began_s is None
        if begins:
            self.began_s = now_s
            self._passed_over = 0
        return begins

    def on_pass_over(self) -> bool:
        """Count a message that is not sent again; return whether it is the first."""
        self._passed_over += 1
        return self._passed_over == 1

    def on_ack(self, name: str, now_s: float) -> EndedPeriod | None:
        """Take the confirm of an event of this name; return what was, if it ends the period."""
        if self.began_s is None or name != self._last_name:
            return None
        if now_s - self._last_s < self.patience.total_seconds() * _CALM_TIMES:
            return None
        ended = EndedPeriod(self._last_s - self.began_s, self._passed_over)
        self.began_s = None
        return ended
