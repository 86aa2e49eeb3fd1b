"""Decide whether a job may run now, by a list of checks called gates.

Invariants:

- A job passes the gates in one fixed order. The first gate that stops it decides what follows.
- The chat's turn comes before all waits for the endpoint, which keep the order of the chat.
- A gate is held, as a context manager, until the job is settled.
- An expired job waits only for its chat, because its `end` is one of the chat's events.
"""

from collections import OrderedDict
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from aimicromind_schemas.journal.history import History
from aimicromind_worker.core.job.admission import Ticket
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.jobs.intake import Ended, Intake
from aimicromind_worker.jobs.quarantine import Quarantine
from aimicromind_worker.jobs.registry import HeldJob, JobRegistry
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.dependencies import Dependencies

# After this time the job is requeued: another worker may reach the endpoint.
_PATIENCE_FOR_ENDPOINT = timedelta(minutes=1)
_ENDS_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class GoOn:
    """The job may pass."""


@dataclass(frozen=True, slots=True)
class MustWait:
    """The job must wait on the broker.

    Attributes:
        pause: The retry delay; None: `jobs/relay.py` chooses it by the job's earlier waits.
    """

    pause: timedelta | None = None


@dataclass(frozen=True, slots=True)
class RunsElsewhere:
    """Another message with this `jobId` was run, and has not ended."""


GO_ON: Final = GoOn()
Answer = GoOn | MustWait | Ended | RunsElsewhere


class Gates:
    """All gates of a session.

    Attributes:
        are_shut: Whether no job passes any more.
        no_waits: Whether the worker drains, and jobs that would have to wait are requeued at once.
    """

    def __init__(
        self,
        dependencies: Dependencies,
        intake: Intake,
        turns: Turns,
        held: JobRegistry,
    ) -> None:
        """Prepare the gates.

        Args:
            dependencies: What all runs share; the circuit breaker and the flows are used here.
            intake: The look-up of jobs in the journal.
            turns: The turns of the jobs, in their chats over all workers, and for a slot.
            held: The jobs of this worker, and the cancel requests that it knows.
        """
        self._breaker = dependencies.breaker
        self._flows = dependencies.flows
        self._intake = intake
        self._turns = turns
        self._held = held
        self._in_order = (
            self._cancels,
            self._chat,
            self._endpoint,
            self._key_of_flow,
            self._slot,
            self._quarantined,
            self._history,
            self._share_of_flow,
        )
        self._quarantine = Quarantine()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self.are_shut = False
        self.no_waits = False

    def shut(self) -> None:
        """End all waits; no job passes any more."""
        self.are_shut = True
        self.end_waits_for_chats()
        self._breaker.end_waits()

    def end_waits_for_chats(self) -> None:
        """End the waits for chats and slots: other workers run these jobs."""
        self.no_waits = True
        self._turns.end_waits()

    async def admit(self, job: HeldJob, held: AsyncExitStack) -> Answer:
        """Take a job through the gates.

        Args:
            job: The job.
            held: Gets what the gates hold until the job is settled.

        Returns:
            `GoOn`, or the answer of the first gate that stops the job.

        Raises:
            HistoryUnknown: The journal cannot be read now.
            ConnectionError: The connection to the broker is lost.
        """
        for gate in self._in_order:
            answer = await gate(job, held)
            if not isinstance(answer, GoOn):
                return answer
        return GO_ON

    async def look_up(self, job: HeldJob) -> GoOn | Ended | RunsElsewhere:
        """Return whether a job has ended or runs; if neither, add its history to its ticket.

        A job that is new costs no wait: of another message with its `jobId`, it is known what the
        worker has read of the journal by now.

        Raises:
            HistoryUnknown: The journal cannot be read now.
            ConnectionError: The connection to the broker is lost.
        """
        ticket = job.ticket
        if ticket.came_before or ticket.job_id in self._ended:
            known = await self._intake.known(ticket.job_id, ticket.facts)
        elif (recalled := self._intake.recalled(ticket.job_id)) is not None:
            known = recalled
        else:
            return GO_ON
        if known.status is not None:
            found = await self._by_its_record(ticket, known)
            if not isinstance(found, History):
                return found
            known = found
        if ticket.before.is_unrun and known.last_attempt:
            return RunsElsewhere()
        job.ticket = ticket.knowing(known)
        return GO_ON

    async def _by_its_record(
        self, ticket: Ticket, known: History
    ) -> Ended | RunsElsewhere | History:
        """Return what is true of a job whose `end` the journal records, if it was not ended."""
        end = await self._intake.end_of(ticket.job_id, known)
        if isinstance(end, Ended):
            return end
        if ticket.before.is_unrun:
            return RunsElsewhere() if end.is_recent else Ended(known)
        # A worker was lost between the record and the `end`.
        return await self._intake.known_unended(ticket.job_id, ticket.facts)

    def note_end(self, job: HeldJob) -> None:
        """Remember that a job has ended: a second copy of it may already wait in this worker."""
        self._ended[job.ticket.job_id] = None
        if len(self._ended) > _ENDS_REMEMBERED:
            self._ended.popitem(last=False)

    async def _cancels(self, job: HeldJob, _: AsyncExitStack) -> Answer:
        """Wait, for a short time after the start, for old cancel requests to be read."""
        await self._held.until_requests_known(job.ticket)
        return GO_ON

    async def _chat(self, job: HeldJob, held: AsyncExitStack) -> Answer:
        """Wait for the job's turn in its chat, over all workers."""
        job.chat = await held.enter_async_context(self._turns.in_chat(job))
        return MustWait() if job.chat is None else GO_ON

    async def _endpoint(self, job: HeldJob, held: AsyncExitStack) -> Answer:
        """Wait for the circuit breaker; a waiting job keeps its place in the prefetch."""
        gate = self._breaker.gate(job.ticket.job.chatflow_id, job.cancelled, self._patience(job))
        passes = await held.enter_async_context(gate)
        # The next worker makes it wait until calls are made again.
        return GO_ON if passes or _is_expired(job) else MustWait(RETRY_DELAYS[0])

    async def _key_of_flow(self, job: HeldJob, _: AsyncExitStack) -> Answer:
        """Make a job wait while the server refuses the API key for its flow."""
        flow = job.ticket.job.chatflow_id
        if _is_expired(job) or await self._flows.passes(flow, job.cancelled, self._patience(job)):
            return GO_ON
        return MustWait(RETRY_DELAYS[1] if self._flows.is_locked(flow) else None)

    async def _slot(self, job: HeldJob, held: AsyncExitStack) -> Answer:
        """Wait for a slot."""
        return GO_ON if await held.enter_async_context(self._turns.slot(job)) else MustWait()

    async def _quarantined(self, job: HeldJob, held: AsyncExitStack) -> Answer:
        """Run a job that was lost with two workers apart from all other suspect jobs."""
        if not job.ticket.before.crashes:
            return GO_ON
        admitted = held.enter_context(self._quarantine.admitted(job.ticket))
        return GO_ON if admitted else MustWait()

    async def _history(self, job: HeldJob, _: AsyncExitStack) -> Answer:
        """Look the job up; the result holds only while the chat is held."""
        return await self.look_up(job)

    async def _share_of_flow(self, job: HeldJob, held: AsyncExitStack) -> Answer:
        """Limit a flow whose calls fail to a part of the slots."""
        may_run = held.enter_context(self._flows.running(job.ticket.job.chatflow_id))
        passes = (may_run or _is_expired(job)) and not self.are_shut and not _is_lost(job)
        return GO_ON if passes else MustWait()

    def _patience(self, job: HeldJob) -> timedelta:
        to_deadline = job.ticket.deadline - datetime.now(UTC)
        return min(_PATIENCE_FOR_ENDPOINT, to_deadline, self._turns.left_for(job))


def _is_lost(job: HeldJob) -> bool:
    return job.chat is not None and job.chat.is_lost


def _is_expired(job: HeldJob) -> bool:
    return job.ticket.deadline <= datetime.now(UTC)
