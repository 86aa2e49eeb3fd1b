"""Keep the failures of one flow from taking the slots of the others.

- A flow is *sick* once its last five calls failed. It may hold a quarter of the slots, or one.
- A flow is *locked out* once the server refused the key for it five times in a row. Its jobs wait,
  and one job at a time is the *probe*: it calls to find out whether the key is accepted again.
- The worker is locked out if no call succeeded for 300 s, at least three flows are locked out, and
  no other flow fails. It then takes no more jobs.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

import structlog

from aimicromind_worker.core.endpoint.call_failed import CallFailed

log = structlog.get_logger()

_IN_A_ROW = 5
_SICK_PART = 4
# The pause before the next probe; each refused probe doubles it.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 60.0
_LOCKED_FLOWS = 3
_NO_SUCCESS_FOR_S = 300.0
_LOOK_EVERY_S = 0.5
_FLOWS_REMEMBERED = 10_000
_LOCKED_OUT = "the server refuses the key for every flow: check AIMICROMIND_API_KEY and the flows"


@dataclass(slots=True)
class _FlowHealth:
    """The health of one flow.

    Attributes:
        running: The number of its jobs that hold a slot.
        failed: The number of its last calls that failed in a row.
        refused: The number of its last calls for which the server refused the key in a row.
        probing: Whether a probe runs.
        pause_s: The pause after a refused probe, in seconds.
        next_probe_at: The earliest time of the next probe, by the clock of `Flows`.
    """

    running: int = 0
    failed: int = 0
    refused: int = 0
    probing: bool = False
    pause_s: float = 0.0
    next_probe_at: float = 0.0

    @property
    def is_locked(self) -> bool:
        return self.refused >= _IN_A_ROW


class Flows:
    """The health of all flows. One for the process; use it from the event loop."""

    def __init__(self, slots: int, now: Callable[[], float] = monotonic) -> None:
        """Begin with no flows.

        Args:
            slots: The number of jobs that this worker runs at a time.
            now: A monotonic clock in seconds.
        """
        self._most_of_a_sick_one = max(1, slots // _SICK_PART)
        self._now = now
        self._flows: dict[str, _FlowHealth] = {}
        self._success_at = float("-inf")

    def obstacle(self) -> str | None:
        """Return why the worker runs no jobs; None if it does."""
        return _LOCKED_OUT if self._all_locked() else None

    def is_locked(self, flow: str) -> bool:
        """Return whether the server refuses the key for a flow."""
        known = self._flows.get(flow)
        return known is not None and known.is_locked

    def holds_too_much(self, flow: str) -> bool:
        """Return whether a sick flow holds more slots than it may."""
        known = self._flows.get(flow)
        if known is None or known.failed < _IN_A_ROW:
            return False
        return known.running > self._most_of_a_sick_one

    async def passes(self, flow: str, cancelled: asyncio.Future[None], patience: timedelta) -> bool:
        """Wait while the worker is locked out; return whether a job of a flow may run now.

        Args:
            flow: The job's flow.
            cancelled: A future that ends the wait once it is done.
            patience: The longest wait.
        """
        ends = self._now() + patience.total_seconds()
        while self._all_locked() and not self._may_run(flow):
            if cancelled.done() or self._now() >= ends:
                return False
            await asyncio.wait((cancelled,), timeout=_LOOK_EVERY_S)
        return self._may_run(flow)

    def _may_run(self, flow: str) -> bool:
        known = self._flows.get(flow)
        if known is None:
            return True
        if known.is_locked:
            return not known.probing and self._now() >= known.next_probe_at
        return known.failed < _IN_A_ROW or known.running < self._most_of_a_sick_one

    @contextmanager
    def running(self, flow: str) -> Iterator[bool]:
        """Count a job of a flow as running while the body runs.

        Yields:
            Whether the job may run; if not, it is not counted and must wait.
        """
        if not self._may_run(flow):
            yield False
            return
        known = self._flows.setdefault(flow, _FlowHealth())
        probes = known.is_locked
        known.running += 1
        known.probing |= probes
        try:
            yield True
        finally:
            known.running -= 1
            if probes:
                known.probing = False
            self._forget(flow, known)

    def succeeded(self, flow: str) -> None:
        """Record that a call of a flow was answered."""
        self._success_at = self._now()
        known = self._flows.get(flow)
        if known is None:
            return
        if known.is_locked:
            log.info("flow.key_accepted", chatflow_id=flow)
        known.failed = known.refused = 0

    def failed(self, flow: str, failure: CallFailed) -> None:
        """Record a failed call of a flow; a call that never reached the server does not count."""
        if not failure.request_sent:
            return
        known = self._flows.setdefault(flow, _FlowHealth())
        known.failed += 1
        known.refused = known.refused + 1 if failure.by_server else 0
        if known.refused == _IN_A_ROW:
            log.warning("flow.key_refused", chatflow_id=flow)
            known.pause_s = _FIRST_PAUSE_S
            known.next_probe_at = self._now() + known.pause_s
        elif known.probing:
            known.pause_s = min(_LONGEST_PAUSE_S, 2 * known.pause_s)
            known.next_probe_at = self._now() + known.pause_s
        self._forget(flow, known)

    def _all_locked(self) -> bool:
        if self._now() - self._success_at < _NO_SUCCESS_FOR_S:
            return False
        known = self._flows.values()
        locked = sum(it.is_locked for it in known)
        return locked >= _LOCKED_FLOWS and all(it.is_locked or not it.failed for it in known)

    def _forget(self, flow: str, known: _FlowHealth) -> None:
        """Drop a flow without running jobs and failures, and the oldest flows above 10,000."""
        if not known.running and not known.failed:
            self._flows.pop(flow, None)
        while len(self._flows) > _FLOWS_REMEMBERED:
            self._flows.pop(next(iter(self._flows)))
