"""The adapters, limits and counters that all runs of a worker share."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from aimicromind_worker.core.endpoint.exchange import FlowFacts, PredictionCall, Response
from aimicromind_worker.core.job.retry import RetryPolicy
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.flows import Flows
from aimicromind_worker.runs.idle_timeout import IdleTimeout
from aimicromind_worker.runs.limits import Limits
from aimicromind_worker.runs.ports import Publisher
from aimicromind_worker.runs.recovery import Recovery
from aimicromind_worker.telemetry.metrics import Metrics
from aimicromind_worker.telemetry.tracing import Tracer


class Predictions(Protocol):
    """The prediction endpoint."""

    async def facts(self, chatflow_id: str) -> FlowFacts:
        """Return what the endpoint says of a flow.

        Raises:
            ChatflowNotFound: There is no such flow.
            EndpointUnavailable: The endpoint does not say now which documents the flow uses.
        """

    def call(self, call: PredictionCall) -> AbstractAsyncContextManager[Response]:
        """Make one call, whose response is read in the body.

        Raises:
            CallFailed: The endpoint did not answer, or answered with an error.
        """

    def abort(self, call: PredictionCall) -> asyncio.Task[object]:
        """Ask the endpoint to abort a call; the returned task ends within seconds."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What all runs of this worker share.

    Attributes:
        predictions: The endpoint.
        publisher: The publisher of events.
        idle_watch: The idle timeout of all streams.
        limits: The limits of one job.
        policy: The rules for what follows a failed call.
        recovery: The look-up of answers that the endpoint saved.
        conversations: The calls under a conversation's own chatId that may still run.
        breaker: The circuit breaker, which decides whether to call at all.
        flows: The health of each flow, which bounds its running jobs.
        meter: The counters of metrics.
        tracer: The source of trace spans.
    """

    predictions: Predictions
    publisher: Publisher
    idle_watch: IdleTimeout
    limits: Limits
    policy: RetryPolicy
    recovery: Recovery
    conversations: Conversations
    breaker: CircuitBreaker
    flows: Flows
    meter: Metrics
    tracer: Tracer
