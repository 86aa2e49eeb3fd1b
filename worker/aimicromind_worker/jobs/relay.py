"""Bring one job from the queue to its chat: through its gates, run, settled."""

from collections import OrderedDict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zlib import crc32

import structlog

from aimicromind_schemas import FailureKind, Names
from aimicromind_worker.core.job.admission import (
    Rejected,
    Ticket,
    Unnamed,
)
from aimicromind_worker.core.job.delays import RETRY_DELAYS, delay_within
from aimicromind_worker.core.job.history import HistoryUnknown
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs.intake import Intake, note_fault
from aimicromind_worker.jobs.ports import Chats, Delivery, HeldChat
from aimicromind_worker.jobs.quarantine import Quarantine
from aimicromind_worker.jobs.registry import HeldJob, JobRegistry
from aimicromind_worker.jobs.settlement import settle
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.means import Means
from aimicromind_worker.runs.outcome import Cancelled, Failed, Outcome, Waits
from aimicromind_worker.runs.run import JobRun

log = structlog.get_logger()

# Another worker may reach an endpoint that this one does not.
_PATIENCE_FOR_THE_ENDPOINT = timedelta(minutes=1)
# A lost worker's chat locks end a little after its jobs have gone to others.
_PATIENCE_FOR_THE_DEAD = timedelta(seconds=1)
_ENDS_REMEMBERED = 10_000
# A job that has waited on the broker so often waits longer: a long backlog must not keep it busy.
_OFTEN = 3


class Relay:
    """Carries jobs, any number at a time."""

    def __init__(
        self,
        means: Means,
        intake: Intake,
        chat_locks: Chats,
        held: JobRegistry,
        names: Names,
        turns: Turns,
    ) -> None:
        """Prepare to carry jobs.

        Args:
            means: What every run needs.
            intake: Admits deliveries and looks jobs up.
            chat_locks: What makes sure that no other worker runs a job of the same chat.
            held: Where cancel requests find the jobs that are carried.
            names: The topology's names.
            turns: Say when a job may be run.
        """
        self._means = means
        self._intake = intake
        self._chat_locks = chat_locks
        self._held = held
        self._turns = turns
        self._quarantine = Quarantine()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._names = names
        self._runs: set[JobRun] = set()
        self._shutting_down = False

    def shut_down_runs(self) -> None:
        """Interrupt the running jobs, so that other workers go on with them."""
        self._shutting_down = True
        self._turns.end_waits()
        self._means.breaker.end_waits()
        for run in self._runs:
            run.shut_down()

    async def carry(self, delivery: Delivery) -> None:
        """Run the job of one delivery to its end and settle the delivery.

        Raises:
            ConnectionError: The broker is gone; the delivery is not settled.
        """
        await self._intake.guarded(self._carry(delivery), delivery)

    async def _carry(self, delivery: Delivery) -> None:
        match await self._intake.admit(delivery):
            case Unnamed():
                log.info("job.got_an_id")
                await delivery.requeue(_state_unnamed(delivery.facts))
            case Rejected() as rejected:
                with self._intake.told_of(rejected, delivery, self._names.jobs) as span:
                    await self._intake.reject(rejected, delivery, span)
            case Ticket() as ticket:
                with (
                    self._intake.told_of(ticket, delivery, self._names.jobs) as span,
                    self._held.holding(ticket, span) as job,
                ):
                    try:
                        await self._carry_if_possible(job, delivery)
                    except HistoryUnknown as error:
                        log.warning("job.history_unknown", reason=str(error))
                        await delivery.requeue(_state_unrun(job.ticket), _pause(job.ticket))

    async def _carry_if_possible(self, job: HeldJob, delivery: Delivery) -> None:
        """Run a job unless the endpoint is down; while it waits for that, no other is taken."""
        deadline = job.ticket.deadline
        patience = min(_PATIENCE_FOR_THE_ENDPOINT, deadline - datetime.now(UTC))
        flow = job.ticket.job.chatflow_id
        async with self._means.breaker.gate(flow, job.called_off, patience) as passes:
            if deadline <= datetime.now(UTC):
                await self._carry_in_turn(job, delivery)
            elif not passes:
                # Where it comes back to, it is woken once calls are made again.
                await self._requeue_unrun(job, delivery, RETRY_DELAYS[0])
            elif await self._means.flows.passes(flow, job.called_off, patience):
                await self._carry_in_turn(job, delivery)
            else:
                locked = self._means.flows.is_locked(flow)
                await self._requeue_unrun(job, delivery, RETRY_DELAYS[1] if locked else None)

    async def _carry_in_turn(self, job: HeldJob, delivery: Delivery) -> None:
        """Run a job once no other of its chat runs, here or elsewhere."""
        ticket = job.ticket
        patience = _PATIENCE_FOR_THE_DEAD if ticket.came_before else timedelta()
        async with self._turns.turn(ticket.chat_id, job.called_off) as came:
            # Before all that takes time: a job that waits is not here when a suspect job ends us.
            with self._quarantine.admitted(ticket) as admitted:
                if not came or not admitted:
                    await self._requeue_unrun(job, delivery)
                    return
                async with self._chat_locks.hold(ticket.chat_id, patience) as chat_lock:
                    if chat_lock is None:
                        await self._requeue_unrun(job, delivery)
                    elif await self._is_open(job, delivery):
                        await self._run_unless_leaving(job, delivery, chat_lock)

    async def _run_unless_leaving(
        self, job: HeldJob, delivery: Delivery, chat_lock: HeldChat
    ) -> None:
        with self._means.flows.running(job.ticket.job.chatflow_id) as may_run:
            expired = job.ticket.deadline <= datetime.now(UTC)
            if self._shutting_down or not (may_run or expired):
                await self._requeue_unrun(job, delivery)
            else:
                await self._run(job, delivery, chat_lock)

    async def _is_open(self, job: HeldJob, delivery: Delivery) -> bool:
        """Find out what is known of a job that may have been run; if it has ended, settle it."""
        ticket = job.ticket
        if ticket.job_id in self._ended:
            log.info("job.ended_before")
            await delivery.ack()
            return False
        if ticket.came_before:
            known = await self._intake.known(ticket.job_id, ticket.facts)
            if known.status is not None:
                await self._intake.repeat_end(ticket.job_id, known, delivery, job.span)
                return False
            job.ticket = ticket.knowing(known)
        return True

    async def _requeue_unrun(
        self, job: HeldJob, delivery: Delivery, pause: timedelta | None = None
    ) -> None:
        """Requeue a job that was not run, behind a delay: it holds no slot and costs no attempt."""
        if job.called_off.done():
            await self._call_off(job, delivery)
            return
        log.debug("job.waits")
        job.span.note("job.waits")
        pause = _pause(job.ticket) if pause is None else pause
        delay = timedelta() if self._shutting_down else pause
        await delivery.requeue(_state_unrun(job.ticket), delay)

    async def _call_off(self, job: HeldJob, delivery: Delivery) -> None:
        """End a cancelled job that waits: its chat may be another job's for long."""
        if await self._is_open(job, delivery):
            run = JobRun(job.ticket, self._means, job.span)
            await settle(run.progress, Cancelled(), delivery)
            self._remember(job.ticket.job_id)
            self._intake.measure(Cancelled(), run.progress)

    async def _run(self, job: HeldJob, delivery: Delivery, chat_lock: HeldChat) -> None:
        ticket = job.ticket
        run = JobRun(ticket, self._means, job.span)
        job.runs(run)
        self._runs.add(run)
        chat_lock.on_loss = run.shut_down
        try:
            outcome = await self._outcome(run)
            if isinstance(outcome, Waits):
                left = max(timedelta(), ticket.deadline - datetime.now(UTC))
                await self._requeue_unrun(job, delivery, delay_within(min(outcome.pause, left)))
                return
            if await settle(run.progress, outcome, delivery):
                self._remember(ticket.job_id)
            self._intake.measure(outcome, run.progress)
        finally:
            self._runs.discard(run)

    async def _outcome(self, run: JobRun) -> Outcome | Waits:
        """Run the job; a fault of our own fails it alone."""
        try:
            return await run.run()
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            note_fault(error)
            return Failed(FailureKind.INTERNAL, "a fault in the worker; its log says where")

    def _remember(self, job_id: str) -> None:
        self._ended[job_id] = None
        if len(self._ended) > _ENDS_REMEMBERED:
            self._ended.popitem(last=False)


def _state_unnamed(facts: MessageFacts) -> JobState:
    """Return the state of a job that has no id yet: its message's expiration is kept."""
    return replace(facts.carried, deadline=facts.expires_at or facts.carried.deadline)


def _state_unrun(ticket: Ticket) -> JobState:
    return replace(ticket.before, waits=ticket.before.waits + 1)


def _pause(ticket: Ticket) -> timedelta:
    """Return how long a job waits on the broker before it is delivered again."""
    waits = ticket.before.waits
    # Suspect jobs wait for each other, a few at most; a lost broker makes all jobs suspect.
    if ticket.before.crashes or waits < _OFTEN:
        return RETRY_DELAYS[0]
    # The jobs of a backlog must not come all at once, and then none for long.
    comes_soon = (waits + crc32(ticket.job_id.encode())) % _OFTEN == 0
    return RETRY_DELAYS[0] if comes_soon else RETRY_DELAYS[1]
