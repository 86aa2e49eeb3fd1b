"""Say how long nacked events are sent again, and when a period of nacks is over.

A nack names no queue, and comes although other queues took the event. Thus one period covers all
that could have met the same queue. It begins with a first nack, and patience ends a bounded time
later, for all of it. It is over when an event like the last nacked one is confirmed and nothing
was nacked for a while.
"""

from collections.abc import Callable
from datetime import timedelta

import structlog

from aimicromind_worker.telemetry.event_counts import EventCounts

log = structlog.get_logger()

# A queue that takes and nacks in turns costs the others no more than this part of their time.
_CALM_TIMES = 5


class NackPeriod:
    """The nacks of one exchange, or of one queue. Not for several threads.

    Attributes:
        to: What the events are published to, for the log.
    """

    def __init__(
        self, to: str, resend_for: timedelta, counts: EventCounts, clock: Callable[[], float]
    ) -> None:
        """Begin with none.

        Args:
            to: See above.
            resend_for: How long nacked events are sent again, from the first of them.
            counts: Of all events of the worker.
            clock: Gives seconds that never go back.
        """
        self.to = to
        self._resend_for_s = resend_for.total_seconds()
        self._counts = counts
        self._clock = clock
        self._began: float | None = None
        self._last = 0.0
        self._last_name = ""
        self._passed_over = 0

    @property
    def going_on(self) -> bool:
        """Whether a queue nacks, as far as is known."""
        return self._began is not None

    @property
    def patience_s(self) -> float:
        """How long nacked events are still sent again, 0 if no more."""
        if self._began is None:
            return 0.0
        return max(0.0, self._began + self._resend_for_s - self._clock())

    def refused(self, name: str) -> None:
        """Record that an event was nacked."""
        self._last, self._last_name = self._clock(), name
        if self._began is None:
            self._began = self._last
            self._passed_over = 0
            log.warning("events.nacked", to=self.to, event_name=name)

    def passed_over(self) -> None:
        """Record that a nacked event is not sent again."""
        self._counts.passed_over += 1
        self._passed_over += 1
        if self._passed_over == 1:
            log.warning("events.skipped", to=self.to, after_s=self._resend_for_s)

    def taken(self, name: str) -> None:
        """Record that an event was confirmed."""
        if self._began is None or name != self._last_name:
            return
        now = self._clock()
        if now - self._last >= self._resend_for_s * _CALM_TIMES:
            log.info(
                "events.taken_again",
                to=self.to,
                refused_for_s=round(self._last - self._began, 3),
                passed_over=self._passed_over,
            )
            self._began = None
