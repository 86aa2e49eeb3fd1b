"""What every run of a worker shares."""

import asyncio
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from aimicromind_worker.core.endpoint.exchange import FlowFacts, PredictionCall, Response
from aimicromind_worker.core.job.retry import RetryPolicy
from aimicromind_worker.runs.attempt import Limits
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.flows import Flows
from aimicromind_worker.runs.idle_timeout import IdleTimeout
from aimicromind_worker.runs.ports import Publisher
from aimicromind_worker.runs.recovery import Recovery
from aimicromind_worker.telemetry.metrics import Metrics
from aimicromind_worker.telemetry.tracing import Tracer


class Predictions(Protocol):
    """The endpoint, as a job needs it."""

    async def facts(self, chatflow_id: str) -> FlowFacts:
        """Ask what kind of flow it is."""

    def call(self, call: PredictionCall) -> AbstractAsyncContextManager[Response]:
        """Make one call."""

    def abort(self, call: PredictionCall) -> asyncio.Task[object]:
        """Ask the endpoint to stop what a call began; the task is done within seconds."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every run of this worker shares.

    Attributes:
        predictions: The endpoint.
        publisher: Where events go.
        idle_watch: Breaks off silent streams.
        limits: What one job may take.
        policy: What follows a failed call.
        recovery: Where answers are that nobody read.
        conversations: Which calls under a conversation's own chatId may run on.
        breaker: Says whether to call at all.
        flows: Says how many jobs of a flow may run.
        meter: Gets numbers.
        tracer: Gets spans.
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
