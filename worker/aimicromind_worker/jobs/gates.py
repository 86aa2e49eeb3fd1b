"""The gates between a delivery and its run, in the order in which a job passes them."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aimicromind_worker.core.job.history import History
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.jobs.intake import Intake
from aimicromind_worker.jobs.ports import Chats
from aimicromind_worker.jobs.quarantine import Quarantine
from aimicromind_worker.jobs.registry import HeldJob
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.dependencies import Dependencies

# Another worker may reach an endpoint that this one does not.
_PATIENCE_FOR_ENDPOINT = timedelta(minutes=1)
# A lost worker's chat locks end a little after its jobs have gone to others.
_PATIENCE_FOR_LOST_WORKER = timedelta(seconds=1)
_ENDS_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class GoOn:
    """The job may pass."""


@dataclass(frozen=True, slots=True)
class MustWait:
    """The job must wait on the broker.

    Attributes:
        pause: How long; None: by how often it has waited.
    """

    pause: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The job has ended before.

    Attributes:
        known: What the journal says; None where this worker has ended it itself.
    """

    known: History | None


Answer = GoOn | MustWait | Ended


class Gates:
    """All gates of a worker. A gate holds what it let a job have until the job leaves.

    An expired job waits for nothing but its chat: its end is one of the chat's events.
    """

    def __init__(
        self, dependencies: Dependencies, intake: Intake, chat_locks: Chats, turns: Turns
    ) -> None:
        """Open the gates.

        Args:
            dependencies: The circuit breaker and the flows, which every run needs, too.
            intake: Looks jobs up.
            chat_locks: Keeps other workers from a job of the same chat.
            turns: Order the jobs within this worker.
        """
        self._breaker = dependencies.breaker
        self._flows = dependencies.flows
        self._intake = intake
        self._chat_locks = chat_locks
        self._turns = turns
        self._quarantine = Quarantine()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self.are_shut = False

    def shut(self) -> None:
        """End all waits, and let no more jobs pass."""
        self.are_shut = True
        self._turns.end_waits()
        self._breaker.end_waits()

    @asynccontextmanager
    async def passing(self, job: HeldJob) -> AsyncIterator[Answer]:
        """Lead a job through the gates, and hold them for the body.

        Yields:
            `GoOn`, or the answer of the first gate that does not let the job pass.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
        """
        async with AsyncExitStack() as held:
            answer: Answer = GoOn()
            for gate in (
                self._endpoint,
                self._key_of_flow,
                self._turn,
                # Before all that takes time: a job that waits must not be here when a suspect job
                # ends the worker.
                self._quarantined,
                self._chat_lock,
                self._history,
                self._share_of_flow,
            ):
                answer = await held.enter_async_context(gate(job))
                if not isinstance(answer, GoOn):
                    break
            yield answer

    async def look_up(self, job: HeldJob) -> GoOn | Ended:
        """Find out whether a job has ended; else add to it what the pool knows of it.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
        """
        ticket = job.ticket
        if ticket.job_id in self._ended:
            return Ended(None)
        if ticket.came_before:
            known = await self._intake.known(ticket.job_id, ticket.facts)
            if known.status is not None:
                return Ended(known)
            job.ticket = ticket.knowing(known)
        return GoOn()

    def note_end(self, job: HeldJob) -> None:
        """Remember that a job has ended: a copy of it may be here already."""
        self._ended[job.ticket.job_id] = None
        if len(self._ended) > _ENDS_REMEMBERED:
            self._ended.popitem(last=False)

    @asynccontextmanager
    async def _endpoint(self, job: HeldJob) -> AsyncIterator[Answer]:
        """Ask the circuit breaker; while a job waits for it, no other is taken."""
        flow = job.ticket.job.chatflow_id
        async with self._breaker.gate(flow, job.cancelled, _patience(job)) as passes:
            # Where it comes back to, it is woken once calls are made again.
            yield GoOn() if passes or _is_expired(job) else MustWait(RETRY_DELAYS[0])

    @asynccontextmanager
    async def _key_of_flow(self, job: HeldJob) -> AsyncIterator[Answer]:
        """Let a job wait whose flow the server refuses the API key."""
        flow = job.ticket.job.chatflow_id
        if _is_expired(job) or await self._flows.passes(flow, job.cancelled, _patience(job)):
            yield GoOn()
        else:
            yield MustWait(RETRY_DELAYS[1] if self._flows.is_locked(flow) else None)

    @asynccontextmanager
    async def _turn(self, job: HeldJob) -> AsyncIterator[Answer]:
        """MustWait for the chat's earlier jobs in this worker, and for a slot."""
        async with self._turns.turn(job.ticket.chat_id, job.cancelled) as granted:
            yield GoOn() if granted else MustWait()

    @asynccontextmanager
    async def _quarantined(self, job: HeldJob) -> AsyncIterator[Answer]:
        """Keep a job that may have ended two workers apart from other suspect jobs."""
        with self._quarantine.admitted(job.ticket) as admitted:
            yield GoOn() if admitted else MustWait()

    @asynccontextmanager
    async def _chat_lock(self, job: HeldJob) -> AsyncIterator[Answer]:
        """Lock the chat, so that no other worker runs a job of it."""
        patience = _PATIENCE_FOR_LOST_WORKER if job.ticket.came_before else timedelta()
        async with self._chat_locks.hold(job.ticket.chat_id, patience) as chat_lock:
            job.chat_lock = chat_lock
            yield MustWait() if chat_lock is None else GoOn()

    @asynccontextmanager
    async def _history(self, job: HeldJob) -> AsyncIterator[Answer]:
        """Look the job up; what is found stays true only while the chat is locked."""
        yield await self.look_up(job)

    @asynccontextmanager
    async def _share_of_flow(self, job: HeldJob) -> AsyncIterator[Answer]:
        """Keep most slots from a flow whose calls fail."""
        with self._flows.running(job.ticket.job.chatflow_id) as may_run:
            passes = (may_run or _is_expired(job)) and not self.are_shut
            yield GoOn() if passes else MustWait()


def _is_expired(job: HeldJob) -> bool:
    return job.ticket.deadline <= datetime.now(UTC)


def _patience(job: HeldJob) -> timedelta:
    return min(_PATIENCE_FOR_ENDPOINT, job.ticket.deadline - datetime.now(UTC))
