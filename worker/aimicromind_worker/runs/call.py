"""The calls of a job, one at a time: made, or not made since the endpoint has saved the answer."""

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

# The answer is saved before the stream ends, so that one that is not there yet will not come.
_PATIENCE_AFTER_END = timedelta(seconds=2)


class Calls:
    """Makes the calls of one job and publishes their answers. Use it from the job's task."""

    def __init__(self, progress: Progress, dependencies: Dependencies) -> None:
        self._progress = progress
        self._dependencies = dependencies
        self._facts: FlowFacts | None = None
        self._asked_just_now = False
        self._last: PredictionCall | None = None
        self._conversation = ConversationCalls(progress, dependencies.conversations)

    async def pause_of_chat(self) -> timedelta | None:
        """Return how long the job must wait for what an earlier call of its chat may still say.

        Returns:
            None where there is nothing to wait for.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
            ConnectionError: It does not show it at all.
        """
        ticket = self._progress.ticket
        try:
            facts = await self._dependencies.predictions.facts(ticket.job.chatflow_id)
        except EndpointUnavailable:
            return RETRY_DELAYS[0]
        except CallFailed:
            # The call finds that again, and says so.
            return None
        self._facts, self._asked_just_now = facts, True
        if not facts.own_documents:
            return None
        return await self._conversation.pause()

    async def call(self) -> None:
        """Make one call and publish what it answers, or what the endpoint saved of it.

        Raises:
            CallFailed: It did not answer.
        """
        progress, attempt, call = self._progress, self._progress.attempt, None
        try:
            # Outside the attempt's time: an attempt that begins no call would never count.
            facts = await self._flow_facts()
            with self._dependencies.breaker.asking() as asking:
                if facts.own_documents:
                    await self._conversation.begin()
                with attempt.span.call(progress.calls + 1) as span:
                    async with attempt.deadline():
                        progress.calls += 1
                        self._dependencies.meter.call_begun()
                        attempt.calls += 1
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
        """Return what kind of flow it is: whose documents it uses does not change within a run."""
        known, is_new = self._facts, self._asked_just_now
        self._asked_just_now = False
        if known is not None and (is_new or known.streams is not None):
            return known
        facts = await self._dependencies.predictions.facts(self._progress.ticket.job.chatflow_id)
        if facts.own_documents and not (known is not None and known.own_documents):
            # Nobody knew when the run began, and has looked for what the chat must wait for.
            raise EndpointDown
        self._facts = facts if known is None else FlowFacts(facts.streams, known.own_documents)
        return self._facts

    async def note_broken_off(self) -> None:
        """Record in the journal what became of a call that was broken off, if one was."""
        await self._conversation.settle()

    def _count_broken_off(self, call: PredictionCall) -> None:
        """Count a call that was broken off; one that the endpoint never saw was none."""
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
        """Count a call that failed; one that the endpoint never saw was none."""
        progress = self._progress
        if failure.request_sent:
            self._dependencies.meter.call_failed(failure.kind)
        else:
            progress.calls -= 1
            progress.attempt.calls -= 1
            progress.unreached += 1
        # Where the server refused the key, nothing was run.
        progress.sent |= failure.request_sent and not failure.by_server
        self._dependencies.flows.failed(progress.ticket.job.chatflow_id, failure)

    async def abort(self) -> None:
        """Ask the endpoint to stop what the last call began, if there was one."""
        if self._last is None:
            return
        aborting = self._dependencies.predictions.abort(self._last)
        if self._last.endpoint_chat_id == self._progress.ticket.chat_id:
            # It names the conversation alone: later, it would stop the next call.
            await asyncio.wait([aborting])

    async def recover_lost(self) -> bool:
        """Show the saved answer to a call that another worker left open, if there is one."""
        progress, attempt = self._progress, self._progress.open_attempt
        if self._facts is not None and self._facts.own_documents:
            return await self._recover_run()
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

    async def _recover_run(self) -> bool:
        """Show the saved answer to a call under the conversation's own chatId."""
        progress = self._progress
        run = self._conversation.take_own()
        if run is None:
            return False
        # It is saved: one look that fails must not have it asked for again.
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
