"""Flows that use a conversation's own chatId: one call at a time, also where nobody saw its end.

Such a flow finds what was uploaded to the conversation by the chatId of the call. The endpoint
mixes up calls of equal chatId, and one that was cut goes on writing to its own: the next one waits
until that run's answer is saved, or for an attempt's longest time after its last byte.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.open_run import OpenRun, RunsKnown
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.runs.recovery import Recovery

# Longer than a job keeps its slot.
_LOOK_AGAIN_AFTER = timedelta(seconds=10)
# A job that has waited so often looks again less often.
_OFTEN = 3


class CallRecords(Protocol):
    """The pool's memory of such calls."""

    async def open_runs(self, job_id: str, chat_id: str, since: datetime) -> RunsKnown:
        """Return what is known of those of a conversation."""

    async def note(self, run: OpenRun) -> None:
        """Add what is known of one."""


@dataclass(frozen=True, slots=True)
class Conversations:
    """Whoever uses it for a conversation holds its chat.

    Attributes:
        journal: What other workers know, too.
        recovery: Where the endpoint's answers are.
        longest: Longest time of an attempt.
    """

    journal: CallRecords
    recovery: Recovery
    longest: timedelta

    async def own_or_wait(self, ticket: Ticket) -> OpenRun | timedelta | None:
        """Find out whether a job can be called for.

        Returns:
            The job's own run, whose answer is saved; how long to wait for another one; None where
            there is nothing to wait for.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
            ConnectionError: It does not show it at all.
        """
        now = datetime.now(UTC)
        run, answered = await self.journal.open_runs(
            ticket.job_id, ticket.chat_id, now - 2 * self.longest
        )
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
        # Who made the call holds the chat no more: no byte came after this moment.
        left = self.left(run, now)
        if left != run:
            await self.note(left)
        soon = run.after is not None and ticket.before.waits < _OFTEN
        return RETRY_DELAYS[0] if soon else self.pause_after(left)

    async def begun(self, ticket: Ticket, call: int, attempt_time: timedelta) -> OpenRun:
        """Return what the journal must know of a call before it is made.

        Args:
            ticket: The job.
            call: The call's place among those of the job, from 1.
            attempt_time: Longest time of the attempt.
        """
        flow = ticket.job.chatflow_id
        after = await self.recovery.last_message_id(flow, ticket.chat_id)
        until = datetime.now(UTC) + attempt_time + self.longest
        return OpenRun(ticket.job_id, ticket.chat_id, flow, call, after, until)

    def left(self, run: OpenRun, last_byte: datetime) -> OpenRun:
        """Return what is known of a run once nobody reads its call."""
        return run.until_at_most(last_byte + self.longest)

    def pause_after(self, run: OpenRun) -> timedelta:
        """Return how long to wait until the conversation's next call, or until another look."""
        if run.until is None:
            return timedelta()
        left = max(timedelta(), run.until - datetime.now(UTC))
        return left if run.after is None else min(left, _LOOK_AGAIN_AFTER)

    async def note(self, run: OpenRun) -> None:
        """Write a run to the journal.

        Raises:
            ConnectionError: It does not take it.
        """
        await self.journal.note(run)

    async def _saved_answer(self, run: OpenRun) -> str | None:
        """Return the endpoint's id of a run's answer, None as long as none is saved."""
        if run.after is None:
            return None
        chat_ids = [run.chat_id]
        found = await self.recovery.look(run.chatflow_id, chat_ids, timedelta(), after=run.after)
        return None if found is None else found.answer.message_id
