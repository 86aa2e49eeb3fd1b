"""Make calls under a conversation's own chatId one at a time, also after a call was broken off.

Flows with uploaded documents need this: they find the documents by the chatId of the call. The
endpoint mixes up calls of equal chatId, and a broken-off call keeps writing to its own. The next
call therefore waits until the answer of that run is saved, or for the longest time of an attempt
after its last byte.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.open_run import OpenRun, RunsKnown
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.runs.recovery import Recovery

# Longer than the wait for which a job keeps its slot (`RetryPolicy.longest_stay`).
_LOOK_AGAIN_AFTER = timedelta(seconds=10)
# A job that has waited so often waits longer before its next look.
_OFTEN = 3


class CallRecords(Protocol):
    """The pool's memory of calls under a conversation's own chatId."""

    async def open_runs(self, job_id: str, chat_id: str) -> RunsKnown:
        """Return what is known of a conversation's calls."""

    async def note(self, run: OpenRun) -> None:
        """Add a record of one call."""


@dataclass(frozen=True, slots=True)
class Conversations:
    """The calls of conversations. Hold the chat's lock while you use it for a conversation.

    Attributes:
        journal: The pool's memory of such calls.
        recovery: The look-up of answers that the endpoint saved.
        longest: The longest time of an attempt.
    """

    journal: CallRecords
    recovery: Recovery
    longest: timedelta

    async def own_or_wait(self, ticket: Ticket) -> OpenRun | timedelta | None:
        """Find out whether a call can be made for a job.

        Returns:
            The job's own earlier run, if its answer is saved; the time to wait, if another run may
            still write; None if a call can be made.

        Raises:
            HistoryUnknown: The journal cannot be read now.
            ConnectionError: The journal does not exist, or the connection is lost.
        """
        now = datetime.now(UTC)
        run, answered = await self.journal.open_runs(ticket.job_id, ticket.chat_id)
        if run is None or run.until is None:
            return answered
        own, waits = run.job_id == ticket.job_id, run.until > now
        if own or waits:
            answer = await self._saved_answer(run)
            if answer is not None and own:
                return run
            if answer is not None:
                await self.note(run.over(answer))
                return answered
        if not waits:
            return answered
        # The worker that made the call no longer holds the chat lock: it reads no byte from now on.
        left = self.left(run, now)
        if left != run:
            await self.note(left)
        soon = run.after is not None and ticket.before.waits < _OFTEN
        return RETRY_DELAYS[0] if soon else self.pause_after(left)

    async def begun(self, ticket: Ticket, call: int, attempt_time: timedelta) -> OpenRun:
        """Return the record of a call that is about to be made.

        Args:
            ticket: The job.
            call: The number of the call among those of the job, from 1.
            attempt_time: The longest time of the attempt.
        """
        flow = ticket.job.chatflow_id
        after = await self.recovery.last_message_id(flow, ticket.chat_id)
        until = datetime.now(UTC) + attempt_time + self.longest
        return OpenRun(ticket.job_id, ticket.chat_id, flow, call, after, until)

    def left(self, run: OpenRun, last_byte: datetime) -> OpenRun:
        """Return the record of a run whose call nobody reads any more.

        Args:
            run: The record so far.
            last_byte: The latest time at which a byte of the call may have come, aware.
        """
        return run.until_at_most(last_byte + self.longest)

    def pause_after(self, run: OpenRun) -> timedelta:
        """Return how long to wait until the next call of the conversation, or the next look."""
        if run.until is None:
            return timedelta()
        left = max(timedelta(), run.until - datetime.now(UTC))
        return left if run.after is None else min(left, _LOOK_AGAIN_AFTER)

    async def note(self, run: OpenRun) -> None:
        """Write the record of a run to the journal.

        Raises:
            ConnectionError: The broker did not confirm the record.
        """
        await self.journal.note(run)

    async def _saved_answer(self, run: OpenRun) -> str | None:
        """Return the endpoint's id of a run's saved answer; None while none is saved."""
        if run.after is None:
            return None
        chat_ids = [run.chat_id]
        found = await self.recovery.look(run.chatflow_id, chat_ids, timedelta(), after=run.after)
        return None if found is None else found.answer.message_id
