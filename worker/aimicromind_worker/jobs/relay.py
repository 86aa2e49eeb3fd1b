"""Carry one job from the queue to its chat: admit it, look it up, run it, have it settled."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from traceback import extract_tb
from typing import Protocol
from zlib import crc32

import structlog
from structlog.contextvars import bound_contextvars, unbind_contextvars

from aimicromind_schemas import FailureKind, Names
from aimicromind_worker.core.job.admission import (
    Admission,
    MessageFacts,
    Rejected,
    Ticket,
    Unnamed,
    admit,
    faulty,
)
from aimicromind_worker.core.job.content_encoding import is_packed
from aimicromind_worker.core.job.delays import RETRY_DELAYS, delay_within
from aimicromind_worker.core.job.history import History, HistoryUnknown
from aimicromind_worker.jobs.quarantine import Quarantine
from aimicromind_worker.jobs.registry import HeldJob, JobRegistry
from aimicromind_worker.jobs.settlement import (
    Delivery,
    reject,
    repeat_end,
    settle,
    state_unnamed,
    state_unrun,
)
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.runs.call import Means
from aimicromind_worker.runs.outcome import Cancelled, Failed, Outcome, Waits, in_words
from aimicromind_worker.runs.progress import Progress
from aimicromind_worker.runs.run import JobRun
from aimicromind_worker.telemetry.tracing import Span, trace_id

log = structlog.get_logger()

# Another worker may reach an endpoint that this one does not.
_PATIENCE_FOR_THE_ENDPOINT = timedelta(minutes=1)
# A lost worker's lease ends a little after its jobs have gone to others.
_PATIENCE_FOR_THE_DEAD = timedelta(seconds=1)
# A broker that restarts counts up to three losses for each job that a worker had. A worker that
# lost the broker, and not its life, puts the losses of the jobs that come soon down to that.
_FORGIVES_S = 60.0
_ENDS_REMEMBERED = 10_000
# What is longer can hold the event loop for more than some milliseconds.
_READ_AT_ONCE_BYTES = 64 * 1024
# A job that has waited outside so often waits longer, lest a long line keeps the broker busy.
_OFTEN = 3
_GIVEN_UP_OFTEN = (
    FailureKind.DELIVERY_LIMIT,
    "the job was delivered as often as the queue allows, and no worker finished it",
)
_GIVEN_UP = {"expired": (FailureKind.EXPIRED, "the job's time ran out in the queue")}


class JobHistory(Protocol):
    """The pool's memory of jobs."""

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Return what is known of a job that was put on the queue at that time."""

    async def end_of(self, job_id: str) -> bytes | None:
        """Return the end that a look-up has found, None if it is there no more."""


class HeldChat(Protocol):
    """A lease while it is held."""

    on_loss: Callable[[], None]


class Chats(Protocol):
    """The pool's rule of one job per chat at a time."""

    def hold(
        self, chat_id: str, patience: timedelta
    ) -> AbstractAsyncContextManager[HeldChat | None]:
        """Hold a chat's lease for the body; None where another worker has it."""


class Relay:
    """Carries jobs, any number at a time."""

    def __init__(  # noqa: PLR0913, PLR0917 - one for each part of the worker
        self,
        means: Means,
        journal: JobHistory,
        chat_locks: Chats,
        held: JobRegistry,
        names: Names,
        lifetime: timedelta,
        max_job_bytes: int,
        turns: Turns,
        *,
        after_loss: bool = False,
    ) -> None:
        """Prepare to carry jobs.

        Args:
            means: What every run needs.
            journal: The pool's memory.
            chat_locks: What makes sure that no other worker runs a job of the same chat.
            held: Where cancel requests find the jobs that are carried.
            names: The topology's names.
            lifetime: Longest life of a job, from when a worker first has it.
            max_job_bytes: Largest job.
            turns: Say when a job may be run.
            after_loss: Whether this worker lost the broker just before.
        """
        self._means = means
        self._journal = journal
        self._chat_locks = chat_locks
        self._held = held
        self._turns = turns
        self._forgives_until = monotonic() + (_FORGIVES_S if after_loss else 0)
        self._quarantine = Quarantine()
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._names = names
        self._lifetime = lifetime
        self._max_job_bytes = max_job_bytes
        self._runs: set[JobRun] = set()
        self._shutting_down = False
        self._reading = asyncio.Lock()

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
        await self._guarded(self._carry(delivery), delivery)

    async def _carry(self, delivery: Delivery) -> None:
        match await self._admit(delivery):
            case Unnamed():
                log.info("job.got_an_id")
                await delivery.requeue(state_unnamed(delivery.facts))
            case Rejected() as rejected:
                with self._told_of(rejected, delivery, self._names.jobs) as span:
                    await self._reject(rejected, delivery, span)
            case Ticket() as ticket:
                with (
                    self._told_of(ticket, delivery, self._names.jobs) as span,
                    self._held.holding(ticket, span) as job,
                ):
                    try:
                        await self._carry_if_possible(job, delivery)
                    except HistoryUnknown as error:
                        log.warning("job.history_unknown", reason=str(error))
                        await delivery.requeue(state_unrun(job.ticket), _pause(job.ticket))

    @contextmanager
    def _told_of(self, job: Ticket | Rejected, delivery: Delivery, queue: str) -> Iterator[Span]:
        """Open a span for the body, and bind the job's ids to its log lines."""
        chat_id = job.chat_id
        flow = job.job.chatflow_id if isinstance(job, Ticket) else ""
        trace = delivery.facts.trace
        with self._means.tracer.job(queue, job.job_id, chat_id or "", flow, trace) as span:
            traced = {"trace_id": it} if (it := trace_id(span.context)) else {}
            with bound_contextvars(job_id=job.job_id, chat_id=chat_id, **traced):
                try:
                    yield span
                finally:
                    unbind_contextvars("attempt")

    async def _reject(self, rejected: Rejected, delivery: Delivery, span: Span) -> None:
        await reject(rejected, delivery, self._means.publisher, span)
        self._means.meter.job_left("rejected", rejected.kind, timedelta())
        span.end(rejected.kind)

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
            # Before all that takes time: who has to wait is not here when a suspect ends us.
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
            known = await self._known(ticket.job_id, ticket.facts)
            if known.status is not None:
                await self._repeat_end(ticket.job_id, known, delivery, job.span)
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
        await delivery.requeue(state_unrun(job.ticket), delay)

    async def _call_off(self, job: HeldJob, delivery: Delivery) -> None:
        """End a cancelled job that waits: its chat may be another job's for long."""
        if await self._is_open(job, delivery):
            run = JobRun(job.ticket, self._means, job.span)
            await settle(run.progress, Cancelled(), delivery)
            self._remember(job.ticket.job_id)
            self._measure(Cancelled(), run.progress)

    async def end_dead_lettered(self, delivery: Delivery) -> None:
        """End a job that the broker gave up, if nobody has, and park it.

        Raises:
            ConnectionError: The broker is gone; the delivery is not settled.
        """
        try:
            await self._end_if_known(delivery)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            _note(error)
            await self._guarded(self._end_faulty(delivery), delivery)

    async def _guarded(self, work: Coroutine[None, None, None], delivery: Delivery) -> None:
        """Reject a message whose handling fails, so that the session goes on."""
        try:
            await work
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            _note(error)
            await delivery.reject()

    async def _end_faulty(self, delivery: Delivery) -> None:
        rejected = faulty(delivery.body, delivery.facts)
        with self._told_of(rejected, delivery, self._names.jobs_reaped) as span:
            await self._reject(rejected, delivery, span)

    async def _end_if_known(self, delivery: Delivery) -> None:
        try:
            await self._end_dead_lettered(delivery)
        except HistoryUnknown as error:
            log.warning("job.history_unknown", reason=str(error))
            await delivery.requeue_unchanged()

    async def _end_dead_lettered(self, delivery: Delivery) -> None:
        kind, message = _GIVEN_UP.get(delivery.facts.given_up_for or "", _GIVEN_UP_OFTEN)
        match await self._admit(delivery):
            case Unnamed():
                await delivery.dead_letter(kind, message, attempts=0)
            case Rejected() as rejected:
                with self._told_of(rejected, delivery, self._names.jobs_reaped) as span:
                    # Where only its beginning came, it was told of before it came here.
                    known = await self._known(rejected.job_id, delivery.facts)
                    if known.status is None:
                        await self._reject(rejected, delivery, span)
                    else:
                        await self._repeat_end(rejected.job_id, known, delivery, span)
            case Ticket() as ticket:
                with self._told_of(ticket, delivery, self._names.jobs_reaped) as span:
                    known = await self._known(ticket.job_id, ticket.facts)
                    if known.status is None:
                        run = JobRun(ticket.knowing(known), self._means, span)
                        failed = Failed(kind, message)
                        await settle(run.progress, failed, delivery)
                        self._measure(failed, run.progress)
                    else:
                        await self._repeat_end(ticket.job_id, known, delivery, span)

    async def _admit(self, delivery: Delivery) -> Admission:
        facts, body = delivery.facts, delivery.body
        if monotonic() < self._forgives_until:
            facts = replace(facts, failures_before=0)
        now, encoding = datetime.now(UTC), facts.content_encoding
        read = partial(admit, body, facts, self._names, now, self._lifetime, self._max_job_bytes)
        if len(body) <= _READ_AT_ONCE_BYTES and not is_packed(body, encoding):
            return read()
        # One at a time: with more of them the event loop waits long for its turn.
        async with self._reading:
            return await asyncio.to_thread(read)

    async def _known(self, job_id: str, facts: MessageFacts) -> History:
        return await self._journal.look_up(job_id, facts.submitted_at)

    async def _repeat_end(
        self, job_id: str, known: History, delivery: Delivery, span: Span
    ) -> None:
        end = await self._journal.end_of(job_id)
        await repeat_end(known, end, delivery, self._means.publisher, span)

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
            self._measure(outcome, run.progress)
        finally:
            self._runs.discard(run)

    def _measure(self, outcome: Outcome, progress: Progress) -> None:
        meter, first = self._means.meter, progress.attempt.first_output_after
        word, kind = in_words(outcome)
        progress.span.end(kind)
        meter.job_left(word, kind, progress.duration)
        if first is not None:
            meter.first_output(first)
        if progress.confirm_took is not None:
            meter.confirmed(progress.confirm_took)

    async def _outcome(self, run: JobRun) -> Outcome | Waits:
        """Run the job; a fault of our own fails it alone."""
        try:
            return await run.run()
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            _note(error)
            return Failed(FailureKind.INTERNAL, "a fault in the worker; its log says where")

    def _remember(self, job_id: str) -> None:
        self._ended[job_id] = None
        if len(self._ended) > _ENDS_REMEMBERED:
            self._ended.popitem(last=False)


def _pause(ticket: Ticket) -> timedelta:
    """Return how long a job waits outside before it asks again."""
    waits = ticket.facts.carried_waits
    # Suspects wait for each other, a few at most; a lost broker makes suspects of all jobs.
    if ticket.crashes or waits < _OFTEN:
        return RETRY_DELAYS[0]
    # The jobs of a line must not come all at once, and then none for long.
    comes_soon = (waits + crc32(ticket.job_id.encode())) % _OFTEN == 0
    return RETRY_DELAYS[0] if comes_soon else RETRY_DELAYS[1]


def _note(error: Exception) -> None:
    """Log a fault of our own without its text, which might hold what a job or an answer says."""
    frames = extract_tb(error.__traceback__)[-5:]
    where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    log.error("job.fault", error=type(error).__name__, where=where)
