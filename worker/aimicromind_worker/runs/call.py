"""Make the calls of a job, one at a time, or read the answer that the endpoint saved instead.

Invariants:

- A call counts from before its request is sent. It is discounted if the endpoint never saw it.
- `open_attempt` is set while the endpoint may still finish a call that this worker does not read.
- A failed call is recovered only if it may have acted: it showed output, or was asked for JSON.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog

from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import EndpointDown, EndpointUnavailable
from aimicromind_worker.core.endpoint.exchange import FlowFacts, PredictionCall
from aimicromind_worker.core.endpoint.request import call_chat_id, prediction_body
from aimicromind_worker.core.endpoint.saved_answer import continues
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.runs.conversation_calls import ConversationCalls
from aimicromind_worker.runs.dependencies import Dependencies
from aimicromind_worker.runs.progress import Progress
from aimicromind_worker.runs.recovery import Found
from aimicromind_worker.telemetry.tracing import Span

log = structlog.get_logger()

# The endpoint saves an answer before it ends the stream: a later look would not find more.
_PATIENCE_AFTER_END = timedelta(seconds=2)


class Calls:
    """The calls of one job, whose answers are published. Use it from the job's task."""

    def __init__(self, progress: Progress, dependencies: Dependencies) -> None:
        self._progress = progress
        self._dependencies = dependencies
        self._facts: FlowFacts | None = None
        self._asked_just_now = False
        self._last: PredictionCall | None = None
        self._conversation = ConversationCalls(progress, dependencies.conversations)

    async def pause_of_chat(self) -> timedelta | None:
        """Return how long to wait for an earlier call of the chat; None if not at all.

        Raises:
            HistoryUnknown: The journal cannot be read now.
            ConnectionError: The journal does not exist, or the connection is lost.
        """
        ticket = self._progress.ticket
        try:
            facts = await self._dependencies.predictions.facts(ticket.job.chatflow_id)
        except EndpointUnavailable:
            return RETRY_DELAYS[0]
        except CallFailed:
            # The call fails in the same way and reports it.
            return None
        self._facts, self._asked_just_now = facts, True
        if not facts.own_documents:
            return None
        return await self._conversation.pause()

    async def call(self) -> None:
        """Make one call and publish its answer, or the answer that the endpoint saved.

        Raises:
            CallFailed: The call has no complete answer.
        """
        progress, attempt, call = self._progress, self._progress.attempt, None
        try:
            # Outside the attempt's deadline: an attempt without a call would use up no call.
            facts = await self._flow_facts()
            with self._dependencies.breaker.asking() as asking:
                if facts.own_documents:
                    await self._conversation.begin()
                with attempt.span.call(progress.calls + 1) as span:
                    async with attempt.deadline():
                        progress.calls += 1
                        self._dependencies.meter.call_begun(progress.until_first_call())
                        attempt.calls += 1
                        progress.record_begin()
                        call = self._last = self._next(span, facts)
                        attempt.answer.begin_call(call.endpoint_chat_id)
                        async with self._dependencies.predictions.call(call) as response:
                            asking.answered()
                            span.answered()
                            await attempt.show(response, self._dependencies.idle_watch)
        except asyncio.CancelledError:
            if call is not None:
                self._count_broken_off(call)
            raise
        except CallFailed as failure:
            if call is not None:
                self._count_failed(failure)
            await self._conversation.failed(failure)
            may_have_acted = attempt.answer.output or progress.ticket.blind
            may_be_saved = may_have_acted and failure.run_goes_on
            if call is None or not may_be_saved or not await self._recover(call, failure):
                raise
        else:
            self._dependencies.flows.succeeded(progress.ticket.job.chatflow_id)
            await self._complete_if_empty(call)
        await self._conversation.over()

    async def _flow_facts(self) -> FlowFacts:
        """Return the facts of the flow; `own_documents` stays the same within a run."""
        known, is_new = self._facts, self._asked_just_now
        self._asked_just_now = False
        if known is not None and (is_new or known.streams is not None):
            return known
        facts = await self._dependencies.predictions.facts(self._progress.ticket.job.chatflow_id)
        if facts.own_documents and not (known is not None and known.own_documents):
            # This was unknown when the run began: nobody looked for earlier calls of the chat.
            raise EndpointDown
        self._facts = facts if known is None else FlowFacts(facts.streams, known.own_documents)
        return self._facts

    async def note_broken_off(self) -> None:
        """Record in the journal what became of a call that was broken off, if any."""
        await self._conversation.settle()

    def _count_broken_off(self, call: PredictionCall) -> None:
        """Count a call that was broken off, unless the endpoint never saw its request."""
        progress = self._progress
        if call.sending.begun:
            self._conversation.broken_off_at = datetime.now(UTC)
            progress.uncounted += 1
            progress.sent = True
            progress.open_attempt = progress.attempt.number
        else:
            progress.calls -= 1
            progress.attempt.calls -= 1

    def _count_failed(self, failure: CallFailed) -> None:
        """Count a call that failed, unless the endpoint never saw its request."""
        progress = self._progress
        if failure.request_sent:
            self._dependencies.meter.call_failed(failure.kind)
        else:
            progress.calls -= 1
            progress.attempt.calls -= 1
            progress.unreached += 1
        # A server that refuses the key runs nothing.
        progress.sent |= failure.request_sent and not failure.by_server
        self._dependencies.flows.failed(progress.ticket.job.chatflow_id, failure)

    async def abort(self) -> None:
        """Ask the endpoint to abort the last call, if any."""
        if self._last is None:
            return
        aborting = self._dependencies.predictions.abort(self._last)
        if self._last.endpoint_chat_id == self._progress.ticket.chat_id:
            # The request names only the conversation. A late one would abort its next call.
            await asyncio.wait([aborting])

    async def recover_lost(self) -> bool:
        """Publish the saved answer of a call that another worker left open; return whether any."""
        progress, attempt = self._progress, self._progress.open_attempt
        if self._facts is not None and self._facts.own_documents:
            return await self._recover_run()
        if not attempt:
            return False
        job_id = progress.ticket.job_id
        chat_ids = [call_chat_id(job_id, attempt, call + 1) for call in range(progress.max_calls)]
        # A call that showed nothing may never have been made, and gets one look. A call for JSON
        # never shows anything before it is over.
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

    async def _recover_run(self) -> bool:
        """Publish the saved answer of the job's call under the conversation's own chatId."""
        progress = self._progress
        run = self._conversation.take_own()
        if run is None:
            return False
        # The answer is known to be saved: after one failed look, look again rather than call.
        found = await self._look([run.chat_id], progress.hold_left, run.answer)
        if found is None:
            return False
        progress.open_attempt = 0
        progress.ran = True
        progress.calls = max(progress.calls, run.call)
        self._show(found)
        await self._conversation.over()
        return True

    async def _recover(self, call: PredictionCall, failure: CallFailed) -> bool:
        """Publish the saved answer of a call whose stream failed; return whether there is one."""
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
        """Publish the saved text if the stream ended after a success and held no text."""
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
        after = "" if message_id else self._conversation.after
        if after is None:
            return None
        return await self._dependencies.recovery.look(flow, chat_ids, patience, message_id, after)

    def _show(self, found: Found) -> None:
        self._progress.recovered = True
        self._dependencies.meter.recovered()
        attempt = self._progress.attempt
        attempt.show_saved(found.answer, found.endpoint_chat_id)
        log.info("answer.recovered", calls=self._progress.calls)
        attempt.span.note("answer.recovered")

    def _next(self, span: Span, facts: FlowFacts) -> PredictionCall:
        ticket, attempt = self._progress.ticket, self._progress.attempt
        if facts.own_documents:
            chat_id = ticket.chat_id
        else:
            chat_id = call_chat_id(ticket.job_id, attempt.number, attempt.calls)
        return PredictionCall(
            ticket.job.chatflow_id,
            chat_id,
            prediction_body(ticket.job, ticket.chat_id, chat_id),
            facts.streams is not False and not ticket.blind,
            span.context,
        )
