"""The calls of a job, one at a time: made, or not made since the endpoint has saved the answer."""

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import structlog

from aimicromind_worker.attempt import EventSink, Limits
from aimicromind_worker.breaker import Breaker
from aimicromind_worker.core.errors import CallFailed
from aimicromind_worker.core.exchange import PredictionCall, Response
from aimicromind_worker.core.request import call_chat_id, prediction_body
from aimicromind_worker.core.retry import RetryPolicy
from aimicromind_worker.core.saved_answer import continues
from aimicromind_worker.flows import Flows
from aimicromind_worker.idle_watch import IdleWatch
from aimicromind_worker.meter import Meter
from aimicromind_worker.progress import Progress
from aimicromind_worker.recovery import Found, Recovery
from aimicromind_worker.tracing import Span, Tracer

log = structlog.get_logger()

# The answer is saved before the stream ends, so that one that is not there yet will not come.
_PATIENCE_AFTER_END = timedelta(seconds=2)


class Predictions(Protocol):
    """The endpoint, as a job needs it."""

    async def can_stream(self, chatflow_id: str) -> bool | None:
        """Ask whether the flow streams, None where nobody knows."""

    def call(self, call: PredictionCall) -> AbstractAsyncContextManager[Response]:
        """Make one call."""

    def abort(self, call: PredictionCall) -> None:
        """Ask the endpoint to stop what a call began, and wait for nothing."""


@dataclass(frozen=True, slots=True)
class Means:
    """What every run of this worker shares.

    Attributes:
        predictions: The endpoint.
        sink: Where events go.
        idle_watch: Breaks off silent streams.
        limits: What one job may take.
        policy: What follows a failed call.
        recovery: Where answers are that nobody read.
        breaker: Says whether to call at all.
        flows: Says how many jobs of a flow may run.
        meter: Gets numbers.
        tracer: Gets spans.
    """

    predictions: Predictions
    sink: EventSink
    idle_watch: IdleWatch
    limits: Limits
    policy: RetryPolicy
    recovery: Recovery
    breaker: Breaker
    flows: Flows
    meter: Meter
    tracer: Tracer


class Calls:
    """Makes the calls of one job and publishes their answers. Use it from the job's task."""

    def __init__(self, progress: Progress, means: Means) -> None:
        self._progress = progress
        self._means = means
        self._last: PredictionCall | None = None

    async def call(self) -> None:
        """Make one call and publish what it answers, or what the endpoint saved of it.

        Raises:
            CallFailed: It did not answer.
        """
        progress, attempt, call = self._progress, self._progress.attempt, None
        try:
            with self._means.breaker.asking() as asking:
                # Outside the attempt's time: an attempt that begins no call would never count.
                flow = progress.ticket.job.chatflow_id
                streams = await self._means.predictions.can_stream(flow)
                with attempt.span.call(progress.calls + 1) as span:
                    async with attempt.deadline():
                        progress.calls += 1
                        self._means.meter.call_begun()
                        attempt.calls += 1
                        call = self._last = self._next(span, streams=streams is not False)
                        attempt.answer.begin_call(call.endpoint_chat_id)
                        async with self._means.predictions.call(call) as response:
                            asking.answered()
                            span.answered()
                            await attempt.show(response, self._means.idle_watch)
        except asyncio.CancelledError:
            if call is not None:
                progress.given_up += 1
                progress.sent = True
                progress.open_attempt = attempt.number
            raise
        except CallFailed as failure:
            if call is not None:
                self._count_failed(failure)
            may_have_acted = attempt.answer.output or progress.ticket.blind
            may_be_saved = may_have_acted and failure.run_goes_on
            if call is None or not may_be_saved or not await self._recover(call, failure):
                raise
        else:
            self._means.flows.succeeded(progress.ticket.job.chatflow_id)
            await self._complete_if_empty(call)

    def _count_failed(self, failure: CallFailed) -> None:
        """Count a call that failed; one that the endpoint never saw was none."""
        progress = self._progress
        if failure.request_sent:
            self._means.meter.call_failed(failure.kind)
        else:
            progress.calls -= 1
            progress.attempt.calls -= 1
            progress.unreached += 1
        # Where the server refused the key, nothing was run.
        progress.sent |= failure.request_sent and not failure.by_server
        self._means.flows.failed(progress.ticket.job.chatflow_id, failure)

    def abort(self) -> None:
        """Ask the endpoint to stop what the last call began, if there was one."""
        if self._last is not None:
            self._means.predictions.abort(self._last)

    async def recover_lost(self) -> bool:
        """Show the saved answer to a call that another worker left open, if there is one."""
        progress, attempt = self._progress, self._progress.open_attempt
        if not attempt:
            return False
        job_id = progress.ticket.job_id
        chat_ids = [call_chat_id(job_id, attempt, call + 1) for call in range(progress.max_calls)]
        # A call that showed nothing may never have been made: one look has to do, unless it
        # would have shown nothing in any case.
        waits = progress.ticket.open_shown or progress.ticket.blind
        patience = progress.hold_left if waits else timedelta()
        found = await self._look(chat_ids, patience)
        progress.open_attempt = 0
        if found is None:
            return False
        progress.ran = True
        progress.calls = max(progress.calls, found.place + 1)
        self._show(found)
        return True

    async def _recover(self, call: PredictionCall, failure: CallFailed) -> bool:
        """Publish what the endpoint saved of a call whose stream failed; say whether it did."""
        progress = self._progress
        progress.open_attempt = progress.attempt.number
        found = await self._look([call.endpoint_chat_id], progress.hold_left)
        progress.open_attempt = 0
        if found is None:
            return False
        if not continues(found.answer, progress.attempt.answer.text):
            progress.follow_with(failure.kind, str(failure), timedelta())
        self._show(found)
        return True

    async def _complete_if_empty(self, call: PredictionCall) -> None:
        """Show what was saved where the stream ended well and held no text."""
        answer = self._progress.attempt.answer
        if answer.has_text or not (message_id := answer.message_id):
            return
        found = await self._look([call.endpoint_chat_id], _PATIENCE_AFTER_END, message_id)
        if found is not None and found.answer.text:
            self._show(found)

    async def _look(
        self, chat_ids: Sequence[str], patience: timedelta, message_id: str | None = None
    ) -> Found | None:
        flow = self._progress.ticket.job.chatflow_id
        return await self._means.recovery.look(flow, chat_ids, patience, message_id)

    def _show(self, found: Found) -> None:
        self._progress.recovered = True
        self._means.meter.recovered()
        attempt = self._progress.attempt
        attempt.show_saved(found.answer, found.endpoint_chat_id)
        log.info("answer.recovered", calls=self._progress.calls)
        attempt.span.note("answer.recovered")

    def _next(self, span: Span, *, streams: bool) -> PredictionCall:
        ticket, attempt = self._progress.ticket, self._progress.attempt
        chat_id = call_chat_id(ticket.job_id, attempt.number, attempt.calls)
        return PredictionCall(
            ticket.job.chatflow_id,
            chat_id,
            prediction_body(ticket.job, ticket.chat_id, chat_id),
            streams and not ticket.blind,
            span.context,
        )
