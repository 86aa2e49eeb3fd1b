"""A whole run and its verdict."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.support.checker.endpoint import (
    Tolerance,
    violations_against_calls,
    violations_among_calls,
)
from tests.support.checker.facts import Asked, Broken, EndpointCall, Span, Violation
from tests.support.checker.health import (
    Counter,
    Gauge,
    Outage,
    Probe,
    violations_of_bounds,
    violations_of_condition,
    violations_of_leaks,
)
from tests.support.checker.listener import Listener
from tests.support.checker.order import violations_of_order


@dataclass(slots=True)
class Run:
    """All that is known of a run; whoever has a part of it fills that in.

    Attributes:
        asked: The jobs, by id.
        listeners: The consumers whose queues accepted everything.
        calls: What the endpoint saw; None where it was not watched.
        fencing: When a worker may not have known yet that it had lost its jobs.
        delayed: Jobs that a failure delayed, of which consumers see nothing.
        tolerance: Where calls may honestly differ from what the endpoint saw.
        outages: When workers could not work.
        probes: What workers said of themselves.
        gauges: Figures over time; `limits` names the bounds of some.
        counters: What must be back where it began.
    """

    asked: dict[str, Asked] = field(default_factory=dict)
    listeners: list[Listener] = field(default_factory=list)
    calls: Sequence[EndpointCall] | None = None
    fencing: list[Span] = field(default_factory=list)
    delayed: set[str] = field(default_factory=set)
    tolerance: Tolerance = field(default_factory=Tolerance)
    outages: list[Outage] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    gauges: list[Gauge] = field(default_factory=list)
    limits: Mapping[str, float] = field(default_factory=dict)
    counters: list[Counter] = field(default_factory=list)

    def violations(self) -> list[Violation]:
        """Say all that is wrong."""
        return list(self._violations())

    def judge(self) -> None:
        """Be content with the run.

        Raises:
            Broken: It broke a promise.
        """
        violations = self.violations()
        if violations:
            raise Broken(violations)

    def _violations(self) -> Iterator[Violation]:
        if not self.listeners:
            yield Violation("I1", "nobody listened")
        for listener in self.listeners:
            yield from listener.violations(self.fencing)
        if self.calls is not None:
            yield from violations_among_calls(self.calls, self.fencing, time.monotonic())
            for listener in self.listeners:
                yield from violations_against_calls(
                    listener.jobs, self.asked, self.calls, self.tolerance
                )
                yield from violations_of_order(
                    listener.jobs, self.asked, self.calls, self.fencing, self.delayed
                )
        yield from violations_of_condition(self.probes, self.outages)
        yield from violations_of_bounds(self.gauges, self.limits)
        yield from violations_of_leaks(self.counters)
