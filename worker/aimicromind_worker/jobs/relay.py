"""Take each job from delivery to settlement: admit it, pass the gates, run it, settle it."""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zlib import crc32

import structlog

from aimicromind_schemas import FailureKind, Names
from aimicromind_schemas.journal.history import HistoryUnknown
from aimicromind_worker.core.job.admission import (
    Rejected,
    Ticket,
    Unnamed,
)
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.retry import RETRY_DELAYS, delay_within
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs.gates import Gates, GoOn, MustWait, RunsElsewhere
from aimicromind_worker.jobs.intake import Ended, Intake, note_fault
from aimicromind_worker.jobs.ports import Delivery
from aimicromind_worker.jobs.registry import HeldJob, JobRegistry
from aimicromind_worker.jobs.settlement import settle
from aimicromind_worker.runs.dependencies import Dependencies
from aimicromind_worker.runs.outcome import Cancelled, Failed, Outcome, Waits
from aimicromind_worker.runs.run import JobRun

log = structlog.get_logger()

# A job that has waited so often waits longer: a long backlog must not keep the broker busy.
_OFTEN = 3


class Relay:
    """Takes jobs from delivery to settlement; any number of tasks may call it."""

    def __init__(
        self,
        dependencies: Dependencies,
        intake: Intake,
        gates: Gates,
        held: JobRegistry,
        names: Names,
    ) -> None:
        """Prepare to carry jobs.

        Args:
            dependencies: What all runs share.
            intake: The admission and look-up of jobs.
            gates: The checks that a job passes before it is run.
            held: The registry in which cancel requests find jobs.
            names: The names of exchanges and queues.
        """
        self._dependencies = dependencies
        self._intake = intake
        self._gates = gates
        self._held = held
        self._names = names
        self._runs: set[JobRun] = set()

    @property
    def held(self) -> Mapping[str, int]:
        """The numbers of jobs in this worker, see `JobRegistry.counts`."""
        return self._held.counts

    def shut_down_runs(self) -> None:
        """Interrupt all running jobs; other workers go on with them."""
        self._gates.shut()
        for run in self._runs:
            run.shut_down()

    def hand_back_waiting(self) -> None:
        """End the waits for chats and slots; other workers take these jobs at once."""
        self._gates.end_waits_for_chats()

    async def carry(self, delivery: Delivery) -> None:
        """Run the job of one delivery to its outcome, and settle the delivery.

        Raises:
            ConnectionError: The connection to the broker is lost; the delivery is not settled.
        """
        await self._intake.guarded(self._carry(delivery), delivery)

    async def _carry(self, delivery: Delivery) -> None:
        match await self._intake.admit(delivery):
            case Unnamed():
                log.info("job.got_an_id")
                await delivery.requeue(_state_unnamed(delivery.facts))
            case Rejected() as rejected:
                with self._intake.span_of(rejected, delivery, self._names.jobs) as span:
                    await self._intake.reject(rejected, delivery, span)
            case Ticket() as ticket:
                with (
                    self._intake.span_of(ticket, delivery, self._names.jobs) as span,
                    self._held.holding(ticket, span) as job,
                ):
                    log.debug("job.delivered")
                    try:
                        await self._carry_through_gates(job, delivery)
                    except HistoryUnknown as error:
                        log.warning("job.history_unknown", reason=str(error))
                        await delivery.requeue(_state_unrun(job.ticket), _pause(job.ticket))

    async def _carry_through_gates(self, job: HeldJob, delivery: Delivery) -> None:
        async with AsyncExitStack() as held:
            match await self._gates.admit(job, held):
                case GoOn():
                    await self._run(job, delivery)
                case MustWait(pause):
                    await self._requeue_unrun(job, delivery, pause)
                case Ended() as ended:
                    await self._repeat_end(job, ended, delivery)
                case RunsElsewhere():
                    await self._wait_for_first(job, delivery)

    async def _repeat_end(self, job: HeldJob, ended: Ended, delivery: Delivery) -> None:
        is_copy = job.ticket.before.is_unrun
        await self._intake.repeat_end(ended, delivery, job.span, is_copy=is_copy)

    async def _wait_for_first(self, job: HeldJob, delivery: Delivery) -> None:
        """Requeue a copy of a job that runs; once the copy has expired, it waits no more."""
        if job.ticket.deadline > datetime.now(UTC):
            await delivery.requeue(_state_unrun(job.ticket), _pause(job.ticket))
        else:
            log.info("job.copy_expired")
            await delivery.ack()

    async def _requeue_unrun(
        self, job: HeldJob, delivery: Delivery, pause: timedelta | None = None
    ) -> None:
        """Requeue a job that was not run, with a delay; this uses up no attempt."""
        if job.cancelled.done():
            await self._end_cancelled(job, delivery)
            return
        log.debug("job.waits")
        job.span.note("job.waits")
        pause = _pause(job.ticket) if pause is None else pause
        delay = timedelta() if self._gates.no_waits else pause
        await delivery.requeue(_state_unrun(job.ticket), delay)

    async def _end_cancelled(self, job: HeldJob, delivery: Delivery) -> None:
        """End a cancelled job without waiting for its chat, which may be busy for long."""
        match await self._gates.look_up(job):
            case Ended() as ended:
                await self._repeat_end(job, ended, delivery)
                return
            case RunsElsewhere():
                # The cancel reaches the job where it runs, and that publishes its `end`.
                await self._wait_for_first(job, delivery)
                return
            case GoOn():
                pass
        run = JobRun(job.ticket, self._dependencies, job.span)
        await settle(run.progress, Cancelled(), delivery)
        self._gates.note_end(job)
        self._intake.measure(Cancelled(), run.progress)

    async def _run(self, job: HeldJob, delivery: Delivery) -> None:
        ticket = job.ticket
        run = JobRun(ticket, self._dependencies, job.span)
        job.attach(run)
        self._runs.add(run)
        if job.chat is not None:
            job.chat.on_loss = run.shut_down
            job.chat.run(run.progress)
        try:
            outcome = await self._outcome(run)
            if isinstance(outcome, Waits):
                left = max(timedelta(), ticket.deadline - datetime.now(UTC))
                await self._requeue_unrun(job, delivery, delay_within(min(outcome.pause, left)))
                return
            if await settle(run.progress, outcome, delivery):
                self._gates.note_end(job)
            self._intake.measure(outcome, run.progress)
        finally:
            self._runs.discard(run)
            if job.chat is not None:
                job.chat.run(None)

    async def _outcome(self, run: JobRun) -> Outcome | Waits:
        """Run the job; a fault of the worker fails this job alone."""
        try:
            return await run.run()
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            note_fault(error)
            return Failed(FailureKind.INTERNAL, "a fault in the worker: see its log")


def _state_unnamed(facts: MessageFacts) -> JobState:
    """Return the state of a job without an id, with the message's expiration as its deadline."""
    return replace(facts.carried, deadline=facts.expires_at or facts.carried.deadline)


def _state_unrun(ticket: Ticket) -> JobState:
    return replace(ticket.before, waits=ticket.before.waits + 1)


def _pause(ticket: Ticket) -> timedelta:
    """Return how long a job waits on the broker before it is delivered again."""
    waits = ticket.before.waits
    # Suspect jobs keep the short delay: they wait for few others, and all jobs are suspect after a
    # lost connection.
    if ticket.before.crashes or waits < _OFTEN:
        return RETRY_DELAYS[0]
    # Every third wait is short; which one depends on the id. This spreads the jobs of a backlog.
    comes_soon = (waits + crc32(ticket.job_id.encode())) % _OFTEN == 0
    return RETRY_DELAYS[0] if comes_soon else RETRY_DELAYS[1]
