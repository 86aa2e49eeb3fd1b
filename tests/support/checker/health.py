"""Whether workers said how they were, came back in time, stayed bounded and left nothing behind."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.support.checker.facts import Violation

_BACK_WITHIN_S = 10.0
# One probe without an answer is a busy machine; an orchestrator waits for so many, too.
_UNANSWERED_IN_A_ROW = 3


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which workers could not work.

    Attributes:
        kind: What was done to them.
        red_within_s: How soon they must say so, None where they need not.
        back_within_s: How soon after it they must be ready again.
        workers: Whom it concerns, nobody for all that answer probes after it.
        answers: Whether they must answer and be live all the while.
    """

    kind: str
    began: float
    cleared: float
    red_within_s: float | None = None
    back_within_s: float = _BACK_WITHIN_S
    workers: Sequence[str] = ()
    answers: bool = True


@dataclass(frozen=True, slots=True)
class Probe:
    """What a worker said at a time; None where no answer came."""

    worker: str
    at: float
    ready: bool | None
    live: bool | None


@dataclass(frozen=True, slots=True)
class Gauge:
    """A figure at a time, such as a queue's length or a worker's memory, in any unit."""

    name: str
    at: float
    value: float


@dataclass(frozen=True, slots=True)
class Counter:
    """A figure before and after: what a run leaves behind shows as the difference."""

    name: str
    before: float
    after: float
    slack: float = 0.0


def violations_of_condition(
    probes: Sequence[Probe], outages: Sequence[Outage]
) -> Iterator[Violation]:
    """Judge readiness and liveness (I6)."""
    by_worker: defaultdict[str, list[Probe]] = defaultdict(list)
    for probe in sorted(probes, key=lambda it: it.at):
        by_worker[probe.worker].append(probe)
    for outage in outages:
        after = [name for name, told in by_worker.items() if told[-1].at >= outage.cleared]
        for worker in outage.workers or after:
            yield from _violations_of_outage(worker, by_worker[worker], outage)
    for worker, told in by_worker.items():
        yield from _violations_of_liveness(worker, told, outages)


def _violations_of_outage(
    worker: str, told: Sequence[Probe], outage: Outage
) -> Iterator[Violation]:
    until = outage.cleared + outage.back_within_s
    if not any(probe.ready and outage.cleared <= probe.at <= until for probe in told):
        what = f"not ready within {outage.back_within_s:g} s of {outage.kind}"
        yield Violation("I6", what, where=worker)
    if outage.red_within_s is None:
        return
    red_from = outage.began + outage.red_within_s
    green = [probe.at for probe in told if probe.ready and red_from <= probe.at < outage.cleared]
    if green:
        what = f"says it is ready {green[0] - outage.began:.1f} s into {outage.kind}"
        yield Violation("I6", what, where=worker)


def _violations_of_liveness(
    worker: str, told: Sequence[Probe], outages: Sequence[Outage]
) -> Iterator[Violation]:
    silent = 0
    for probe in told:
        if any(not it.answers and it.began <= probe.at <= it.cleared + 1 for it in outages):
            silent = 0
            continue
        silent = silent + 1 if probe.live is None else 0
        if probe.live is False:
            yield Violation("I6", "liveness is red", where=worker)
            return
        if silent == _UNANSWERED_IN_A_ROW:
            yield Violation("I6", f"{silent} probes in a row had no answer", where=worker)
            return


def violations_of_bounds(
    gauges: Sequence[Gauge], limits: Mapping[str, float]
) -> Iterator[Violation]:
    """Judge figures that have a limit (I7); one without any figure is a fault of the test."""
    for name, limit in limits.items():
        values = [gauge.value for gauge in gauges if gauge.name == name]
        if not values:
            yield Violation("I7", f"nothing is known of {name}")
        elif max(values) > limit:
            yield Violation("I7", f"{name} was {max(values):g}, more than {limit:g}")


def violations_of_leaks(counters: Sequence[Counter]) -> Iterator[Violation]:
    """Judge what must be back where it began (I8)."""
    for counter in counters:
        if abs(counter.after - counter.before) > counter.slack:
            within = f" (slack {counter.slack:g})" if counter.slack else ""
            what = f"{counter.name} was {counter.before:g} and is {counter.after:g}{within}"
            yield Violation("I8", what)
