"""Publish the missing `end` of jobs that the broker dead-lettered, and keep each as a dead letter.

The broker dead-letters a job at its delivery limit or its TTL, or after a worker's `basic.reject`.
"""

import asyncio
from weakref import WeakValueDictionary

import structlog

from aimicromind_schemas import FailureKind, Names
from aimicromind_schemas.journal.history import History, HistoryUnknown
from aimicromind_worker.core.job.admission import Rejected, Unnamed, faulty
from aimicromind_worker.jobs.intake import Ended, Intake, Unpublished, note_fault
from aimicromind_worker.jobs.ports import Delivery
from aimicromind_worker.jobs.settlement import settle
from aimicromind_worker.runs.dependencies import Dependencies
from aimicromind_worker.runs.outcome import Failed
from aimicromind_worker.runs.run import JobRun

log = structlog.get_logger()

_DELIVERY_LIMIT = (
    FailureKind.DELIVERY_LIMIT,
    "the job was delivered as often as the queue allows, and no worker finished it",
)
# Before the endings are asked again for an `end` that a worker may be about to publish.
_END_FOLLOWS_S = 1.0
_REASONS = {"expired": (FailureKind.EXPIRED, "the job's time ran out in the queue")}


class DeadLettered:
    """Ends the jobs of the queue `jobs.reaped`; any number of tasks may call it."""

    def __init__(self, intake: Intake, dependencies: Dependencies, names: Names) -> None:
        self._intake = intake
        self._dependencies = dependencies
        self._names = names
        self._ending: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def end(self, delivery: Delivery) -> None:
        """Publish a job's `error` and `end`, unless it has ended, and dead-letter it.

        Raises:
            ConnectionError: The connection to the broker is lost; the delivery is not settled.
        """
        try:
            await self._end_if_known(delivery)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one job's fault must not reach its neighbours
            note_fault(error)
            await self._intake.guarded(self._end_faulty(delivery), delivery)

    async def _end_faulty(self, delivery: Delivery) -> None:
        rejected = faulty(delivery.body, delivery.facts)
        with self._intake.span_of(rejected, delivery, self._names.jobs_reaped) as span:
            await self._intake.reject(rejected, delivery, span)

    async def _end_if_known(self, delivery: Delivery) -> None:
        try:
            await self._end(delivery)
        except HistoryUnknown as error:
            log.warning("job.history_unknown", reason=str(error))
            await delivery.requeue_unchanged()

    async def _end(self, delivery: Delivery) -> None:
        kind, message = _REASONS.get(delivery.facts.dead_letter_reason or "", _DELIVERY_LIMIT)
        job = await self._intake.admit(delivery)
        if isinstance(job, Unnamed):
            await delivery.dead_letter(kind, message, attempts=0)
            return
        lock = self._ending.setdefault(job.job_id, asyncio.Lock())
        with self._intake.span_of(job, delivery, self._names.jobs_reaped) as span:
            # Of two copies, the second finds the end of the first.
            async with lock:
                known = await self._known(job.job_id, delivery)
                if isinstance(known, Ended):
                    await self._intake.repeat_end(known, delivery, span)
                elif isinstance(known, Unpublished):
                    await asyncio.sleep(_END_FOLLOWS_S)
                    await delivery.requeue_unchanged()
                elif isinstance(job, Rejected):
                    # A worker that received only the beginning of a body publishes the `end`,
                    # then rejects the delivery.
                    await self._intake.reject(job, delivery, span)
                else:
                    run = JobRun(job.knowing(known), self._dependencies, span)
                    failed = Failed(kind, message)
                    await settle(run.progress, failed, delivery)
                    self._intake.measure(failed, run.progress)

    async def _known(self, job_id: str, delivery: Delivery) -> History | Ended | Unpublished:
        """Return what is known of a job; `Unpublished` while a worker may end it."""
        known = await self._intake.known(job_id, delivery.facts)
        if known.status is None:
            return known
        end = await self._intake.end_of(job_id, known)
        if isinstance(end, Ended) or end.is_recent:
            return end
        return await self._intake.known_unended(job_id, delivery.facts)
