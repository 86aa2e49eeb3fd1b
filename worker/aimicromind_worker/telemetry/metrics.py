"""Count jobs, calls and events for Prometheus.

Invariants:

- A label has a bounded number of values. No text from outside is one, but for the flows of
  `flow_counts`.
- Methods of `Metrics` take microseconds and never raise.
- Values that other modules keep are read when `/metrics` is requested.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from aimicromind_schemas import FailureKind
from aimicromind_worker.telemetry.backlog import Backlog
from aimicromind_worker.telemetry.event_counts import EventCounts
from aimicromind_worker.telemetry.flow_counts import FlowCounts

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
# A job may wait for as long as it lives.
_WAIT_SECONDS = (*_SECONDS, 1800, 3600)
_CONFIRM_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
_NAMESPACE = "aimicromind_worker"
# Outcomes of jobs that go on elsewhere, or ended before.
_NOT_ENDED = frozenset({"delayed", "handed_back", "repeated"})


class Metrics:
    """All metrics of the worker. One for the process.

    Attributes:
        backlog: The numbers of messages that wait on the broker.
        ended: Jobs that this worker has ended.
        flows: Counters by flow.
    """

    def __init__(self, events: EventCounts) -> None:
        """Begin at zero.

        Args:
            events: Counters of events, read for each `/metrics`.
        """
        self.backlog = Backlog()
        self.ended = 0
        self._registry = CollectorRegistry()
        self._registry.register(_EventCollector(events))
        self._registry.register(_BacklogCollector(self.backlog))
        Info(_NAMESPACE, "This worker", registry=self._registry).info(
            {"version": version("aimicromind-worker")}
        )
        self.flows = FlowCounts(self._counter)
        self._jobs = self._counter("jobs", "Jobs that left this worker", "outcome", "kind")
        self._calls = self._counter("calls", "Prediction calls begun")
        self._failed_calls = self._counter("calls_failed", "Prediction calls that failed", "kind")
        self._recovered = self._counter("recovered", "Answers read from saved messages")
        self._lost = self._counter("sessions_lost", "Lost connections of jobs")
        self._dead_lettered = self._counter("dead_lettered", "Jobs dead-lettered", "kind")
        for kind in FailureKind:
            # Prometheus sees no increase where a series begins above zero.
            self._dead_lettered.labels(kind)
        self._duration = self._histogram("job_seconds", "Time this worker had a job", _SECONDS)
        self._first = self._histogram(
            "first_output_seconds", "From the start of an attempt to its first output", _SECONDS
        )
        self._first_attempt = self._histogram(
            "submitted_to_first_attempt_seconds",
            "From a job's submission to the first call of its first attempt",
            _WAIT_SECONDS,
        )
        self._shown = self._histogram(
            "submitted_to_first_output_seconds",
            "From a job's submission to its first output",
            _WAIT_SECONDS,
        )
        self._confirm = self._histogram(
            "confirm_seconds", "From a job's end to its confirm", _CONFIRM_SECONDS
        )

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is read for each `/metrics`."""
        gauge = Gauge(name, about, namespace=_NAMESPACE, registry=self._registry)
        gauge.set_function(value)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def job_left(self, outcome: str, kind: str, took: timedelta) -> None:
        """Record that a job was settled or requeued; `kind` is empty for a success."""
        self.ended += outcome not in _NOT_ENDED
        self._jobs.labels(outcome, kind).inc()
        self._duration.observe(took.total_seconds())

    def call_begun(self, waited: timedelta | None = None) -> None:
        """Record a prediction call.

        Args:
            waited: The time since the job's submission, for the first call of its first attempt.
        """
        self._calls.inc()
        if waited is not None:
            self._first_attempt.observe(waited.total_seconds())

    def call_failed(self, kind: str) -> None:
        """Record that a call failed."""
        self._failed_calls.labels(kind).inc()

    def first_output(self, after: timedelta) -> None:
        """Record the time from the start of an attempt to its first output."""
        self._first.observe(after.total_seconds())

    def output_since_submission(self, after: timedelta) -> None:
        """Record the time from a job's submission to its first output."""
        self._shown.observe(after.total_seconds())

    def dead_lettered(self, kind: FailureKind) -> None:
        """Record that this worker dead-lettered a job."""
        self._dead_lettered.labels(kind).inc()

    def confirmed(self, after: timedelta) -> None:
        """Record the time from publishing a job's end to its confirm."""
        self._confirm.observe(after.total_seconds())

    def recovered(self) -> None:
        """Record that a saved answer was read in place of another call."""
        self._recovered.inc()

    def session_lost(self) -> None:
        """Record that the connection of jobs was lost."""
        self._lost.inc()

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(name, about, labels, namespace=_NAMESPACE, registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            name, about, namespace=_NAMESPACE, buckets=buckets, registry=self._registry
        )


class _EventCollector(Collector):
    def __init__(self, events: EventCounts) -> None:
        self._events = events

    @override
    def collect(self) -> Iterator[Metric]:
        events = self._events
        published = CounterMetricFamily(
            f"{_NAMESPACE}_events", "Events published, copies included", labels=["event"]
        )
        for name, count in sorted(events.published.items()):
            published.add_metric([name], count)
        yield published
        plain: Mapping[str, tuple[str, int]] = {
            "events_refused": ("Nacks of the broker", events.refused),
            "events_sent_again": ("Events sent more than once", events.sent_again),
            "events_passed_over": ("Events not sent again after a nack", events.passed_over),
            "ends_straight": ("Ends sent to the endings only", events.ends_straight),
            "events_reconnected": ("New connections of events after the first", events.reconnected),
        }
        for name, (about, count) in plain.items():
            yield CounterMetricFamily(f"{_NAMESPACE}_{name}", about, value=count)


class _BacklogCollector(Collector):
    """Shows what is known; a family without a sample is not known."""

    def __init__(self, backlog: Backlog) -> None:
        self._backlog = backlog

    @override
    def collect(self) -> Iterator[Metric]:
        known = self._backlog.read()
        gauges: Mapping[str, tuple[str, int | None]] = {
            "backlog_jobs": ("Jobs in the queue that no worker has", known.backlog),
            "delayed_jobs": ("Jobs in the delay queues", known.delayed),
            "dead_letters": ("Messages in the dead-letter queue of jobs", known.dead),
        }
        for name, (about, count) in gauges.items():
            family = GaugeMetricFamily(f"{_NAMESPACE}_{name}", about)
            if count is not None:
                family.add_metric([], count)
            yield family
