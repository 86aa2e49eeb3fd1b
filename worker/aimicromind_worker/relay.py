"""Carry one job from the queue to its chat, and settle it: the only place that decides its fate.

A job is acknowledged only after its `end` is confirmed by the broker.
"""

from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from traceback import extract_tb
from typing import Protocol

import structlog
from structlog.contextvars import bound_contextvars

from aimicromind_schemas import EndStatus, FailureKind, Names
from aimicromind_worker.core.admission import (
    ATTEMPT_HEADER,
    CALLS_HEADER,
    DEADLINE_HEADER,
    GIVEN_UP_HEADER,
    SIDE_EFFECT_HEADER,
    Admission,
    MessageFacts,
    Rejected,
    Ticket,
    Unnamed,
    admit,
)
from aimicromind_worker.core.exchange import Address
from aimicromind_worker.core.history import History
from aimicromind_worker.core.numbering import Numbering
from aimicromind_worker.core.worker_events import Tally, end_event, error_event, retry_event
from aimicromind_worker.job_run import Completed, Failed, JobRun, Means, Outcome, Unfinished

log = structlog.get_logger()

_GIVEN_UP_OFTEN = (
    FailureKind.DELIVERY_LIMIT,
    "the job was delivered as often as the queue allows, and no worker finished it",
)
_GIVEN_UP = {"expired": (FailureKind.EXPIRED, "the job's time ran out in the queue")}


class Delivery(Protocol):
    """One message of the jobs queue. It is settled once, by one of the coroutines."""

    @property
    def body(self) -> bytes:
        """The message body."""

    @property
    def facts(self) -> MessageFacts:
        """What the message says beside its body."""

    async def ack(self) -> None:
        """Tell the broker that the job is done with."""

    async def put_again(self, headers: Mapping[str, str | int | bool]) -> None:
        """Put the job on the queue again, with these headers."""

    async def park(self, kind: FailureKind, message: str, attempts: int) -> None:
        """Put the job among the dead ones."""

    async def refuse(self) -> None:
        """Have the broker give the job up."""


class Journal(Protocol):
    """The pool's memory of jobs."""

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Say what is known of a job that was put on the queue at that time."""


class Relay:
    """Carries jobs, any number at a time."""

    def __init__(
        self,
        means: Means,
        journal: Journal,
        names: Names,
        lifetime: timedelta,
        max_job_bytes: int,
    ) -> None:
        """Prepare to carry jobs.

        Args:
            means: What every run needs.
            journal: The pool's memory.
            names: The topology's names.
            lifetime: Longest life of a job, from when a worker first has it.
            max_job_bytes: Largest job.
        """
        self._means = means
        self._journal = journal
        self._names = names
        self._lifetime = lifetime
        self._max_job_bytes = max_job_bytes
        self._runs: set[JobRun] = set()
        self._handing_back = False

    def hand_back_all(self) -> None:
        """Interrupt the running jobs, so that other workers go on with them."""
        self._handing_back = True
        for run in self._runs:
            run.hand_back()

    async def carry(self, delivery: Delivery) -> None:
        """Run the job of one delivery to its end and settle the delivery.

        Raises:
            ConnectionError: The broker is gone; the delivery is not settled.
        """
        await self._guarded(self._carry(delivery), delivery)

    async def _carry(self, delivery: Delivery) -> None:
        match self._admit(delivery):
            case Unnamed():
                log.info("job.stamped")
                await delivery.put_again(_expiry_of(delivery.facts))
            case Rejected() as rejected:
                with bound_contextvars(job_id=rejected.job_id, chat_id=rejected.chat_id):
                    await self._reject(rejected, delivery)
            case Ticket() as ticket:
                with bound_contextvars(job_id=ticket.job_id, chat_id=ticket.chat_id):
                    known = await self._known(ticket) if ticket.came_before else History()
                    if known.status is None:
                        await self._run(ticket.knowing(known), delivery)
                    else:
                        await self._settle_again(known, delivery)

    async def bury(self, delivery: Delivery) -> None:
        """End a job that the broker gave up, if nobody has, and park it.

        Raises:
            ConnectionError: The broker is gone; the delivery is not settled.
        """
        await self._guarded(self._bury(delivery), delivery)

    async def _guarded(self, work: Coroutine[None, None, None], delivery: Delivery) -> None:
        """Let no message, whatever it is, end the session of its neighbours."""
        try:
            await work
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            _note(error)
            await delivery.refuse()

    async def _bury(self, delivery: Delivery) -> None:
        kind, message = _GIVEN_UP.get(delivery.facts.given_up_for or "", _GIVEN_UP_OFTEN)
        match self._admit(delivery):
            case Unnamed():
                await delivery.park(kind, message, attempts=0)
            case Rejected() as rejected:
                with bound_contextvars(job_id=rejected.job_id, chat_id=rejected.chat_id):
                    await self._reject(rejected, delivery)
            case Ticket() as ticket:
                with bound_contextvars(job_id=ticket.job_id, chat_id=ticket.chat_id):
                    known = await self._known(ticket)
                    if known.status is None:
                        run = JobRun(ticket.knowing(known), self._means)
                        await self._settle(run, Failed(kind, message), delivery)
                    else:
                        await self._settle_again(known, delivery)

    def _admit(self, delivery: Delivery) -> Admission:
        return admit(
            delivery.body,
            delivery.facts,
            self._names,
            datetime.now(UTC),
            self._lifetime,
            self._max_job_bytes,
        )

    async def _known(self, ticket: Ticket) -> History:
        return await self._journal.look_up(ticket.job_id, ticket.facts.submitted_at)

    async def _settle_again(self, known: History, delivery: Delivery) -> None:
        """Settle a delivery whose job has ended already; nothing is published."""
        log.info("job.ended_before", status=known.status)
        if known.kind is None:
            await delivery.ack()
        else:
            await delivery.park(known.kind, known.message, known.last_attempt)

    async def _run(self, ticket: Ticket, delivery: Delivery) -> None:
        run = JobRun(ticket, self._means)
        self._runs.add(run)
        if self._handing_back:
            run.hand_back()
        log.info("job.started", attempts_before=ticket.attempts_before)
        try:
            outcome = await self._outcome(run)
            await self._settle(run, outcome, delivery)
        finally:
            self._runs.discard(run)

    async def _outcome(self, run: JobRun) -> Outcome:
        """Run the job; a fault of our own fails it alone."""
        try:
            return await run.run()
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            _note(error)
            return Failed(FailureKind.INTERNAL, "a fault in the worker; its log says where")

    async def _settle(self, run: JobRun, outcome: Outcome, delivery: Delivery) -> None:
        match outcome:
            case Completed():
                self._end(run, EndStatus.COMPLETED)
                await run.confirmed()
                await delivery.ack()
            case Failed(kind, message, http_status):
                run.attempt.publish(error_event(kind, message, http_status))
                expired = kind == FailureKind.EXPIRED
                self._end(run, EndStatus.EXPIRED if expired else EndStatus.FAILED)
                await run.confirmed()
                await delivery.park(kind, message, run.attempt.number)
                log.warning("job.parked", kind=kind, attempt=run.attempt.number)
            case Unfinished():
                leaving = "the worker is leaving; another one goes on"
                following = run.attempt.number + 1
                run.attempt.publish(
                    retry_event(FailureKind.SHUTDOWN, leaving, following, timedelta())
                )
                await run.confirmed()
                await delivery.put_again(_state_of(run))
                log.info("job.handed_back", attempt=run.attempt.number, calls=run.calls)

    def _end(self, run: JobRun, status: EndStatus) -> None:
        tally = run.tally()
        run.attempt.publish(
            end_event(status, tally, run.attempt.answer.text, run.ticket.job.tags or {})
        )
        log.info(
            "job.ended",
            status=status,
            attempt=run.attempt.number,
            calls=tally.calls,
            events=tally.events,
            duration_s=round(tally.duration.total_seconds(), 3),
        )

    async def _reject(self, rejected: Rejected, delivery: Delivery) -> None:
        """Tell the chat, where it could be read, that its job cannot be run; then park the job."""
        if rejected.chat_id is not None:
            facts = delivery.facts
            lane = self._means.sink.lane(
                Address(
                    chat_id=rejected.chat_id,
                    chatflow_id="",
                    attempt=0,
                    correlation_id=facts.correlation_id or rejected.job_id,
                    reply_to=rejected.reply_to,
                    traceparent=facts.trace.get("traceparent"),
                )
            )
            numbering = Numbering(rejected.job_id, rejected.chat_id, "", attempt=0)
            tally = Tally(attempts=0, calls=0, events=2, duration=timedelta())
            now = datetime.now(UTC).timestamp()
            for event in (
                error_event(rejected.kind, rejected.message),
                end_event(EndStatus.REJECTED, tally, b'""', {}),
            ):
                lane.publish(numbering.stamp(event, now))
            await lane.confirmed()
        await delivery.park(rejected.kind, rejected.message, attempts=0)
        log.warning("job.rejected", kind=rejected.kind)


def _note(error: Exception) -> None:
    """Log a fault of our own without its text, which might hold what a job or an answer says."""
    frames = extract_tb(error.__traceback__)[-5:]
    where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    log.error("job.fault", error=type(error).__name__, where=where)


def _expiry_of(facts: MessageFacts) -> dict[str, str | int | bool]:
    """Say when a job expires that goes back to the queue before it was admitted."""
    return {DEADLINE_HEADER: facts.expires_at.isoformat()} if facts.expires_at else {}


def _state_of(run: JobRun) -> dict[str, str | int | bool]:
    """Say what the next worker must know of a job that leaves this one."""
    return {
        ATTEMPT_HEADER: run.attempt.number,
        CALLS_HEADER: run.calls,
        GIVEN_UP_HEADER: run.given_up,
        SIDE_EFFECT_HEADER: run.side_effect,
        DEADLINE_HEADER: run.ticket.deadline.isoformat(),
    }
