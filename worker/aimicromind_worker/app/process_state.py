"""Hold what outlives the sessions of a worker."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from time import monotonic

from aimicromind_worker.amqp.channels import ExtraChannels
from aimicromind_worker.amqp.events.attempt_publisher import EventPublisher
from aimicromind_worker.amqp.jobs.journal import JournalMemory
from aimicromind_worker.amqp.jobs.memory_budget import MemoryBudget
from aimicromind_worker.app.service import Shutdown
from aimicromind_worker.core.job.cancels import KEPT_FOR
from aimicromind_worker.jobs.registry import JobRegistry
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from aimicromind_worker.runs.flows import Flows
from aimicromind_worker.telemetry.event_counts import EventCounts
from aimicromind_worker.telemetry.metrics import Metrics
from aimicromind_worker.telemetry.status import WorkerStatus
from aimicromind_worker.telemetry.tracing import Tracer


@dataclass(slots=True)
class ProcessState:
    """The state of a worker process that outlives its sessions.

    Attributes:
        status: The worker's status, for `/livez` and `/readyz`.
        event_counts: The counts of published events.
        metrics: The worker's metrics.
        tracer: The source of trace spans.
        held: The jobs that the worker has, and the cancel requests for them.
        breaker: The circuit breaker of the endpoint.
        flows: The health of each flow.
        journal: The part of the journal that was read.
        shutdown: The operator's requests to stop.
        on_ready: A callback for each time that the worker begins to take jobs.
        cancels_known_until: The time up to which cancel requests are known, aware.
        extra_channels: The channels for consumers of one more job.
        has_worked: Whether a session has taken jobs.
        publisher: The publisher of the last session, None before the first.
        turns: The turns of the last session, None before the first.
        budget: The budget of held bytes of the last session, None before the first.
        began_s: The time of the process's begin, by the monotonic clock.
    """

    status: WorkerStatus
    event_counts: EventCounts
    metrics: Metrics
    tracer: Tracer
    held: JobRegistry
    breaker: CircuitBreaker
    flows: Flows
    journal: JournalMemory
    shutdown: Shutdown
    on_ready: Callable[[], None]
    cancels_known_until: datetime = field(default_factory=lambda: datetime.now(UTC) - KEPT_FOR)
    extra_channels: ExtraChannels = field(default_factory=ExtraChannels)
    has_worked: bool = False
    publisher: EventPublisher | None = None
    turns: Turns | None = None
    budget: MemoryBudget | None = None
    began_s: float = field(default_factory=monotonic)
