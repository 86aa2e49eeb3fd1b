"""Settle a job once its outcome is known: publish its last events, then settle its delivery.

Invariants:

- A delivery is settled only after the broker has answered for every event published for its job,
  the `end` or `retry` included, and for their records in the journal.
- The record of an `end` is confirmed before the `end` is published, unless the broker is silent for
  5 s. Thus no `end` was published of a job of which the journal holds no such record.
"""

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from aimicromind_schemas import EndStatus, FailureKind
from aimicromind_schemas.journal.history import History
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.admission import Rejected
from aimicromind_worker.core.job.known_end import read_end
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.milestones import Recorder, record_of_end
from aimicromind_worker.core.job.numbering import Numbering
from aimicromind_worker.core.job.worker_events import (
    Shown,
    Tally,
    end_event,
    error_event,
    retry_event,
)
from aimicromind_worker.jobs.ports import Delivery
from aimicromind_worker.runs.outcome import (
    Cancelled,
    Completed,
    Delayed,
    Failed,
    Outcome,
    Unfinished,
)
from aimicromind_worker.runs.ports import Publisher
from aimicromind_worker.runs.progress import Progress
from aimicromind_worker.telemetry.tracing import Span

log = structlog.get_logger()

_END_WAITS_S = 5.0


async def settle(job: Progress, outcome: Outcome, delivery: Delivery) -> bool:
    """Settle a delivery according to the outcome of its job.

    Returns:
        Whether the job has ended; if not, it is delivered again.

    Raises:
        ConnectionError: The connection to the broker is lost; the delivery is not settled.
    """
    match outcome:
        case Completed() | Cancelled():
            completed = isinstance(outcome, Completed)
            await _end(job, EndStatus.COMPLETED if completed else EndStatus.CANCELLED)
            await delivery.ack()
        case Failed(kind, message, http_status):
            job.attempt.publish(error_event(kind, message, http_status))
            expired = kind == FailureKind.EXPIRED
            await _end(job, EndStatus.EXPIRED if expired else EndStatus.FAILED)
            await delivery.dead_letter(kind, message, job.attempt.number)
            log.warning("job.dead_lettered", kind=kind)
        case Delayed(kind, message, delay):
            await _publish_retry_and_requeue(job, kind, message, delay, delivery)
            log.info("job.delayed", kind=kind, delay_s=delay.total_seconds())
            job.attempt.span.note("job.delayed", kind=kind, delay_s=delay.total_seconds())
        case Unfinished():
            message = "the worker shuts down: another one continues the job"
            await _publish_retry_and_requeue(
                job, FailureKind.SHUTDOWN, message, timedelta(), delivery
            )
            log.info("job.requeued", calls=job.calls)
            job.attempt.span.note("job.requeued")
    return isinstance(outcome, Completed | Failed | Cancelled)


async def repeat_end(
    known: History,
    end: bytes | None,
    delivery: Delivery,
    publisher: Publisher,
    span: Span,
    *,
    is_copy: bool,
) -> None:
    """Settle a delivery whose job has ended already, after its `end` is published again.

    A broker that is killed may keep an unconfirmed `end` in the endings and lose it in other
    queues. Consumers that have it recognise the repeat by its `message_id`.

    Args:
        known: The job's history, which has a status.
        end: The body of the `end`; None if it is not stored.
        delivery: The delivery to settle.
        publisher: The publisher of events.
        span: The job's trace span.
        is_copy: Whether the delivery is of another message than the one that was run. Then it is
            acknowledged; the dead letter of a failed job is the other message's.
    """
    log.info("job.ended_before", status=known.status)
    if end is not None:
        await _publish_again(end, delivery.facts, publisher, span)
    # An `error` without its `end` does not count: the job may have completed after it.
    ended_well = known.status in {EndStatus.COMPLETED, EndStatus.CANCELLED}
    if is_copy or ended_well or known.kind is None:
        await delivery.ack()
    else:
        message = known.message or "its `error` event says why"
        await delivery.dead_letter(known.kind, message, known.last_attempt)


async def _publish_again(end: bytes, facts: MessageFacts, publisher: Publisher, span: Span) -> None:
    found = read_end(end)
    if found is None:
        return
    events = publisher.attempt_publisher(
        Address(
            chat_id=found.chat_id,
            chatflow_id=found.chatflow_id,
            attempt=found.attempt,
            correlation_id=facts.correlation_id or found.job_id,
            reply_to=facts.reply_to,
            traceparent=span.context.get("traceparent"),
        )
    )
    events.publish(found.event(end))
    await events.confirmed()


async def reject(rejected: Rejected, delivery: Delivery, publisher: Publisher, span: Span) -> None:
    """Publish a rejected job's `error` and `end`, if a chat is known; then dead-letter it."""
    if rejected.chat_id is not None:
        facts = delivery.facts
        events = publisher.attempt_publisher(
            Address(
                chat_id=rejected.chat_id,
                chatflow_id="",
                attempt=0,
                correlation_id=facts.correlation_id or rejected.job_id,
                reply_to=rejected.reply_to,
                traceparent=span.context.get("traceparent"),
            )
        )
        numbering = Numbering(rejected.job_id, rejected.chat_id, "", attempt=0)
        tally = Tally(attempts=0, calls=0, events=2, duration=timedelta())
        now = datetime.now(UTC).timestamp()
        error = error_event(rejected.kind, rejected.message)
        if (record := Recorder().record_of(error, acted=False)) is not None:
            events.record(numbering.record(record, now))
        events.publish(numbering.stamp(error, now))
        events.record(numbering.record(record_of_end(EndStatus.REJECTED), now))
        await _confirmed_before_end(events.confirmed())
        events.publish(numbering.stamp(end_event(EndStatus.REJECTED, tally, Shown(), {}), now))
        await events.confirmed()
    await delivery.dead_letter(rejected.kind, rejected.message, 0, rejected.job_id)
    log.warning("job.rejected", kind=rejected.kind)


async def _publish_retry_and_requeue(
    job: Progress, kind: FailureKind, message: str, delay: timedelta, delivery: Delivery
) -> None:
    """Publish a `retry` as the attempt's last event, then requeue the job with its state."""
    job.attempt.publish(retry_event(kind, message, job.attempt.number + 1, delay))
    await job.confirmed()
    await delivery.requeue(job.state(), delay)


async def _end(job: Progress, status: EndStatus) -> None:
    handle = job.attempt.locate()
    job.attempt.record_end(status)
    await _confirmed_before_end(job.confirmed())
    tally, answer = job.tally(), job.attempt.answer
    waits_for_human = answer.waits_for_human and status is EndStatus.COMPLETED
    shown = Shown(answer.text, job.usage_of_job, waits_for_human, answer.whole, handle)
    job.attempt.publish(end_event(status, tally, shown, job.ticket.job.tags or {}))
    await job.confirmed()
    log.info(
        "job.ended",
        status=status,
        calls=tally.calls,
        events=tally.events,
        duration_s=round(tally.duration.total_seconds(), 3),
    )


async def _confirmed_before_end(confirmed: Coroutine[Any, Any, None]) -> None:
    """Wait for the confirms of all that came before, 5 s at most, before an `end` is published.

    A broker that is killed may lose unconfirmed events, and nobody publishes events again after an
    `end`. The journal must have the record of the `end` by then.
    The wait is bounded: RabbitMQ 3.10 may confirm nothing on a channel for long, where a stream's
    leader node dies.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_END_WAITS_S):
            await confirmed
